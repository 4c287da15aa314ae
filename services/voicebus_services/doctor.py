"""`voicebus doctor`: checks what a cluster needs, and says what is wrong and how to mend it."""

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from voicebus.adapters.redis import client as redis_client
from voicebus.errors import BusError, ModelLinkError, SettingsError, StoreError, TargetError, VoicebusError
from voicebus_services.settings import (
    ArchiverSettings,
    BusSettings,
    DatabaseSettings,
    GatewaySettings,
    GuardrailWorkerSettings,
    Service,
    ServiceSettings,
    SimulatorSettings,
    ToolWorkerSettings,
    load,
)
from voicebus_services.tls import Certificate

_TIMEOUT_S: Final = 10.0
_OLDEST_REDIS: Final = (7, 0)

# Each service's settings, and what is checked for it beside those and Redis.
_SERVICES: Final[Mapping[Service, tuple[type[BusSettings], Sequence[str]]]] = {
    "gateway": (GatewaySettings, ("model",)),
    "tool-worker": (ToolWorkerSettings, ()),
    "guardrail-worker": (GuardrailWorkerSettings, ()),
    "transcript-archiver": (ArchiverSettings, ("database",)),
}


@dataclass(frozen=True)
class Finding:
    """One check. `problem` is one sentence that says what to do, None where all is well."""

    check: str
    problem: str | None
    note: str
    milliseconds: float


async def examine(
    targets: Sequence[str], service: Service | None = None, *, slips: Mapping[str, str] | None = None
) -> list[Finding]:
    """Check what `service` needs, without one what all of them do; and `targets`, where any are named.

    `slips` are variables that nothing reads, each with the one that was meant. No check stops the others.
    """
    kinds: Sequence[type[ServiceSettings]] = (*(kind for kind, _ in _SERVICES.values()), SimulatorSettings)
    needs: Sequence[str] = ("database", "model")
    if service is not None:
        kind, needs = _SERVICES[service]
        kinds = (kind,)
    checks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("python", _python),
        ("settings", lambda: _settings(kinds, slips or {})),
        ("redis", _redis),
    ]
    if "database" in needs:
        checks.append(("database", _database))
    if "model" in needs:
        checks.append(("model", _model))
    if targets:
        checks.append(("targets", lambda: _targets(targets, service)))
    return [await _examine(name, check) for name, check in checks]


async def _examine(name: str, check: Callable[[], Awaitable[str]]) -> Finding:
    began = time.monotonic()
    problem, note = None, ""
    try:
        async with asyncio.timeout(_TIMEOUT_S * 2):
            note = await check()
    except VoicebusError as error:
        problem = str(error)
    except TimeoutError:
        problem = f"no answer within {_TIMEOUT_S * 2:g} s"
    return Finding(name, problem, note, (time.monotonic() - began) * 1000)


async def _python() -> str:
    return platform.python_version()


async def _settings(kinds: Sequence[type[ServiceSettings]], slips: Mapping[str, str]) -> str:
    for kind in kinds:
        settings = load(kind)
        if isinstance(settings, GatewaySettings):
            Certificate.of(settings.tls_cert, settings.tls_key)
    if slips:
        told = ", ".join(f"{name} (did you mean {meant}?)" for name, meant in slips.items())
        raise SettingsError(f"nothing reads {told}; correct or unset it")
    return "every VOICEBUS_* variable can be read"


async def check_redis(url: str) -> str:
    """Reach Redis, ask for its version and whether it keeps what it is given; returns a note.

    Raises:
        BusError: it cannot be reached, refuses the password, or is too old.
    """
    async with await redis_client.connect(url) as redis:
        info: dict[str, Any] = await redis.call("INFO")
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_REDIS:
        raise BusError(f"Redis {version} is too old; 7.0 or later (or Valkey) is needed")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and int(info.get("maxmemory", 0)):
        raise BusError(f"Redis may evict keys (maxmemory-policy {policy}); set it to noeviction")
    return f"version {version}, role {info.get('role')}"


async def _redis() -> str:
    return await check_redis(load(BusSettings).redis_url)


async def _database() -> str:
    url = load(DatabaseSettings).database_url
    try:
        from voicebus.adapters.database.store import TranscriptStore
    except ImportError as error:
        raise StoreError(f"the database libraries are missing ({error.name}); install voicebus[archiver]") from error
    async with TranscriptStore(url) as store:
        await store.check()
        lacking = await store.missed()
        return f"{store.where} is migrated" + (f"; {lacking}" if lacking else "")


async def _model() -> str:
    settings = load(GatewaySettings)
    return await check_model(settings)


class _FirstFrame:
    """A model listener that waits for the first thing to happen."""

    def __init__(self) -> None:
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def model_frame(self, frame: bytes) -> None:
        if not self.came.done():
            self.came.set_result(bytes(frame))

    def model_lost(self, why: str, close_code: int | None) -> None:
        if not self.came.done():
            self.came.set_exception(ModelLinkError(why, close_code=close_code))


async def check_model(settings: GatewaySettings) -> str:
    """Open a session with the model and close it again; returns a note.

    Raises:
        ModelLinkError: it cannot be reached, speaks another protocol, or refuses the credentials or the model name.
        SettingsError: a real provider's address without a key.
    """
    try:
        from voicebus.runtime.frames import parse_event
        from voicebus_services.gateway.models import model_connector
    except ImportError as error:
        raise ModelLinkError(
            f"the gateway's libraries are missing ({error.name}); install voicebus[gateway]"
        ) from error
    connector = model_connector(settings)
    first = _FirstFrame()
    link = await connector.connect(first, model=settings.model_name)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            event = parse_event(await first.came)
    except TimeoutError:
        raise ModelLinkError(f"the model at {connector.server} says nothing; check VOICEBUS_MODEL_URL") from None
    except ValueError as error:
        raise ModelLinkError(
            f"the model at {connector.server} does not speak the protocol ({error}); check VOICEBUS_MODEL_URL"
        ) from error
    finally:
        await link.close()
    if event.get("type") == "error":
        why = event.get("error")
        why = why if isinstance(why, dict) else {}
        raise ModelLinkError(
            f"the model at {connector.server} answers {why.get('code') or 'error'}: {why.get('message')}; "
            "check VOICEBUS_MODEL_API_KEY and VOICEBUS_MODEL_NAME"
        )
    return f"{connector.server} answers {event.get('type')}"


async def _targets(targets: Sequence[str], service: Service | None) -> str:
    from voicebus.agents.targets import load_targets

    loaded = load_targets(targets)
    if service in (None, "gateway") and not loaded.agents:
        raise TargetError(f"{', '.join(targets)} defines no agent")
    return f"{len(loaded.agents)} agent(s), {len(loaded.tools)} tool(s), {len(loaded.guardrails)} guardrail(s)"
