"""`voicebus transcripts erase`: sessions on request, wherever something of them is kept, with the proof."""

import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.config import pin_config
from voicebus.adapters.redis.forgetting import SessionKeys
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.contracts.streams import Keys
from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import run
from voicebus_services.operating import Prefix, RedisUrl
from voicebus_services.recordings import storage_at
from voicebus_services.settings import BusSettings, RecordingsSettings, load
from voicebus_services.transcripts.options import AsJson, DatabaseUrl, archive, moment

_BATCH: Final = 100
_NAMED: Final = 5

Ids = Annotated[list[str] | None, typer.Argument(metavar="SESSION...", help="The sessions' ids.")]
Before = Annotated[
    str | None,
    typer.Option(
        envvar="VOICEBUS_BEFORE", metavar="TIME", help="All of the tenant's that began before: 2026-01-31, or 30d ago."
    ),
]
Tenant = Annotated[str, typer.Option(envvar="VOICEBUS_TENANT", help="Whose sessions; others are left alone.")]
Yes = Annotated[bool, typer.Option("--yes", envvar="VOICEBUS_YES", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", envvar="VOICEBUS_DRY_RUN", help="Only tell what would be erased.")]
RecordingsUrl = Annotated[
    str | None, typer.Option(envvar="VOICEBUS_RECORDINGS_URL", help="Where recordings are kept, if they are.")
]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was erased of a session; `earlier`: when (RFC 3339) that was done before, if it was."""

    session: str
    tenant: str
    rows: int
    recording_bytes: int
    redis_keys: int
    earlier: str | None = None


def erase(
    sessions: Ids = None,
    before: Before = None,
    tenant: Tenant = LOCAL_TENANT,
    yes: Yes = False,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    recordings_url: RecordingsUrl = None,
    json_lines: AsJson = False,
) -> None:
    """Erase sessions for good.

    Transcript, search, recording, and what Redis still has of them.

    What arrives late of an erased session is not written any more. A session that goes on is left alone: end it first.
    Exit status 1 where one was not erased.
    """
    if bool(sessions) == (before is not None):
        raise UsageError("name the sessions, or say --before with a time; not both")
    until = moment(before, "--before")

    async def work() -> bool:
        async with _erasing(database_url, redis_url, stream_prefix, recordings_url) as erasing:
            names = sorted(set(sessions)) if sessions else await erasing.begun_before(until, tenant)
            known, refused = await erasing.examine(names, tenant)
            for sentence in refused:
                typer.echo(f"voicebus: {sentence}", err=True)
            if dry_run:
                for name in known:
                    typer.echo(json.dumps({"session": name, "tenant": tenant}) if json_lines else f"would erase {name}")
                return not refused
            if known and not yes:
                _confirm(known, tenant)
            # As they come: what was erased before a failure is told, too.
            async with aclosing(erasing.erase(known, tenant)) as proofs:
                async for proof in proofs:
                    typer.echo(json.dumps({"erased": True, **asdict(proof)}) if json_lines else _line(proof))
            if not names:
                typer.echo(f"voicebus: no session of tenant {tenant} began before {before}", err=True)
            if known and not erasing.has_storage:
                typer.echo("voicebus: recordings were not looked for: no VOICEBUS_RECORDINGS_URL is set", err=True)
            return not refused

    if not run(work()):
        raise typer.Exit(1)


def _confirm(known: Sequence[str], tenant: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here; say --yes to erase for good")
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    named = ", ".join(known[:_NAMED]) + more
    typer.confirm(f"Erase {named} of tenant {tenant} for good?", abort=True, err=True)


def _line(proof: Proof) -> str:
    if proof.earlier is not None and not (proof.rows or proof.recording_bytes or proof.redis_keys):
        return f"{proof.session} was erased at {proof.earlier}; nothing of it is there"
    return (
        f"erased {proof.session}: {proof.rows} rows, {proof.recording_bytes} bytes of recordings,"
        f" {proof.redis_keys} keys in Redis; nothing of it is left"
    )


class _Erasing:
    def __init__(self, store: Any, eraser: Any, keys: SessionKeys, clock: RedisClock) -> None:
        self._store = store
        self._eraser = eraser
        self._keys = keys
        self._clock = clock

    @property
    def has_storage(self) -> bool:
        return bool(self._eraser.has_storage)

    async def begun_before(self, until: datetime | None, tenant: str) -> list[str]:
        names: list[str] = []
        at_ms = 0 if until is None else round(until.timestamp() * 1000)
        page = await self._store.erasing.before(tenant, at_ms, limit=_BATCH)
        while page:
            names += [known.session for known in page]
            page = await self._store.erasing.before(tenant, at_ms, limit=_BATCH, after=names[-1])
        return names

    async def examine(self, names: Sequence[str], tenant: str) -> tuple[list[str], list[str]]:
        """Those that may be erased, and a sentence for each of the others."""
        good, refused = [], []
        for start in range(0, len(names), _BATCH):
            some = names[start : start + _BATCH]
            owners = {known.session: known.tenant for known in await self._store.erasing.find(some)}
            for name in some:
                whose = owners.get(name) or await self._keys.tenant(name) or await self._formerly(name)
                if whose != tenant:
                    refused.append(f"{name}: nothing was recorded of such a session of tenant {tenant}")
                elif await self._keys.goes_on(name):
                    refused.append(f"{name}: it goes on; end it first (voicebus sessions end {name})")
                else:
                    good.append(name)
        return good, refused

    async def _formerly(self, name: str) -> str | None:
        """Whose a session was that has been erased."""
        done = await self._store.erasing.of_session(name)
        return (done[0].tenant or LOCAL_TENANT) if done else None

    async def erase(self, names: Sequence[str], tenant: str) -> AsyncGenerator[Proof, None]:
        from voicebus.adapters.database.erasing import RECORDING, REQUEST

        for start in range(0, len(names), _BATCH):
            some = dict.fromkeys(names[start : start + _BATCH], tenant)
            before = {
                name: [one.at for one in await self._store.erasing.of_session(name) if one.reason != RECORDING]
                for name in some
            }
            # Redis first: a gap of the transcript is filled from there.
            keys = await self._keys.forget(some)
            done = await self._eraser.erase(some, REQUEST, self._clock.at_ms())
            for erased in done.erased:
                at = min(before[erased.session], default=None)
                earlier = None if at is None else _rfc3339(at)
                yield Proof(erased.session, tenant, erased.rows, erased.recording_bytes, keys[erased.session], earlier)
            for why in done.failed.values():
                raise why
        await self._store.erasing.purge()


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@asynccontextmanager
async def _erasing(
    database_url: str | None, redis_url: str | None, stream_prefix: str | None, recordings_url: str | None
) -> AsyncIterator[_Erasing]:
    bus_settings = load(BusSettings, redis_url=redis_url, stream_prefix=stream_prefix)
    where = load(RecordingsSettings, recordings_url=recordings_url).recordings_url
    storage = None if where is None else storage_at(where)
    async with archive(database_url) as store, await connect(bus_settings.redis_url) as bus:
        from voicebus_services.privacy.eraser import Eraser

        clock = RedisClock(bus)
        await clock.synchronise()
        keys = Keys(bus_settings.stream_prefix, bus_settings.event_shards, bus_settings.guardrail_shards)
        # With other shards than the cluster's its keys would not be found.
        await pin_config(bus, keys)
        yield _Erasing(store, Eraser(store, storage), SessionKeys(bus, keys), clock)
