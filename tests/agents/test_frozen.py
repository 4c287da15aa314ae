"""Frozen dataclasses that are made quickly are in all else what the standard library makes."""

import copy
import dataclasses
import inspect
import pickle
from typing import Literal

import pytest

from voicebus.agents.frozen import quickly_frozen


@quickly_frozen
class Quick:
    """Said."""

    item: str
    place: int = 3
    type: Literal["quick"] = "quick"


@dataclasses.dataclass(frozen=True)
class Slow:
    """Said."""

    item: str
    place: int = 3
    type: Literal["quick"] = "quick"


def test_it_is_made_with_the_same_arguments_as_any_other() -> None:
    assert inspect.signature(Quick) == inspect.signature(Slow)
    assert vars(Quick("a", type="quick")) == vars(Slow("a", type="quick")) == {"item": "a", "place": 3, "type": "quick"}
    with pytest.raises(TypeError, match="item"):
        Quick()  # type: ignore[call-arg]


def test_it_cannot_be_changed() -> None:
    quick = Quick("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        quick.item = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del quick.place
    assert quick.item == "a"


def test_it_is_compared_hashed_shown_copied_and_pickled_as_any_other() -> None:
    quick = Quick("a", 4)
    assert quick == Quick("a", 4) != Quick("a", 5)
    assert hash(quick) == hash(Quick("a", 4))
    assert repr(quick) == "Quick(item='a', place=4, type='quick')"
    assert dataclasses.replace(quick, place=5) == Quick("a", 5)
    assert dataclasses.asdict(quick) == {"item": "a", "place": 4, "type": "quick"}
    assert copy.copy(quick) == copy.deepcopy(quick) == pickle.loads(pickle.dumps(quick)) == quick
