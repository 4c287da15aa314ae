"""Recordings in a bucket: of a real server, and of one that is in trouble."""

from urllib.parse import quote

import pytest

from support.buckets import Bucket, bucket_in_trouble, real_bucket
from support.sounds import opened, parts
from voicebus.adapters.recordings import storage as module
from voicebus.adapters.recordings.storage import RecordingStorage, segment_folder
from voicebus.errors import StoreError


@pytest.mark.timeout(120)
async def test_a_recording_goes_into_a_bucket_and_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with real_bucket(monkeypatch) as url:
        storage = RecordingStorage.at(url)
        for number, part in enumerate(parts(5)):
            await storage.put(f"{segment_folder('acme & co', 's/1', 1, 0)}/{number:08d}", part)
        before = await storage.find("acme & co", "s/1")
        assert before.pieces is not None
        data = b"".join([await storage.read(piece.path) for piece in before.pieces])
        assert opened(data)[0] == pytest.approx(5, abs=0.05)
        await storage.complete("acme & co", "s/1", before, data)
        after = await storage.find("acme & co", "s/1")
        assert after.whole is not None
        assert after.segments == ()
        assert b"".join([each async for each in storage.stream(after.whole.path, 100, 300)]) == data[100:300]
        with pytest.raises(FileNotFoundError):
            await storage.read(before.pieces[0].path)
        assert await storage.erase("acme & co", "s/1") == len(data)
        assert (await storage.find("acme & co", "s/1")).whole is None


@pytest.mark.parametrize("kind", [kind for kind in Bucket if kind is not Bucket.SILENT])
async def test_a_bucket_in_trouble_is_told_of_in_a_sentence(monkeypatch: pytest.MonkeyPatch, kind: Bucket) -> None:
    monkeypatch.setitem(module._RETRIES, "max_retries", 0)
    async with bucket_in_trouble(kind, monkeypatch) as asked:
        storage = RecordingStorage.at("s3://calls/here")
        with pytest.raises(StoreError, match=r"^s3://calls/here: "):
            await storage.put("a/b", b"abc")
        with pytest.raises(StoreError, match=r"^s3://calls/here: "):
            await storage.find("acme", "s1")
    assert asked[0] == b"put /calls/here/a/b http/1.1"
    assert quote("here/acme/s1", safe="").lower().encode() in asked[-1]
