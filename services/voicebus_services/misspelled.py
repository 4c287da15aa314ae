"""Variables that nothing reads though their names are nearly those of settings: what was meant, then, is not set."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from voicebus_services.settings import ENV_PREFIX, ServiceSettings

_NEARLY: Final = 0.9
"""From here on names are so alike that one is a slip for the other; others may be somebody's own variables."""


def variables_of(command: Any, kinds: Sequence[type[ServiceSettings]]) -> frozenset[str]:
    """All that is read: by the options of `command` and of those below it, and by the settings of `kinds`."""
    fields = {f"{ENV_PREFIX}{name.upper()}" for kind in kinds for name in kind.model_fields}
    return frozenset({*fields, *(f"{name}_FILE" for name in fields), *_options(command)})


def misspelled(variables: Iterable[str], known: frozenset[str]) -> Mapping[str, str]:
    """Which of `variables` are none of `known`, and what each was probably meant to be."""
    unknown = sorted(name for name in variables if name.startswith(ENV_PREFIX) and name not in known)
    near = {name: get_close_matches(name, known, n=1, cutoff=_NEARLY) for name in unknown}
    return {name: meant[0] for name, meant in near.items() if meant}


def _options(command: Any) -> Iterable[str]:
    for option in command.params:
        named = option.envvar or ()
        yield from (named,) if isinstance(named, str) else named
    for inner in getattr(command, "commands", {}).values():
        yield from _options(inner)
