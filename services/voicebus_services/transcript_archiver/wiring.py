"""Puts the transcript archiver together and runs it until SIGTERM."""

import asyncio
from collections.abc import Callable
from functools import partial

from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.config import keep_pinned, pin_config, register_event_group
from voicebus.adapters.redis.heartbeat import new_incarnation
from voicebus.adapters.redis.journal import RedisJournal
from voicebus.adapters.redis.takeover import RedisTakeover
from voicebus.contracts.streams import ARCHIVER_GROUP, Keys
from voicebus.errors import StaleOwnerError
from voicebus.runtime.lifecycle import operating, stop_event
from voicebus.telemetry import zeroed
from voicebus.telemetry.health import Health
from voicebus.telemetry.logging import get_logger
from voicebus_services.access.allowance import RequestRate
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.http import serving
from voicebus_services.privacy.eraser import Eraser
from voicebus_services.privacy.events import redacted_event
from voicebus_services.privacy.policy import NO_POLICIES, read_policies
from voicebus_services.privacy.redaction import Redaction
from voicebus_services.recordings import reader_at, storage_at
from voicebus_services.settings import ArchiverSettings
from voicebus_services.transcript_archiver.abandoned import Abandoned
from voicebus_services.transcript_archiver.app import create_app
from voicebus_services.transcript_archiver.archiver import Archiver
from voicebus_services.transcript_archiver.expiring import Expiring
from voicebus_services.transcript_archiver.forgotten import Forgotten
from voicebus_services.transcript_archiver.gaps import Gaps
from voicebus_services.transcript_archiver.months import Months
from voicebus_services.transcript_archiver.recordings import LeftRecordings
from voicebus_services.transcript_archiver.shards import SERVICE
from voicebus_services.transcript_archiver.tailing import Tails
from voicebus_services.transcript_archiver.trimming import Retention
from voicebus_services.watched import Watched

log = get_logger(__name__)


async def serve(settings: ArchiverSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Archive and serve transcripts until SIGINT or SIGTERM.

    `ready` is called with the HTTP port once it is open and the database and Redis have answered.

    Raises:
        SettingsError: a setting is wrong, a port is in use, or the cluster is pinned to other shard counts.
        StoreError: the database is not migrated or cannot be reached.
        BusError: Redis cannot be reached.
    """
    stop = stop_event()
    health = Health("redis", "database")
    zeroed.of_archiver(SERVICE)
    keys = Keys(settings.stream_prefix, settings.event_shards, settings.guardrail_shards)
    privacy = None if settings.privacy_file is None else Watched(settings.privacy_file, read_policies)

    def rules(tenant: str | None) -> Redaction:
        return (NO_POLICIES if privacy is None else privacy.now).redaction(tenant)

    redact = None if privacy is None else partial(redacted_event, rules)
    credentials = Credentials.of(settings)
    async with TranscriptStore(settings.database_url, redact=redact) as store:
        await store.check()
        if lacking := await store.missed():
            log.warning(lacking)

        async def kept(tenant: str, session: str) -> bool:
            return await store.progress(session, tenant=tenant) is not None

        recordings = reader_at(settings.recordings_url, kept)
        left = LeftRecordings(recordings)
        tails = Tails(store)
        async with await connect(settings.redis_url) as bus:
            await pin_config(bus, keys)
            await register_event_group(bus, keys, ARCHIVER_GROUP)
            clock = RedisClock(bus)
            await clock.synchronise()
            me = new_incarnation()
            gaps = Gaps(store, bus, keys, clock, lambda: archiver.shards)
            retention = Retention(round(settings.events_max_age.total_seconds() * 1000), settings.events_max_bytes)
            archiver = Archiver(
                bus, keys, store, clock, health, me=me, retention=retention, rules=rules, on_refused=gaps.refused
            )
            journal = RedisJournal(bus, clock, keys, owner=me, on_stale=_came_back, service=SERVICE)
            abandoned = Abandoned(
                store,
                RedisTakeover(bus, keys, clock, me),
                journal,
                clock,
                keys,
                lambda: archiver.shards,
                forgotten=Forgotten(store, bus, keys, grace_s=settings.resume_grace.total_seconds(), on_ended=left.add),
                is_dead=lambda gateway: archiver.contact.is_unbroken(bus.server_of(keys.gateway(gateway))),
                grace_s=settings.resume_grace.total_seconds(),
                on_ended=left.add,
            )
            eraser = Eraser(store, None if settings.recordings_url is None else storage_at(settings.recordings_url))
            requests = RequestRate(bus, keys, settings.max_requests_per_minute)
            async with (
                open_access(credentials, requests=requests) as access,
                operating(health, host=settings.ops_host, port=settings.ops_port),
                serving(
                    create_app(store, access, tails=tails, recordings=recordings),
                    host=settings.http_host,
                    port=settings.http_port,
                    max_silent=settings.max_silent_connections,
                ) as server,
                asyncio.TaskGroup() as tasks,
            ):
                keeping = [
                    tasks.create_task(clock.keep(), name="clock"),
                    tasks.create_task(journal.run(), name="journal"),
                    tasks.create_task(abandoned.run(), name="abandoned"),
                    tasks.create_task(gaps.run(), name="gaps"),
                    tasks.create_task(left.run(), name="recordings"),
                    tasks.create_task(Months(store, clock, lambda: archiver.shards).run(), name="months"),
                    tasks.create_task(keep_pinned(bus, keys), name="configuration"),
                ]
                if privacy is not None:
                    keeping.append(tasks.create_task(privacy.keep(), name="privacy-file"))
                    every_s = settings.retention_every.total_seconds()
                    if every_s:
                        expiring = Expiring(
                            store, eraser, lambda: privacy.now, clock, lambda: archiver.shards, every_s=every_s
                        )
                        keeping.append(tasks.create_task(expiring.run(), name="retention"))
                if ready is not None:
                    ready(server.port)
                log.info("archiving", port=server.port, shards=keys.event_shards)
                await archiver.run(stop, drain_s=settings.drain_timeout.total_seconds())
                tails.close()
                for task in keeping:
                    task.cancel()
    log.info("archiver stopped")


def _came_back(error: StaleOwnerError) -> None:
    log.info("a session that was to be ended has an owner again", session=error.session, epoch=error.current)
