"""The two ways to hold a conversation, and the four in which a model's words come: each behaviour is shown in them."""

import inspect
from collections.abc import Iterator

import pytest

from support.delivery import IN_ORDER, delivering, modes_of
from support.stages import CLUSTER, IN_PROCESS, Cluster, InProcess, Stage


@pytest.fixture(params=[IN_PROCESS, CLUSTER])
def stage(request: pytest.FixtureRequest) -> Stage:
    """In one process, then through gateway, streams and workers."""
    if request.param == IN_PROCESS:
        return InProcess()
    return Cluster(request.getfixturevalue("redis_url"), request.getfixturevalue("stream_prefix"))


@pytest.fixture(autouse=True)
def delivery(request: pytest.FixtureRequest) -> Iterator[str]:
    """How the words of the test's models reach it: the mode's name."""
    mode: str = getattr(request, "param", IN_ORDER)
    with delivering(mode):
        yield mode


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whoever waits for a model, and chooses no mode itself, is run in more than one."""
    takes_long = metafunc.definition.get_closest_marker("one_mode") is not None
    if inspect.iscoroutinefunction(metafunc.function) and "mode" not in metafunc.fixturenames and not takes_long:
        metafunc.parametrize("delivery", modes_of(metafunc.function.__name__), indirect=True)
