"""What a session's context is, where its author says so: a pydantic model or a dataclass, read from JSON and written
as JSON. The single home of which parts of it travel between processes.

Secrets never do: fields of type `SecretStr`, `SecretBytes` or `Secret[…]` are left out, so they need defaults for
processes that do not have them.
"""

import dataclasses
import inspect
import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import pydantic
from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, PydanticUndefined, to_json

from voicebus.engine.bounds import trim
from voicebus.errors import UserError
from voicebus.telemetry.logging import get_logger

log: Final = get_logger(__name__)

# Types that a process may have its contexts of.
_MAX_MODELS: Final = 256

_SECRETS: Final = (Secret, SecretStr, SecretBytes)


class ContextModel:
    """A declared context. `fields` travel, `secrets` do not.

    Raises:
        UserError: it is no pydantic model and no dataclass, or has a secret that cannot be left out.
    """

    def __init__(self, declared: Any) -> None:
        if not is_declared(declared):
            raise UserError(f"context_model must be a pydantic model or a dataclass, not {declared!r}")
        self.declared: type[Any] = declared
        hints, required = _fields(declared)
        self.secrets: frozenset[str] = frozenset(name for name, hint in hints.items() if _is_secret(hint))
        self.fields: frozenset[str] = frozenset(hints) - self.secrets
        for name in sorted(self.secrets & required):
            raise UserError(
                f"context model {declared.__name__}: {name} is a secret, which never travels to a worker; give it a "
                "default"
            )
        for name in sorted(self.fields):
            if _holds_secret(hints[name], set()):
                raise UserError(
                    f"context model {declared.__name__}: {name} holds a secret inside, and secrets never travel to a "
                    "worker; make the secret a field of its own"
                )
        try:
            self._adapter = TypeAdapter(declared)
        except pydantic.PydanticUserError as error:
            raise UserError(f"context model {declared.__name__} has no JSON: {error.message}") from error

    def read(self, value: Any) -> Any:
        """`value`, which is a context already, or JSON of one.

        Raises:
            UserError: it does not fit; the text names the fields.
        """
        if isinstance(value, self.declared):
            return value
        try:
            return self._adapter.validate_python({} if value is None else value, by_name=True, by_alias=True)
        except ValidationError as error:
            what = "; ".join(
                f"{'.'.join(str(part) for part in report['loc']) or 'context'}: {report['msg']}"
                for report in error.errors(include_url=False, include_input=False, include_context=False)
            )
            raise UserError(f"the context is no {self.declared.__name__}: {what}") from None

    def write(self, context: Any) -> dict[str, Any]:
        """What travels of a context, as JSON values.

        Raises:
            UserError: a part of it has no JSON.
        """
        try:
            found = self._adapter.dump_python(
                context, mode="json", by_alias=False, exclude=set(self.secrets) or None, warnings=False
            )
            to_json(found)  # which half a surrogate pair in a text does not survive
        except (PydanticSerializationError, ValueError, AttributeError) as error:
            raise UserError(f"the context, a {self.declared.__name__}, has no JSON: {error}") from error
        return dict(found)


def model_of(declared: Any) -> ContextModel:
    """The model of a declared type, made once. Raises as `ContextModel`."""
    known = _MODELS.get(declared) if is_declared(declared) else None
    if known is None:
        known = _MODELS[declared] = ContextModel(declared)
        trim(_MODELS, _MAX_MODELS)
    return known


def is_declared(declared: Any) -> bool:
    """Whether a type says what a context is."""
    if not inspect.isclass(declared):
        return False
    return issubclass(declared, BaseModel) or dataclasses.is_dataclass(declared)


def plain_fields(context: Mapping[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """What travels of a context that nobody declared: a dict's fields as JSON values, without secrets; and the names of
    those that have no JSON.
    """
    adapter: TypeAdapter[Any] = _ANY
    found: dict[str, Any] = {}
    without: list[str] = []
    for name, value in context.items():
        if isinstance(value, _SECRETS):
            continue
        try:
            field = {str(name): adapter.dump_python(value, mode="json")}
            to_json(field)  # which half a surrogate pair in a text does not survive
        except (PydanticSerializationError, ValueError, RecursionError):
            log.warning("a field of the context has no JSON and stays in its process", field=str(name)[:200])
            without.append(str(name))
        else:
            found |= field
    return found, without


_ANY: Final = TypeAdapter(Any)
_MODELS: dict[Any, ContextModel] = {}


def _fields(declared: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a context's fields, and which are required."""
    if issubclass(declared, BaseModel):
        fields = declared.model_fields
        required = frozenset(name for name, field in fields.items() if field.is_required())
        return {name: field.annotation for name, field in fields.items() if field.exclude is not True}, required
    hints = get_type_hints(declared)
    known = [field for field in dataclasses.fields(declared) if field.init]
    without = [field for field in known if field.default is dataclasses.MISSING]
    required = frozenset(
        field.name
        for field in without
        if field.default_factory is dataclasses.MISSING
        and getattr(field.default, "default", PydanticUndefined) is PydanticUndefined
    )
    return {field.name: hints.get(field.name, Any) for field in known}, required


def _is_secret(hint: Any) -> bool:
    """Whether a field is a secret itself, or may be."""
    origin = get_origin(hint)
    if origin in (Annotated, Union, types.UnionType):
        return any(_is_secret(part) for part in get_args(hint))
    plain = origin or hint
    return inspect.isclass(plain) and issubclass(plain, _SECRETS)


def _holds_secret(hint: Any, seen: set[Any]) -> bool:
    plain = get_origin(hint) or hint
    if inspect.isclass(plain) and issubclass(plain, _SECRETS):
        return True
    if is_declared(plain) and plain not in seen:
        seen.add(plain)
        try:
            hints, _ = _fields(plain)
        except (NameError, TypeError, pydantic.PydanticUserError):
            return False
        if any(_holds_secret(inner, seen) for inner in hints.values()):
            return True
    return any(_holds_secret(part, seen) for part in get_args(hint))
