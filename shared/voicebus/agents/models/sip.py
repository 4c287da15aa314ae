"""`OpenAIRealtimeSIPModel`: joins a phone call that was accepted, by its `call_id`; audio does not pass through here.

A call rings as a webhook; answer it with `build_initial_session_payload` as the body of the Calls API's accept, then
run a session with this model and the same `call_id`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

from voicebus.agents import checking
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.author import SessionAuthor
from voicebus.agents.config import RealtimeRunConfig, check_run_config
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.model_settings import DEFAULT_MODEL, RealtimeSessionModelSettings
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.models.openai import OpenAIRealtimeWebSocketModel
from voicebus.agents.models.options import check_options
from voicebus.agents.models.setup import settings_patch
from voicebus.engine.offering import wire_tools
from voicebus.engine.settings import merge
from voicebus.errors import UserError
from voicebus.ports import ModelLink, ModelListener

# Nothing runs while a payload is built; an agent's tools that name no limit have the usual one later.
_TOOL_TIMEOUT_S: Final = 60.0
_TO_COME: Final = "to come"


class RealtimeSessionCreateRequest(BaseModel):
    """The session that a call is accepted with: the body of `POST /v1/realtime/calls/{call_id}/accept`.

    `model_dump(exclude_unset=True)` is that body: what was not set keeps the server's default, and a null says "off".
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)

    type: Literal["realtime"] = "realtime"
    model: str
    instructions: str | None = None
    output_modalities: list[Literal["text", "audio"]] | None = None
    audio: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | Literal["inf"] | None = None
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None


class OpenAIRealtimeSIPModel(OpenAIRealtimeWebSocketModel):
    """A model that joins a call; connecting it needs a `call_id`."""

    async def open(self, options: RealtimeModelConfig, *, listener: ModelListener, model: str) -> ModelLink:
        """As of the model behind a WebSocket.

        Raises:
            UserError: there is no `call_id`, or as there.
            ModelLinkError: as there.
        """
        if not options.get("call_id"):
            raise UserError("OpenAIRealtimeSIPModel joins a call: its model_config needs the call_id of that call")
        return await super().open(options, listener=listener, model=model)

    @staticmethod
    async def build_initial_session_payload(
        agent: RealtimeAgent[Any],
        *,
        context: Any = None,
        model_config: RealtimeModelConfig | None = None,
        run_config: RealtimeRunConfig | None = None,
        overrides: RealtimeSessionModelSettings | None = None,
    ) -> RealtimeSessionCreateRequest:
        """What to accept a call with, so that `agent` answers from its first word.

        Settings are put together as for a session of `agent`, then `overrides` win. Audio formats are left to the
        call unless they are given; tracing is set by the session that joins.

        Raises:
            UserError: the agent, the settings or the run config cannot be.
            Exception: what a callback of the author raised.
        """
        where = "build_initial_session_payload"
        checking.instance(where, "agent", agent, RealtimeAgent)
        for name, mapping in (("model_config", model_config), ("run_config", run_config), ("overrides", overrides)):
            checking.mapping(where, name, mapping, optional=True)
        check_options(model_config or {})
        check_run_config(run_config or {})
        overrides = overrides or {}
        try:
            patch = settings_patch(overrides)
        except UserError as error:
            raise type(error)(f"{where}: overrides: {error}") from None
        given: RealtimeModelConfig = {"call_id": _TO_COME, **(model_config or {})}
        # Tools and handoffs are one list on the wire, and each replaces its own kind alone, as when a session begins.
        if patch.pop("tools", None) is not None:
            initial: RealtimeSessionModelSettings = {**given.get("initial_model_settings", {})}
            if "tools" in overrides:
                initial["tools"] = overrides["tools"]
            if "handoffs" in overrides:
                initial["handoffs"] = overrides["handoffs"]
            given = {**given, "initial_model_settings": initial}
        author = SessionAuthor(
            context=context if isinstance(context, RunContextWrapper) else RunContextWrapper(context),
            run_config=run_config or {},
            model_config=given,
            session=given["call_id"],
            tool_timeout_s=_TOOL_TIMEOUT_S,
            in_process=True,
        )
        try:
            spec = await author.begin(agent)
            model = author.settings(spec.snapshot).get("model_name") or DEFAULT_MODEL
        finally:
            await author.aclose()
        payload: dict[str, Any] = {
            "type": "realtime",
            "model": model,
            **spec.session,
            "tools": wire_tools(spec),
        }
        if spec.instructions is not None:
            payload["instructions"] = spec.instructions
        payload = merge(payload, patch)
        payload.pop("tracing", None)
        return RealtimeSessionCreateRequest.model_validate(_plain(payload))


def _plain(value: Any) -> Any:
    """With every mapping a dict of its own: what was built from an agent must not change with it."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
