"""A session's context across processes: what travels, what comes back, and whose change counts."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from voicebus import RunContextWrapper, UserError
from voicebus.agents.context_model import ContextModel
from voicebus.agents.shared_context import CallContext, SharedContext
from voicebus.contracts.tools import MAX_CONTEXT_BYTES


class Address(BaseModel):
    city: str = "Rome"


class Guest(BaseModel):
    name: str
    nights: int = 1
    arrives: date | None = None
    address: Address = Field(default_factory=Address)
    tags: list[str] = Field(default_factory=list)
    token: SecretStr | None = None


@dataclass
class Caller:
    name: str
    notes: list[str] = field(default_factory=list)
    token: SecretStr | None = None


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    nights: int = 1


def shared(context: Any, declared: Any = None) -> tuple[SharedContext, RunContextWrapper[Any]]:
    wrapper = RunContextWrapper(context)
    return SharedContext(wrapper, declared), wrapper


def sent(context: SharedContext) -> Any:
    fields, refused = context.outgoing()
    assert refused == []
    return fields


# --- what travels ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [Guest(name="Ann", arrives=date(2026, 1, 2)), {"name": "Ann", "arrives": "2026-01-02"}]
)
def test_a_declared_context_is_an_object_of_its_model_and_travels_as_json(given: Any) -> None:
    context, wrapper = shared(given, Guest)
    assert wrapper.context == Guest(name="Ann", arrives=date(2026, 1, 2))
    assert sent(context) == {
        "name": "Ann", "nights": 1, "arrives": "2026-01-02", "address": {"city": "Rome"}, "tags": [],
    }  # fmt: skip


@pytest.mark.parametrize(("context", "fields"), [({"a": [1]}, {"a": [1]}), (None, {}), (["a"], None), ("text", None)])
def test_a_context_that_nobody_declared_travels_where_it_is_an_object(context: Any, fields: Any) -> None:
    assert sent(shared(context)[0]) == fields


def test_secrets_stay_where_they_are() -> None:
    guest = Guest(name="Ann", token=SecretStr("s3cret"))
    context, wrapper = shared(guest, Guest)
    assert "token" not in sent(context)
    assert wrapper.context is guest
    assert context.merge({"token": {"after": "stolen"}}, tool="t") == [
        ("context_conflict", "Tool t changed 'token' in the context, which is a secret and stays in its process.")
    ]
    assert guest.token == SecretStr("s3cret")
    assert "token" not in sent(shared(Caller("Ann", token=SecretStr("x")), Caller)[0])
    assert sent(shared({"name": "Ann", "token": SecretStr("x")})[0]) == {"name": "Ann"}


class Needs(BaseModel):
    token: SecretStr


class Hides(BaseModel):
    inner: list[Needs] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (Needs, "context model Needs: token is a secret, which never travels to a worker; give it a default"),
        (
            Hides,
            "context model Hides: inner holds a secret inside, and secrets never travel to a worker; make",
        ),
        (dict, "context_model must be a pydantic model or a dataclass, not <class 'dict'>"),
        (Guest(name="x"), "context_model must be a pydantic model or a dataclass, not Guest"),
    ],
)
def test_a_model_that_cannot_travel_is_refused(declared: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        ContextModel(declared)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "the context is no Guest: name: Field required"),
        ({"name": "Ann", "nights": "many"}, "the context is no Guest: nights: Input should be a valid integer"),
        ({"name": "x" * MAX_CONTEXT_BYTES}, f"more than the {MAX_CONTEXT_BYTES} that travel with every call"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        shared(given, Guest)


def test_a_context_that_has_become_too_large_goes_as_it_was_and_that_is_told_once() -> None:
    context, wrapper = shared({"a": 1})
    wrapper.context["b"] = "x" * MAX_CONTEXT_BYTES
    fields, ((code, message),) = context.outgoing()
    assert (fields, code) == ({"a": 1}, "context_too_large")
    assert message.endswith("tools get it as it was before.")
    assert context.outgoing() == ({"a": 1}, [])
    wrapper.context["b"] = 2
    assert sent(context) == {"a": 1, "b": 2}


def test_what_has_no_json_stays_in_its_process() -> None:
    assert sent(shared({"a": 1, "lock": object()})[0]) == {"a": 1}


def test_text_that_no_utf8_can_carry_has_no_json() -> None:
    context, _ = shared({"half": "\ud800", "inside": ["\ud800"], "n": 1})
    assert sent(context) == {"n": 1}
    with pytest.raises(UserError, match="the context, a Guest, has no JSON"):
        shared(Guest(name="\ud800"), Guest)


def test_it_is_saved_when_it_has_changed() -> None:
    context, wrapper = shared({"a": 1})
    assert context.unsaved() == '{"a":1}'
    assert context.unsaved() is None
    wrapper.context["a"] = 2
    assert context.unsaved() == '{"a":2}'
    assert shared(None)[0].unsaved() is None


def test_in_one_process_a_context_may_be_anything() -> None:
    wrapper = RunContextWrapper({"big": "x" * 100_000, "lock": object()})
    assert SharedContext(wrapper, travels=False).unsaved() is None


# --- what comes back ------------------------------------------------------------------------------


def test_a_tool_finds_what_it_says_that_the_context_is_and_brings_its_changes() -> None:
    context, wrapper = shared({"name": "Ann", "nights": 2}, Guest)
    call = CallContext(sent(context), Guest, None)
    assert call.value == Guest(name="Ann", nights=2)
    assert call.value is not wrapper.context
    call.value.nights = 3
    call.value.address.city = "Oslo"
    assert call.changes()[0] == {
        "nights": {"before": 2, "after": 3},
        "address": {"before": {"city": "Rome"}, "after": {"city": "Oslo"}},
    }
    before = wrapper.context
    assert context.merge(call.changes()[0], tool="t") == []
    assert wrapper.context is before, "whoever holds it sees the changes"
    assert (before.nights, before.address) == (3, Address(city="Oslo"))


def test_a_tool_may_know_less_of_the_context_than_there_is() -> None:
    @dataclass
    class Nights:
        nights: int

    context, wrapper = shared({"name": "Ann", "nights": 2, "tags": ["a"]}, Guest)
    call = CallContext(sent(context), Nights, None)
    call.value.nights += 1
    assert context.merge(call.changes()[0], tool="t") == []
    assert (wrapper.context.nights, wrapper.context.tags) == (3, ["a"])


def test_without_a_model_the_context_is_a_dict_whose_fields_come_and_go() -> None:
    context, wrapper = shared({"a": 1, "b": 2})
    call = CallContext(sent(context), None, None)
    del call.value["a"]
    call.value["c"] = 3
    assert call.changes()[0] == {"a": {"before": 1}, "c": {"after": 3}}
    assert context.merge(call.changes()[0], tool="t") == []
    assert wrapper.context == {"b": 2, "c": 3}


def test_a_tool_may_begin_a_context_where_there_was_none() -> None:
    context, wrapper = shared(None)
    call = CallContext(sent(context), None, None)
    call.value["seen"] = True
    assert context.merge(call.changes()[0], tool="t") == []
    assert wrapper.context == {"seen": True}


def test_a_workers_own_context_is_its_own() -> None:
    own = {"pool": 1}
    call = CallContext({"a": 1}, None, own)
    call.value["pool"] = 2
    assert call.value is own
    assert call.changes()[0] == {}


def test_what_has_no_json_is_lost_alone_and_takes_no_field_of_the_session_away() -> None:
    context, wrapper = shared({"a": 1, "b": 2})
    call = CallContext(sent(context), None, None)
    call.value.update(a=object(), b=3, c=object())
    changes, lost = call.changes()
    assert lost == "what it put into the context as 'a', 'c' has no JSON, and is lost"
    assert context.merge(changes, tool="t") == []
    assert wrapper.context == {"a": 1, "b": 3}


def test_changes_of_a_declared_context_that_has_no_json_any_more_are_lost() -> None:
    call = CallContext({"name": "Ann", "nights": 2}, Guest, None)
    call.value.nights, call.value.tags = 3, [object()]
    changes, lost = call.changes()
    assert changes == {}
    assert lost.startswith("its changes to the context are lost: the context, a Guest, has no JSON")


def test_a_context_that_does_not_fit_a_tool_is_refused() -> None:
    with pytest.raises(UserError, match="the context is no Guest: name: Field required"):
        CallContext({}, Guest, None)


@pytest.mark.parametrize("declared", [Guest, None])
def test_what_was_changed_meanwhile_stays_and_the_conflict_is_told(declared: Any) -> None:
    context, wrapper = shared({"name": "Ann", "nights": 1, "tags": []}, declared)
    first, second = (CallContext(sent(context), declared, None) for _ in range(2))
    for call, nights in ((first, 2), (second, 3)):
        if declared is None:
            call.value.update(nights=nights, tags=["a"])
        else:
            call.value.nights, call.value.tags = nights, ["a"]
    assert context.merge(first.changes()[0], tool="first") == []
    ((code, message),) = context.merge(second.changes()[0], tool="second")
    assert code == "context_conflict", "both made the same of `tags`, which is no conflict"
    assert message == "Tool second changed 'nights' in the context, which was changed meanwhile: that change stays."
    assert (context.outgoing()[0] or {})["nights"] == 2
    assert wrapper.context is not None


def test_changes_of_other_fields_are_no_conflict() -> None:
    context, wrapper = shared({"a": 1, "b": 1})
    first, second = (CallContext(sent(context), None, None) for _ in range(2))
    first.value["a"], second.value["b"] = 2, 2
    assert context.merge(first.changes()[0], tool="t") == context.merge(second.changes()[0], tool="t") == []
    assert wrapper.context == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"nights": {"before": 1, "after": "many"}}, "context_conflict", "nights: Input should be a valid integer"),
        ({"name": {"before": "Ann", "after": "x" * MAX_CONTEXT_BYTES}}, "context_too_large", "bytes of JSON"),
        ({"age": {"after": 3}}, "context_conflict", "'age' in the context, which has no such field"),
    ],
)
def test_changes_that_do_not_fit_change_nothing(changes: Any, code: str, sentence: str) -> None:
    context, wrapper = shared({"name": "Ann"}, Guest)
    ((found, message),) = context.merge(changes, tool="t")
    assert (found, wrapper.context) == (code, Guest(name="Ann"))
    assert sentence in message


def test_a_context_that_has_no_fields_takes_no_changes() -> None:
    context, _ = shared(["a"])
    ((code, message),) = context.merge({"a": {"after": 1}}, tool="t")
    assert code == "context_conflict"
    assert "the session's context is a list, which has no fields" in message


def test_a_frozen_context_is_changed_by_its_tools_all_the_same() -> None:
    context, wrapper = shared({}, Frozen)
    assert context.merge({"nights": {"before": 1, "after": 2}}, tool="t") == []
    assert wrapper.context.nights == 2
