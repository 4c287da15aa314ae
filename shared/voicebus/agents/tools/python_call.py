"""`PythonCall`: what a tool made from a function does when it is invoked."""

import functools
import inspect
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from voicebus.agents.context import ToolContext
from voicebus.agents.functions import call_function, is_async_callable
from voicebus.agents.tools.results import BackgroundResult, by_types
from voicebus.agents.tools.schema import FunctionSchema
from voicebus.errors import ModelBehaviorError, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicebus.agents.tools.function_tool import FailureText


@dataclass(frozen=True)
class PythonCall:
    """The `on_invoke_tool` of a tool made from `function`: checks the model's arguments and calls it with them.

    `invoke` uses its parts. Called itself, as tests of a tool may do, it gives what the function returned; where
    something fails, what `failure_error_function` makes of that, and without one the error.
    """

    function: "Callable[..., Any]"
    schema: FunctionSchema
    output: TypeAdapter[Any] | None = None
    failure_error_function: "FailureText | None" = None

    @functools.cached_property
    def is_typed(self) -> bool:
        """Whether the function says what it returns."""
        try:
            returns = inspect.signature(self.function).return_annotation
        except (TypeError, ValueError):
            return False
        return returns not in (inspect.Signature.empty, Any, "Any", "typing.Any")

    @property
    def is_async(self) -> bool:
        """Whether the function runs on the event loop; otherwise in a thread."""
        return is_async_callable(self.function)

    async def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        try:
            positional, named = self.bind(context, arguments)
            returned = await self._call(self.function, positional, named)
            self.plain(returned.content if isinstance(returned, BackgroundResult) else returned)
        except Exception as error:  # a tool may raise anything; its author has said what the model is told
            if self.failure_error_function is None:
                raise
            return await self._call(self.failure_error_function, [context, error], {})
        return returned

    def bind(self, context: ToolContext[Any], arguments: str) -> tuple[list[Any], dict[str, Any]]:
        """The model's JSON text as positional and keyword arguments.

        Raises:
            ModelBehaviorError: it does not fit; the text names the fields.
        """
        return self.schema.bind(self._validated(arguments), context)

    def check(self, arguments: str) -> None:
        """Whether the function could be called with the model's JSON text.

        Raises:
            ModelBehaviorError: it does not fit.
        """
        self.schema.bind(self._validated(arguments), None)

    def received(self, arguments: str) -> dict[str, Any] | None:
        """The model's JSON text as the function gets it, as JSON values; None where it does not fit."""
        try:
            validated = self._validated(arguments)
        except ModelBehaviorError:
            return None
        return validated.model_dump(mode="json", by_alias=True, warnings=False, fallback=str)

    def _validated(self, arguments: str) -> BaseModel:
        try:
            return self.schema.arguments.model_validate(parse_arguments(arguments))
        except ValidationError as error:
            raise ModelBehaviorError(_fields(error)) from None

    def plain(self, value: Any) -> Any:
        """What the function returned, as JSON values where its `output_type` or its annotation says what it is.

        Raises:
            ToolError: it is something else.
        """
        if self.output is None:
            return by_types(value) if self.is_typed else value
        try:
            return self.output.dump_python(self.output.validate_python(value), mode="json")
        except ValidationError as error:
            raise ToolError(f"the tool's result does not fit its output_type: {_fields(error)}") from None

    @staticmethod
    async def _call(function: Any, positional: list[Any], named: dict[str, Any]) -> Any:
        is_async = is_async_callable(function)
        return await call_function(function, positional, named, is_async=is_async, executor=None, what="tool")


def parse_arguments(arguments: str) -> dict[str, Any]:
    """The model's JSON text as an object; no text at all is an empty one.

    Raises:
        ModelBehaviorError: it is no JSON object.
    """
    try:
        parsed = _decode(arguments) if arguments.strip() else {}
    except RecursionError:
        raise ModelBehaviorError("the arguments are nested too deeply") from None
    except ValueError as error:
        raise ModelBehaviorError(str(error)) from None
    if not isinstance(parsed, dict):
        raise ModelBehaviorError(f"the arguments must be a JSON object, not {type(parsed).__name__}")
    return parsed


def _no_number(constant: str) -> float:
    # Python reads them, JSON has none of them, and few functions expect them.
    raise ValueError(f"{constant} is no JSON number")


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is beyond the numbers that can be computed with")
    return number


_decode: Final = json.JSONDecoder(parse_constant=_no_number, parse_float=_number).decode


def _fields(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in report['loc']) or 'value'}: {report['msg']}"
        for report in error.errors(include_url=False, include_input=False, include_context=False)
    )
