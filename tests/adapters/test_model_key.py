"""A function that gives a model's key: each way in which it fails is one sentence, and it stops nobody else."""

import asyncio
import contextvars
import threading
from asyncio import CancelledError
from collections.abc import Iterator

import pytest

from support import tokens
from voicebus.adapters.model_key import KeyFunction, key_from
from voicebus.errors import ModelLinkError

WHO = contextvars.ContextVar("WHO", default="nobody")


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """Threads that wait go on when the test is over."""
    tokens.RELEASE.clear()
    yield
    tokens.RELEASE.set()


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (tokens.raising_token, "raised OSError"),
        (tokens.stuck_token, "did not return within 0.05 s"),
        (tokens.endless_token, "did not return within 0.05 s"),
        (tokens.no_token, "returned NoneType, no key"),
        (tokens.number_token, "returned int, no key"),
        (tokens.empty_token, "returned an empty string, no key"),
    ],
)
async def test_a_function_that_gives_no_key_is_told_in_a_sentence(function: KeyFunction, sentence: str) -> None:
    with pytest.raises(ModelLinkError) as failed:
        await key_from(function, within_s=0.05)
    assert str(failed.value) == f"the function that gives the model's key {sentence}"
    assert failed.value.code == "model_key_unavailable"
    assert not failed.value.fatal, "it may give one when it is asked again"


@pytest.mark.parametrize("raised", [StopIteration, SystemExit])
async def test_what_no_future_can_carry_is_told_as_any_other(raised: type[BaseException]) -> None:
    def token() -> str:
        raise raised

    with pytest.raises(ModelLinkError, match=f"raised {raised.__name__}"):
        await key_from(token, within_s=5)


@pytest.mark.parametrize(("raised", "told"), [(SystemExit, "raised SystemExit"), (CancelledError, "cancelled itself")])
async def test_an_async_function_stops_nobody_else(raised: type[BaseException], told: str) -> None:
    async def token() -> str:
        raise raised

    with pytest.raises(ModelLinkError, match=told):
        await key_from(token, within_s=5)


async def test_a_dialling_that_is_cancelled_cancels_its_function() -> None:
    async def token() -> str:
        await asyncio.Event().wait()
        return "unreachable"

    dialling = asyncio.create_task(key_from(token, within_s=5))
    await asyncio.sleep(0)
    dialling.cancel()
    with pytest.raises(CancelledError):
        await dialling


async def test_a_time_out_of_the_functions_own_is_what_it_raised() -> None:
    async def impatient() -> str:
        raise TimeoutError

    with pytest.raises(ModelLinkError, match="raised TimeoutError"):
        await key_from(impatient, within_s=5)


async def test_a_function_that_is_not_async_runs_beside_the_loop_in_its_callers_context() -> None:
    seen: list[tuple[str, str]] = []

    def token() -> str:
        seen.append((threading.current_thread().name.rpartition("-")[0], WHO.get()))
        return "key"

    WHO.set("somebody")
    assert await key_from(token, within_s=5) == "key"
    assert seen == [("model-key", "somebody")]


async def test_a_function_may_return_what_is_to_be_awaited() -> None:
    assert await key_from(lambda: tokens.slow_token(), within_s=5) == "test"  # noqa: PLW0108 - no coroutine function
