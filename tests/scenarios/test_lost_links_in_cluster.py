"""A whole cluster of processes whose model's sockets expire and break: what the archive has of the conversation."""

from collections import Counter
from pathlib import Path

import pytest

from support.callers import calling, transcript
from support.cluster import running_cluster

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
