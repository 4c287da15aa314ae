"""A whole cluster of processes whose model's sockets expire and break: what the archive has of the conversation."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.callers import calling, transcript
from support.cluster import running_cluster
from support.cutting_proxy import CuttingProxy, cutting_proxy

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]


async def test_the_archive_has_each_line_and_call_once_over_many_sockets(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    """Sockets of two seconds; spoken and typed turns by turns."""
    words = [f"word{number}" for number in range(3)]
    async with running_cluster(
        redis_url=redis_url,
        database_url=f"sqlite:///{tmp_path / 'v.db'}",
        stream_prefix=stream_prefix,
        targets=("support.hotline",),
        simulator=("--session-lifetime", "2s"),
    ) as cluster:
        async with calling(cluster.gateway.url) as caller:
            for word in words:
                await caller.types(f'ask [[call: quick {{"word": "{word}"}}]]')
                await caller.hears(f"quick {word}")
                await caller.says(f"tell me [[say: I know {{known}} by {word}.]]")
                await caller.hears(f"by {word}.")
            known = "; ".join(f"quick {word}" for word in words)
            last = await caller.hears(f"I know {known} by {words[-1]}.")
            assert last["heard_text"] is None
            assert len(caller.of("model_reconnected")) >= 3
            assert caller.of("error") == []
            lines = caller.lines()
            await caller.hangs_up()
        archived = await transcript(cluster.archiver.url, caller.session)
    assert archived["gaps"] == []
    messages = [item for item in archived["items"] if item["type"] == "message"]
    assert [(item["role"], item["text"]) for item in messages] == lines
    assert max(Counter(item["item_id"] for item in messages).values()) == 1
    whole = [item["text"] for item in messages if item["role"] == "assistant" and not item["truncated"]]
    assert len(whole) == 2 * len(words), "each turn was answered once"
    assert len([item for item in messages if item["role"] == "user"]) == 2 * len(words)
    calls = [item for item in archived["items"] if item["type"] == "tool_call"]
    assert [item["output"] for item in calls] == [f"quick {word}" for word in words]


async def cutting(proxy: CuttingProxy, chance: random.Random) -> None:
    """Cut a connection two times a second or so, until cancelled."""
    while True:
        await asyncio.sleep(chance.expovariate(2))
        proxy.cut_one(chance)


async def conversation(url: str, words: list[str]) -> tuple[str, list[tuple[str, str]], list[dict[str, Any]]]:
    """A turn with a tool and a spoken one for each word; returns the session, its lines and its errors."""
    async with calling(url) as caller:
        for word in words:
            await caller.types(f'ask [[call: quick {{"word": "{word}"}}]]')
            await caller.hears(f"quick {word}", timeout=60)
            await caller.says(f"tell me [[say: this is a longer answer about {word}.]]")
            await caller.hears(f"about {word}.", timeout=60)
        lines, errors = caller.lines(), caller.of("error")
        await caller.hangs_up()
    return caller.session, lines, errors


async def test_each_turn_is_answered_once_and_archived_once_whenever_sockets_break(
    redis_url: str, stream_prefix: str, tmp_path: Path
) -> None:
    """Four callers at once; the moments are drawn, so that every state of a session has its turn over time."""
    chance = random.Random(11)
    words = {who: [f"{who}{number}" for number in ("one", "two", "three")] for who in ("tea", "milk", "salt", "rice")}
    async with (
        running_cluster(
            redis_url=redis_url,
            database_url=f"sqlite:///{tmp_path / 'v.db'}",
            stream_prefix=stream_prefix,
            targets=("support.hotline",),
            gateways=0,
        ) as cluster,
        cutting_proxy(cluster.simulator.http_port or 0) as proxy,
    ):
        cluster.environment["VOICEBUS_MODEL_URL"] = f"ws://127.0.0.1:{proxy.port}/v1/realtime"
        gateway = await cluster.start("gateway")
        cutter = asyncio.create_task(cutting(proxy, chance), name="cutting")
        held = await asyncio.gather(*(conversation(gateway.url, said) for said in words.values()))
        cutter.cancel()
        archive = [await transcript(cluster.archiver.url, session) for session, _, _ in held]
    assert proxy.accepted > len(words), "sockets were lost"
    for said, (_, lines, errors), archived in zip(words.values(), held, archive, strict=True):
        assert errors == []
        assert archived["gaps"] == []
        messages = [item for item in archived["items"] if item["type"] == "message"]
        assert [(item["role"], item["text"]) for item in messages] == lines
        assert max(Counter(item["item_id"] for item in messages).values()) == 1
        whole = [item["text"] for item in messages if item["role"] == "assistant" and not item["truncated"]]
        for word in said:
            answers = [text for text in whole if f"quick {word}" in text or f"about {word}." in text]
            assert len(answers) == 2, f"each turn about {word} was answered once: {answers}"
        calls = [item["output"] for item in archived["items"] if item["type"] == "tool_call"]
        assert calls == [f"quick {word}" for word in said]
