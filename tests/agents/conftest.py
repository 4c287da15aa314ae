"""What several tests of agents are given."""

from collections.abc import AsyncIterator

import pytest

from support.pools import Here
from voicebus.runtime.processes import ProcessPool


@pytest.fixture(params=[ProcessPool, Here])
async def either_pool(request: pytest.FixtureRequest) -> AsyncIterator[ProcessPool]:
    """Processes, and what does in this one what they would."""
    pool: ProcessPool = request.param(1)
    yield pool
    pool.close()
