"""The responses of one session: at most one active in the conversation, any number out of band beside it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from voicebus_services.model_simulator.protocol.ids import Ids
from voicebus_services.model_simulator.protocol.items import Conversation, Item, from_client
from voicebus_services.model_simulator.protocol.quirks import Quirks
from voicebus_services.model_simulator.protocol.refusal import RefusedError
from voicebus_services.model_simulator.protocol.responses import Emit, ResponseRun, ResponseSettings
from voicebus_services.model_simulator.protocol.usage import Tokens, of_context, report

JsonObject = dict[str, Any]

# Bounds what one client can make the simulator generate at a time.
_MAX_OUT_OF_BAND = 32
_FAILURE_TEXTS = {
    "rate_limit_exceeded": "Rate limit reached for gpt-realtime. Please try again in 1.2s.",
    "inference_rate_limit_exceeded": "Rate limit reached for gpt-realtime. Please try again in 1.2s.",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
    "server_error": "The server had an error while processing your request. Sorry about that!",
}
_FAILURE_TYPES = {"insufficient_quota": "insufficient_quota", "server_error": "server_error"}


@dataclass(frozen=True, slots=True)
class Think:
    """Work for the driver: ask the brain, then stream its outputs through the run."""

    run: ResponseRun


class Responder:
    """Creates, ends and accounts for responses; `on_end` is told of every end after its `response.done`."""

    def __init__(
        self,
        conversation: Conversation,
        ids: Ids,
        emit: Emit,
        think: Callable[[Think], None],
        on_end: Callable[[ResponseRun], None],
        quirks: Quirks,
    ) -> None:
        self._conversation = conversation
        self._ids = ids
        self._emit = emit
        self._think = think
        self._on_end = on_end
        self._quirks = quirks
        self._cached = Tokens()
        self._runs: dict[str, ResponseRun] = {}
        self.active: ResponseRun | None = None

    def is_active(self, response_id: str) -> bool:
        return response_id in self._runs

    def refuse_second(self) -> None:
        """Raises: RefusedError: the conversation has an active response."""
        if self.active is not None:
            raise RefusedError(
                f"Conversation already has an active response in progress: {self.active.id}. Wait until the response "
                "is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )

    def create(self, config: JsonObject, overrides: JsonObject) -> ResponseRun:
        """Start a response under the session's `config` and one `response.create`'s checked `overrides`.

        Raises:
            RefusedError: one is active already, or an item_reference names no item; nothing was started.
        """
        in_conversation = overrides.get("conversation") != "none"
        if in_conversation:
            self.refuse_second()
        elif len(self._runs) >= _MAX_OUT_OF_BAND:
            raise RefusedError("Too many responses are in progress at once.", code="invalid_value")
        given: list[JsonObject] | None = overrides.get("input")
        output = (overrides.get("audio") or {}).get("output") or {}
        spoken = config["audio"]["output"]
        settings = ResponseSettings(
            instructions=_first(overrides.get("instructions"), config["instructions"]),
            modality=_first(overrides.get("output_modalities"), config["output_modalities"])[0],
            tools=_first(overrides.get("tools"), config["tools"]),
            tool_choice=_first(overrides.get("tool_choice"), config["tool_choice"]),
            max_output_tokens=_first(overrides.get("max_output_tokens"), config["max_output_tokens"]),
            format=_first(output.get("format"), spoken["format"]),
            voice=_first(output.get("voice"), spoken["voice"]),
            metadata=overrides.get("metadata"),
            in_conversation=in_conversation,
        )
        context = list(self._conversation) if given is None else list(self._resolve(given))
        run = ResponseRun(self._ids.mint("resp"), settings, self._conversation, context, self._ids.mint, self._emit)
        self._runs[run.id] = run
        if in_conversation:
            self.active = run
        self._think(Think(run))
        return run

    def _resolve(self, given: list[JsonObject]) -> Iterable[Item]:
        for index, entry in enumerate(given):
            if entry["type"] != "item_reference":
                yield from_client(entry, self._ids.mint("item"), self._ids.mint("call"))
                continue
            item = self._conversation.get(entry["id"])
            if item is None:
                raise RefusedError(
                    f"Error creating response: the item with id '{entry['id']}' does not exist.",
                    code="invalid_value",
                    param=f"response.input[{index}].id",
                )
            yield item

    def announce(self, run: ResponseRun) -> None:
        """Send `response.created`, once."""
        if run.announced or not run.active:
            return
        run.announced = True
        self._emit("response.created", response=run.body(status_details=None, usage=None))
        if self._quirks.rate_limits == "before":
            self._rate_limits(run)

    def cancel(self, response_id: str | None, reason: str) -> None:
        """Raises: RefusedError: `response_cancel_not_active`."""
        run = self.active if response_id is None else self._runs.get(response_id)
        if run is None:
            raise RefusedError("Cancellation failed: no active response found", code="response_cancel_not_active")
        self.end(run, "cancelled", {"type": "cancelled", "reason": reason})

    def complete(self, run: ResponseRun) -> None:
        """All outputs were streamed (or the token limit cut them)."""
        if run.cut:
            self.end(run, "incomplete", {"type": "incomplete", "reason": "max_output_tokens"})
        else:
            self.end(run, "completed", None)

    def fail(self, run: ResponseRun, code: str, message: str | None = None) -> None:
        error = {
            "type": _FAILURE_TYPES.get(code, "invalid_request_error" if code not in _FAILURE_TEXTS else "tokens"),
            "code": code,
            "message": message or _FAILURE_TEXTS.get(code, f"The response failed: {code}."),
        }
        self.end(run, "failed", {"type": "failed", "error": error})

    def end(self, run: ResponseRun, status: str, details: JsonObject | None) -> None:
        """Close the run's open item and send `response.done`; nothing happens if it has ended already."""
        if not run.active:
            return
        self.announce(run)
        run.end(status)
        self._forget(run)
        given = of_context(run.context, run.settings.instructions, json.dumps(run.settings.tools))
        self._emit(
            "response.done", response=run.body(status_details=details, usage=report(given, self._cached, run.made))
        )
        if run.settings.in_conversation:
            self._cached = given
        if self._quirks.rate_limits == "after":
            self._rate_limits(run)
        self._on_end(run)

    def discard(self, run: ResponseRun) -> None:
        """Forget a run without a word: the fault `silence`."""
        if run.active:
            run.status = "discarded"
            self._forget(run)

    def _forget(self, run: ResponseRun) -> None:
        del self._runs[run.id]
        if self.active is run:
            self.active = None

    def _rate_limits(self, run: ResponseRun) -> None:
        limit = 40_000
        spent = min(limit, run.made.total + self._cached.total)
        self._emit(
            "rate_limits.updated",
            rate_limits=[
                {
                    "name": "tokens",
                    "limit": limit,
                    "remaining": limit - spent,
                    "reset_seconds": round(spent / limit * 60, 3),
                }
            ],
        )


def _first(given: Any, otherwise: Any) -> Any:
    return otherwise if given is None else given
