"""`RealtimeRunner`: an agent to start with, the model it speaks with, and the settings of its conversations."""

import reprlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.config import RealtimeRunConfig, check_run_config
from voicebus.agents.items import RealtimeItem
from voicebus.agents.models.model import RealtimeModel, RealtimeModelConfig
from voicebus.errors import UserError

if TYPE_CHECKING:
    from voicebus.agents.session import RealtimeSession

ModelFactory = Callable[[], RealtimeModel]


class RealtimeRunner:
    """Makes conversations that begin with `starting_agent` under `config`; a gateway serves the same.

    `model` is what they speak with: a model, or a class or a function that makes one for each session. Of our own
    models sessions at the same time get one each, with the listeners of the one given; a custom model that holds one
    connection needs a factory. Default: `OpenAIRealtimeWebSocketModel`. `context_model`, a pydantic model or a
    dataclass, is what the context of a session is; it stands in `config` as well.

    Raises:
        UserError: `starting_agent` is no `RealtimeAgent`, or `config` has a key or a value that cannot be.
    """

    def __init__(
        self,
        starting_agent: RealtimeAgent[Any],
        *,
        model: RealtimeModel | ModelFactory | None = None,
        config: RealtimeRunConfig | None = None,
        context_model: type[Any] | None = None,
    ) -> None:
        if not isinstance(starting_agent, RealtimeAgent):
            shown = reprlib.repr(starting_agent)
            raise UserError(f"RealtimeRunner: starting_agent must be a RealtimeAgent, not {shown}")
        if model is not None and not (callable(model) or hasattr(model, "send_event")):
            raise UserError(f"RealtimeRunner: model must be a RealtimeModel, or make one when called, not {model!r}")
        if config is not None and not isinstance(config, Mapping):
            raise UserError(f"RealtimeRunner: config must be a dict, not {config!r}")
        if context_model is not None:
            config = {**(config or {}), "context_model": context_model}
        check_run_config(config or {})
        self.starting_agent = starting_agent
        self.config: RealtimeRunConfig = config if config is not None else {}
        self._model = model
        self._lent: weakref.ref[RealtimeSession] | None = None

    async def run(
        self,
        *,
        context: Any = None,
        model_config: RealtimeModelConfig | None = None,
        history: Sequence[RealtimeItem | Mapping[str, Any]] = (),
    ) -> "RealtimeSession":
        """A session, not connected yet: enter it. `context` is given to every callback, `history` are items to begin
        with, as `session.history` has them; those that say nothing (a call without an output, audio without a
        transcript) and the second of an id are left out.

        Raises:
            UserError: an argument cannot be; the text names it.
        """
        if model_config is not None and not isinstance(model_config, Mapping):
            raise UserError(f"model_config must be a dict, not {model_config!r}")
        model = self._next_model()
        make = self._session_type()
        session = make(model, self.starting_agent, context, model_config, self.config, history=history)
        if model is self._model:
            self._lent = weakref.ref(session)
        return session

    def _session_type(self) -> "type[RealtimeSession]":
        from voicebus.agents.session import RealtimeSession  # with sockets, which a module of agents does not need

        return RealtimeSession

    def _next_model(self) -> RealtimeModel:
        model = self._model
        if model is None:
            from voicebus.agents.models.openai import OpenAIRealtimeWebSocketModel

            return OpenAIRealtimeWebSocketModel()
        if isinstance(model, type) or not hasattr(model, "send_event"):
            if not callable(model):
                raise UserError(f"model must be a RealtimeModel, or make one when called, not {model!r}")
            return model()
        lent = self._lent() if self._lent is not None else None
        if lent is not None and not lent.closed and (another := getattr(model, "another", None)) is not None:
            return cast("RealtimeModel", another())
        return cast("RealtimeModel", model)  # also one that counts as false
