"""The two ways to hold a conversation, and the four in which a model's words come: each behaviour is shown in them."""

import pytest

from support.stages import CLUSTER, IN_PROCESS, Cluster, InProcess, Stage


@pytest.fixture(params=[IN_PROCESS, CLUSTER])
def stage(request: pytest.FixtureRequest) -> Stage:
    """In one process, then through gateway, streams and workers."""
    if request.param == IN_PROCESS:
        return InProcess()
    return Cluster(request.getfixturevalue("redis_url"), request.getfixturevalue("stream_prefix"))


@pytest.fixture(autouse=True)
def _delivered(delivery: str) -> None:
    """Every test of this folder hears its models in more than one way."""
