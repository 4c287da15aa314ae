"""The model-simulator, run inside the test's own loop on a free port."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from voicebus_services.model_simulator.calls import Calls, SignedWebhook
from voicebus_services.model_simulator.hub import Hub
from voicebus_services.model_simulator.wiring import simulating
from voicebus_services.settings import SimulatorSettings

MODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "in order": {"pace": 5},
    "burst": {"pace": 0},
    "reordered": {"pace": 0, "simulator_quirks": {"reordered": True, "rate_limits": "before"}},
    "delayed": {"pace": 0, "simulator_quirks": {"frame_delay_ms": [0, 8]}},
}
"""Settings under which what a model says comes as spoken, at once, in another order that the protocol allows, late."""

delivery: Mapping[str, Any] = {}
"""The settings of the mode in which a test runs (`support/delivery.py`); what it sets itself goes before."""


@dataclass(frozen=True, slots=True)
class SimulatorHandle:
    """A running simulator. `url` is what goes into MODEL_URL; add `?model=gpt-realtime` to dial it by hand."""

    url: str
    http_url: str
    hub: Hub
    calls: Calls

    def ledger(self) -> list[dict[str, Any]]:
        """Per session, oldest first, `{session, model, lines: [{speaker, text, item_id, …}]}`: the truth."""
        return self.hub.ledger()

    def incoming_call(self, webhook_secret: str) -> SignedWebhook:
        """A SIP call that rings; deliver the webhook yourself, then accept it over HTTP."""
        return self.calls.incoming(webhook_secret)

    def cut(self) -> int:
        """Cut the sockets of all sessions, without a close frame; returns how many sessions there were."""
        sessions = list(self.hub.sessions.values())
        for session in sessions:
            session.cut()
        return len(sessions)

    def step(self, pieces: int = 1) -> None:
        """With `pace="step"`: let this many more pieces of responses go out."""
        self.hub.gate.allow(pieces)


@asynccontextmanager
async def running_simulator(**settings: Any) -> AsyncIterator[SimulatorHandle]:
    """Run a simulator with these settings (see `SimulatorSettings`) while the block runs."""
    given = {"http_host": "127.0.0.1", "http_port": 0, "ledger": True, **delivery, **settings}
    async with simulating(SimulatorSettings(**given)) as running:
        address = f"127.0.0.1:{running.server.port}"
        yield SimulatorHandle(f"ws://{address}/v1/realtime", f"http://{address}", running.hub, running.calls)
