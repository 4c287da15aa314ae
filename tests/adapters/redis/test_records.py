"""Recorded events read back from a real Redis."""

import pytest

from voicebus.adapters.redis import records
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.records import RedisRecords
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EventType
from voicebus.contracts.streams import Keys

BEGAN = 10_000_000


async def test_a_session_is_looked_for_from_its_beginning_whatever_its_id_is(
    redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls bear their provider's ids; what a shard recorded before one began is not looked through."""
    monkeypatch.setattr(records, "_PAGE", 2)
    monkeypatch.setattr(records, "_MAX_PAGES", 1)
    keys, session = Keys(stream_prefix), "rtc_call"
    stream = keys.events(keys.event_shard(session))
    async with await connect(redis_url) as bus:
        await bus.call("HSET", keys.session_state(session), "started_at", BEGAN)
        await bus.call("EXPIRE", keys.session_state(session), 60)
        for at, whose in ((1_000, "other"), (2_000, "other"), (3_000, "other"), (BEGAN + 5, session)):
            entry = Entry(
                id=f"E{at}", type=EventType.HANDOFF, session=whose, epoch=1, seq=1, at=at, data={"to_agent": "b"}
            )
            flat = [text for pair in entry.fields().items() for text in pair]
            await bus.call("XADD", stream, f"{at}-0", *flat)
        found = await RedisRecords(bus, keys).read(session, 0, 1)
    assert {seq: (at, kind) for seq, (at, kind, _) in found.items()} == {1: (BEGAN + 5, EventType.HANDOFF)}
