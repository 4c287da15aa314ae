"""Of all archivers the one that reads shard 0 erases what is due, again and again, whatever fails in between."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.recorded import conversation, recorded
from support.waiting import wait_until
from voicebus.adapters.database.store import TranscriptStore
from voicebus.errors import StoreError
from voicebus_services.privacy.eraser import Eraser
from voicebus_services.privacy.policy import read_policies
from voicebus_services.transcript_archiver.expiring import Expiring


class Now:
    """Stands for the cluster's clock."""

    def at_ms(self) -> int:
        return round(datetime.now(UTC).timestamp() * 1000)

    def monotonic(self) -> float:
        raise AssertionError


async def test_only_the_reader_of_the_first_shard_erases_and_a_failure_is_tried_again(
    store: TranscriptStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "privacy.json"
    file.write_text(json.dumps({"default": {"keep": "30d"}}))
    policies = read_policies(file)
    await store.write(recorded(*conversation("s1")))
    looks, looking, due = 0, False, store.erasing.due

    async def fails_once(*arguments: object, **options: object) -> object:
        nonlocal looks, looking
        looks += 1
        if looks == 1:
            raise StoreError("the database is away")
        looking = True
        found = await due(*arguments, **options)  # type: ignore[arg-type]
        looking = False
        return found

    monkeypatch.setattr(store.erasing, "due", fails_once)
    shards, asked = {1, 2}, 0

    def held() -> set[int]:
        nonlocal asked
        asked += 1
        return shards

    expiring = Expiring(store, Eraser(store, None), lambda: policies, Now(), held, every_s=0.01)
    task = asyncio.create_task(expiring.run(), name="retention")
    try:
        await wait_until(lambda: asked > 5, description="some looks, if it were its turn")
        assert looks == 0
        shards.add(0)

        async def gone() -> bool:
            return await store.erasing.left(["s1"]) == 0

        await wait_until(gone, description="what is due to be erased")
        assert looks > 1
        shards.clear()
        # A look that is cancelled goes on in its thread, with a connection that nobody would close.
        await wait_until(lambda: not looking, description="the last look to end")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
