"""The two ways to hold a conversation: every behaviour of the programming model is shown in both."""

import pytest

from support.stages import CLUSTER, IN_PROCESS, Cluster, InProcess, Stage


@pytest.fixture(params=[IN_PROCESS, CLUSTER])
def stage(request: pytest.FixtureRequest) -> Stage:
    """In one process, then through gateway, streams and workers."""
    if request.param == IN_PROCESS:
        return InProcess()
    return Cluster(request.getfixturevalue("redis_url"), request.getfixturevalue("stream_prefix"))
