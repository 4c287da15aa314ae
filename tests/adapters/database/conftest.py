"""Each test of the store runs on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'transcripts.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def database(empty_database: str) -> str:
    """The address of a migrated database."""
    migrate.upgrade(empty_database)
    return empty_database


@pytest.fixture
async def store(database: str) -> AsyncIterator[TranscriptStore]:
    async with TranscriptStore(database) as store:
        yield store
