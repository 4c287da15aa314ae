"""A session's context across processes: what goes with a call, and how the changes of a tool come back.

Rules:

1. The session's owner has the context; with each call goes what it is then, as JSON. What a tool changes in it comes
   back with the result of a call that ended well, field by field of the top level, each with the value that the tool
   was given.
2. A change is made where the field still has the value that the tool was given, or has got the same value meanwhile.
   Else somebody else has changed it: that change stays, and the session reports the conflict (`context_conflict`).
3. Changes are made together, before the model hears of the result, and stand in the session's state in Redis from then
   on. What would not fit the declared model, or makes the context too large, changes nothing.
4. What has no JSON cannot come back from another process: the session reports what was lost (`context_not_json`).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from voicebus.agents.context import RunContextWrapper
from voicebus.agents.context_model import ContextModel, is_declared, model_of, plain_fields
from voicebus.contracts.tools import MAX_CONTEXT_BYTES, ContextChange
from voicebus.errors import UserError

_ABSENT: Final = object()
_SHOWN: Final = 200
"""Characters of a field's name that a message has."""

Refused = list[tuple[str, str]]
"""What was refused: codes of errors, and a sentence each."""


class SharedContext:
    """The context of one session in its owner's process. `declared` is its model, None where nobody says.

    `travels`: tools run elsewhere. Where all of them run in this process they share the object, whatever it is.

    Raises:
        UserError: the context does not fit its model, or is too large to travel.
    """

    def __init__(self, wrapper: RunContextWrapper[Any], declared: Any = None, *, travels: bool = True) -> None:
        self._wrapper = wrapper
        self._travels = travels
        self._model: ContextModel | None = None if declared is None else model_of(declared)
        if self._model is not None:
            wrapper.context = self._model.read(wrapper.context)
        self._sent: dict[str, Any] | None = None
        self._saved: str | None = None
        self._told = ""
        if not travels:
            return
        self._sent = self._fields()
        size = _size(self._sent)
        if size > MAX_CONTEXT_BYTES:
            raise UserError(
                f"the context has {size} bytes of JSON, more than the {MAX_CONTEXT_BYTES} that travel with every call; "
                "keep large data elsewhere and put its key into the context"
            )

    def outgoing(self) -> tuple[dict[str, Any] | None, Refused]:
        """What goes with a call, None where the context is no object; and what is wrong with it, told once.

        A context that has become too large, or has no JSON any more, goes as it last was.
        """
        try:
            fields = self._fields()
            size = _size(fields)
            if size <= MAX_CONTEXT_BYTES:
                self._sent, self._told = fields, ""
                return fields, []
            why = f"the context has {size} bytes of JSON, more than the {MAX_CONTEXT_BYTES} that travel with a call"
            refused = [("context_too_large", f"{why}; tools get it as it was before.")]
        except UserError as error:
            refused = [("context_not_json", f"{error}; tools get the context as it was before.")]
        told, self._told = self._told, refused[0][0]
        return self._sent, [] if told == self._told else refused

    def unsaved(self) -> str | None:
        """The context as JSON text, where it is another than when this was last asked, and not empty from the start."""
        fields = self.outgoing()[0] if self._travels else None
        if not fields and self._saved is None:
            return None
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        if text == self._saved:
            return None
        self._saved = text
        return text

    def merge(self, changes: Mapping[str, ContextChange], *, tool: str) -> Refused:
        """Make a tool's changes; what of them was refused."""
        try:
            fields = self._fields()
        except UserError as error:
            return [("context_conflict", f"The changes of tool {tool} to the context were not made: {error}.")]
        if fields is None:
            kind = type(self._wrapper.context).__name__
            why = f"the session's context is a {kind}, which has no fields"
            return [("context_conflict", f"The changes of tool {tool} to the context were not made: {why}.")]
        refused: Refused = []
        made: dict[str, Any] = {}
        for name, change in changes.items():
            now, after = fields.get(name, _ABSENT), change.get("after", _ABSENT)
            if self._model is not None and name not in self._model.fields:
                why = "is a secret and stays in its process" if name in self._model.secrets else "has no such field"
                refused.append(_conflict(tool, name, why))
            elif now == change.get("before", _ABSENT):
                made[name] = after
            elif now != after:
                refused.append(_conflict(tool, name, "was changed meanwhile: that change stays"))
        if made:
            refused += self._make(fields, made, tool)
        return refused

    def _make(self, fields: Mapping[str, Any], made: Mapping[str, Any], tool: str) -> Refused:
        merged = {name: value for name, value in {**fields, **made}.items() if value is not _ABSENT}
        size = _size(merged)
        if size > MAX_CONTEXT_BYTES and self._travels:
            why = f"the context would have {size} bytes of JSON, more than {MAX_CONTEXT_BYTES}"
            return [("context_too_large", f"The changes of tool {tool} were not made: {why}.")]
        model = self._model
        if model is None and is_declared(type(self._wrapper.context)):
            model = model_of(type(self._wrapper.context))
        if model is None:
            self._wrapper.context = context = self._wrapper.context if self._wrapper.context is not None else {}
            for name, value in made.items():
                if value is _ABSENT:
                    context.pop(name, None)
                else:
                    context[name] = value
            return []
        try:
            fresh = model.read(merged)
        except UserError as error:
            return [("context_conflict", f"The changes of tool {tool} to the context were not made: {error}.")]
        # In place, so that whoever holds the context sees them.
        for name in made:
            object.__setattr__(self._wrapper.context, name, getattr(fresh, name))
        return []

    def _fields(self) -> dict[str, Any] | None:
        context = self._wrapper.context
        if self._model is not None:
            return self._model.write(context)
        if context is None:
            return {}
        if isinstance(context, dict):
            return plain_fields(context)[0]
        return model_of(type(context)).write(context) if is_declared(type(context)) else None


class CallContext:
    """The context of one call on a worker: `value` is what the tool finds, `given` what the call brought.

    `declared` is what the tool, or the program, says that it is; `own` is the worker's, for tools that say nothing.

    Raises:
        UserError: what the call brought does not fit.
    """

    def __init__(self, given: Mapping[str, Any], declared: Any, own: Any) -> None:
        self._given: Mapping[str, Any] | None = given
        self._model = model_of(declared) if is_declared(declared) else None
        if self._model is not None:
            self.value: Any = self._model.read(dict(given))
        elif own is not None:
            self._given, self.value = None, own
        else:
            self.value = json.loads(json.dumps(given)) if given else {}
        # What came as JSON and has no model is what it would be sent as.
        self._before = given if self._given is not None and self._model is None else self._fields()[0]

    def changes(self) -> tuple[dict[str, ContextChange], str]:
        """What the tool has changed; and which of it is lost, as it has no JSON: a sentence, or nothing."""
        if self._given is None or not (self._before or self.value):
            return {}, ""
        try:
            after, without = self._fields()
        except UserError as error:
            return {}, f"its changes to the context are lost: {error}"
        found = dict[str, ContextChange]()
        for name in {**self._before, **after}:
            if name in without or self._before.get(name, _ABSENT) == after.get(name, _ABSENT):
                continue
            change: ContextChange = {}
            if name in self._given:
                change["before"] = self._given[name]
            if name in after:
                change["after"] = after[name]
            found[name] = change
        named = ", ".join(repr(name[:_SHOWN]) for name in without)
        return found, f"what it put into the context as {named} has no JSON, and is lost" if without else ""

    def _fields(self) -> tuple[dict[str, Any], list[str]]:
        if self._given is None:
            return {}, []
        if self._model is not None:
            return self._model.write(self.value), []
        return plain_fields(self.value) if isinstance(self.value, dict) else ({}, [])


def _size(fields: Mapping[str, Any] | None) -> int:
    return 0 if fields is None else len(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())


def _conflict(tool: str, name: str, why: str) -> tuple[str, str]:
    return "context_conflict", f"Tool {tool} changed {name[:_SHOWN]!r} in the context, which {why}."
