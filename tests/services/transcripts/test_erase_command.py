"""`voicebus transcripts erase` and `retention`, as an operator runs them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.beating import beating
from support.commands import Ran, voicebus
from support.recorded import STARTED_AT, conversation, recorded
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.adapters.recordings.storage import RecordingStorage, folder
from voicebus.adapters.redis.client import RedisConnection, connect
from voicebus.adapters.redis.dead_letters import write_dead_letter
from voicebus.contracts.streams import Keys
from voicebus.errors import StoreError
from voicebus_services.transcripts import erase_command

# Its tests start up to a dozen commands one after another, which takes a busy machine long.
pytestmark = pytest.mark.timeout(180)


@dataclass
class Cluster:
    """An archive, its recordings, and a Redis that still has something of the sessions `mine` and `other`."""

    store: TranscriptStore
    storage: RecordingStorage
    bus: RedisConnection
    keys: Keys
    settings: dict[str, Any]

    async def run(self, *arguments: str, **more: Any) -> Ran:
        return await voicebus("transcripts", *arguments, **self.settings, **more)

    async def in_redis(self) -> set[str]:
        """Sessions of which some key or dead letter is left."""
        found = {key.split(":")[3] async for key in self.bus.scan(f"{self.keys.prefix}:session:*")}
        found |= {key.split("}:")[1].split(":")[0] async for key in self.bus.scan(f"{self.keys.prefix}:call:*")}
        letters = await self.bus.call("XRANGE", self.keys.dead("events"), "-", "+")
        return found | {fields["session"] for _, fields in letters}


@pytest.fixture
async def cluster(redis_url: str, stream_prefix: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    url = f"sqlite:///{tmp_path / 'transcripts.db'}"
    migrate.upgrade(url)
    place = f"file://{tmp_path / 'recordings'}"
    settings = {
        "redis_url": redis_url, "stream_prefix": stream_prefix, "database_url": url, "recordings_url": place,
    }  # fmt: skip
    async with TranscriptStore(url) as store, await connect(redis_url) as bus:
        cluster = Cluster(store, RecordingStorage.at(place), bus, Keys(stream_prefix), settings)
        for session in ("mine", "other"):
            await store.write(recorded(*conversation(session)))
            await cluster.storage.put(f"{folder('local', session)}/recording.ogg", b"x" * 10)
            keys = cluster.keys
            for key in (keys.session_state(session), keys.session_calls(session), keys.call("desk", session, "c:1")):
                await bus.call("HSET", key, "owner", "gone", "status", "ended")
                await bus.call("EXPIRE", key, 60)
            listed = keys.sessions(keys.event_shard(session), "local")
            await bus.call("ZADD", listed, 1, session)
            await bus.call("EXPIRE", listed, 60)
            await write_dead_letter(
                bus, keys.dead("events"), {"session": session}, stream="x", entry_id="1-1", deliveries=1, reason="r",
                error="e",
            )  # fmt: skip
        yield cluster
        await bus.call("DEL", cluster.keys.dead("events"))


async def test_a_session_is_erased_wherever_it_is_kept_and_that_is_proved(cluster: Cluster) -> None:
    ran = await cluster.run("erase", "mine", "--yes", "--json")
    assert (ran.status, json.loads(ran.out)) == (
        0,
        {"erased": True, "session": "mine", "tenant": "local", "rows": 14, "recording_bytes": 10, "redis_keys": 5,
         "earlier": None},
    ), ran.err  # fmt: skip
    assert await cluster.store.erasing.left(["mine"]) == 0
    assert (await cluster.storage.find("local", "mine")).whole is None
    assert await cluster.in_redis() == {"other"}
    assert await cluster.store.erasing.left(["other"]) == 14
    assert (await cluster.storage.find("local", "other")).whole is not None
    again = await cluster.run("erase", "mine", "--yes")
    assert again.status == 0
    assert again.out.startswith("mine was erased at ")
    assert again.out.endswith("; nothing of it is there\n")


async def test_another_tenants_session_and_one_that_goes_on_are_left_alone(cluster: Cluster, redis_url: str) -> None:
    ran = await cluster.run("erase", "mine", "--tenant", "acme", "--yes")
    assert (ran.status, ran.out) == (1, "")
    assert ran.complaint == "voicebus: mine: nothing was recorded of such a session of tenant acme"
    await cluster.bus.call("HSET", cluster.keys.session_state("mine"), "status", "active", "owner", "gw")
    async with beating(redis_url, cluster.keys.gateway("gw"), address="http://127.0.0.1:1"):
        ran = await cluster.run("erase", "mine", "other", "--yes")
    assert ran.status == 1
    assert ran.complaint == "voicebus: mine: it goes on; end it first (voicebus sessions end mine)"
    assert ran.out.startswith("erased other: 14 rows, 10 bytes of recordings, 5 keys in Redis; nothing of it is left")
    assert await cluster.store.erasing.left(["mine"]) == 14


async def test_nothing_is_erased_that_was_not_agreed_to(cluster: Cluster) -> None:
    ran = await cluster.run("erase", "mine")
    assert (ran.status, ran.complaint) == (2, "voicebus: usage: nobody can be asked here; say --yes to erase for good")
    assert await cluster.store.erasing.left(["mine", "other"]) == 28


async def test_what_would_be_erased_is_told_and_stays(cluster: Cluster) -> None:
    ran = await cluster.run("erase", "--before", "1d", "--dry-run")
    assert (ran.status, ran.out) == (0, "would erase mine\nwould erase other\n")
    assert await cluster.store.erasing.left(["mine", "other"]) == 28


@pytest.mark.parametrize("wrong", [[], ["mine", "--before", "1d"]])
async def test_sessions_are_named_or_all_before_a_moment_are_meant(cluster: Cluster, wrong: list[str]) -> None:
    ran = await cluster.run("erase", *wrong, "--yes")
    assert (ran.status, ran.complaint) == (
        2, "voicebus: usage: name the sessions, or say --before with a time; not both",
    )  # fmt: skip


async def test_all_before_a_moment_are_erased(cluster: Cluster) -> None:
    early = await cluster.run("erase", "--before", "2001-01-01", "--yes")
    assert (early.status, early.out) == (0, "")
    assert (await cluster.run("erase", "--before", "1d", "--yes")).status == 0
    assert await cluster.store.erasing.left(["mine", "other"]) == 0
    assert await cluster.in_redis() == set()


def test_what_was_erased_before_a_failure_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Erasing:
        async def examine(self, names: list[str], tenant: str) -> tuple[list[str], list[str]]:
            return names, []

        async def erase(self, names: list[str], tenant: str) -> AsyncIterator[erase_command.Proof]:
            yield erase_command.Proof(names[0], tenant, 3, 0, 0)
            raise StoreError("the database is away")

    @asynccontextmanager
    async def erasing(*_: object) -> AsyncIterator[Erasing]:
        yield Erasing()

    monkeypatch.setattr(erase_command, "_erasing", erasing)
    with pytest.raises(StoreError, match="the database is away"):
        erase_command.erase(["a", "b"], yes=True)
    assert capsys.readouterr().out.startswith("erased a: 3 rows, 0 bytes of recordings")


async def test_retention_has_to_know_how_long_tenants_keep_what(cluster: Cluster) -> None:
    ran = await cluster.run("retention")
    assert ran.status == 2
    assert "VOICEBUS_PRIVACY_FILE: nothing was read" in ran.complaint


async def test_retention_tells_what_is_due_erases_it_and_looks_again(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "privacy.yaml"
    file.write_text("default: {keep: 30d}")
    ran = await cluster.run("retention", "--dry-run", privacy_file=file)
    assert (ran.status, ran.out) == (0, "tenant local: 2 sessions would be erased\n")
    other = tmp_path / "recordings.yaml"
    other.write_text("default: {keep_recordings: 30d}")
    ran = await cluster.run("retention", "--dry-run", privacy_file=other)
    assert ran.out == "tenant local: what is recorded of 2 other sessions would be erased\n"
    ran = await cluster.run("retention", "--dry-run", "--json", privacy_file=other)
    assert json.loads(ran.out) == {"due": {}, "recordings": {"local": 2}}
    ran = await cluster.run("retention", privacy_file=file)
    assert (ran.status, ran.out) == (
        0,
        "tenant local: 2 sessions erased, recordings of 0 others\n"
        "28 rows, 20 bytes of recordings\n"
        "nothing that is due is left\n",
    ), ran.err
    assert (await cluster.store.erasing.of_session("mine"))[0].at > STARTED_AT
