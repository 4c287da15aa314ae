"""Recordings of made-up calls in a folder, and what reads them from there."""

from pathlib import Path

from support.sounds import parts
from voicebus.adapters.recordings.reading import RecordingReader
from voicebus.adapters.recordings.storage import RecordingStorage, segment_folder


async def write_parts(
    storage: RecordingStorage, tenant: str, session: str, data: list[bytes], *, epoch: int = 1, begins_ms: int = 0
) -> None:
    """A segment of a recording, as gateways write it."""
    for number, part in enumerate(data):
        await storage.put(f"{segment_folder(tenant, session, epoch, begins_ms)}/{number:08d}", part)


async def reading(folder: Path, tenant: str, session: str) -> RecordingReader:
    """What reads the recordings below `folder`, where there is one of this session of two seconds."""
    storage = RecordingStorage.at(f"file://{folder}/recordings")
    await write_parts(storage, tenant, session, parts(2))

    async def kept(_: str, __: str) -> bool:
        return True

    return RecordingReader(storage, kept)
