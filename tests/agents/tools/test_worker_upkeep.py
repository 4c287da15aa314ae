"""`ToolWorker`: what it refuses, what it keeps up while it works, and entries that are none of its business."""

import asyncio
import json
from typing import Any

import pytest

from support.servers import RedisServer
from support.tool_calls import Caller, worker
from support.waiting import wait_until
from voicebus import ToolWorker, UserError, function_tool
from voicebus.adapters.redis.client import connect
from voicebus.adapters.redis.dispatch import new_entry
from voicebus.adapters.redis.letter_box import LetterBox
from voicebus.adapters.redis.registry import ToolRegistry
from voicebus.adapters.redis.scripts import CLAIM
from voicebus.agents.tools import calls, registering
from voicebus.contracts.envelope import Entry
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import LONGEST_MS, TOOL_CALL, TOOL_PROGRESS, Outcome, ToolCall, ToolProgress
from voicebus.engine.outputs import CancelTool


@function_tool(queue="default")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@function_tool(queue="default")
async def wait() -> str:
    """Wait."""
    await asyncio.Event().wait()
    return "unreachable"


def test_a_worker_needs_tools_and_each_a_name_of_its_own(keys: Keys) -> None:
    with pytest.raises(UserError, match="at least one function tool"):
        worker("redis://unused", keys)
    other = function_tool(name_override="add")(lambda a: a)
    with pytest.raises(UserError, match=r"two tools are named 'add': .*add and .*lambda"):
        worker("redis://unused", keys, add, other)
    worker("redis://unused", keys, add, add)


async def test_a_worker_that_is_cancelled_while_it_starts_leaves_nothing_behind(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless(self: ToolWorker, stop: asyncio.Event, *, ready: Any = None) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(ToolWorker, "run", endless)
    entering = asyncio.create_task(worker("redis://unused", keys, add).__aenter__())
    await began.wait()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert ended.is_set()


async def test_a_call_without_a_deadline_has_the_workers_limit(redis_url: str, keys: Keys, caller: Caller) -> None:
    call = ToolCall(call_id="c1", tool="wait", arguments="{}", agent="greeter", reply_to=caller.inbox.stream)
    async with worker(redis_url, keys, wait, tool_timeout=0.05):
        await caller.bus.call(
            "XADD", keys.tools("default"), "*", *_flat(new_entry(caller.session, TOOL_CALL, call, caller.clock))
        )
        result = await caller.result()
    assert (result.outcome, result.output) == (Outcome.TIMEOUT, "Tool 'wait' timed out after 0.05 seconds.")


async def test_a_call_that_says_that_it_has_no_context_is_run(redis_url: str, keys: Keys, caller: Caller) -> None:
    call = {
        "call_id": "c1", "tool": "add", "arguments": '{"a": 1, "b": 2}', "agent": "desk",
        "reply_to": caller.inbox.stream, "attempt": 1, "hops": 0, "idempotent": False, "context": None,
    }  # fmt: skip
    entry = Entry(id="by hand", type=TOOL_CALL, session="s1", epoch=1, at=caller.clock.at_ms(), data=call)
    async with worker(redis_url, keys, add):
        await caller.bus.call("XADD", keys.tools("default"), "*", *_flat(entry))
        assert (await caller.result()).output == "3"


async def test_what_is_no_call_goes_to_the_dead_letters(redis_url: str, keys: Keys, caller: Caller) -> None:
    stray = new_entry(caller.session, TOOL_PROGRESS, ToolProgress(call_id="c1", text="half"), caller.clock)
    async with worker(redis_url, keys, add):
        await caller.bus.call("XADD", keys.tools("default"), "*", *_flat(stray))

        async def letters() -> list[dict[str, str]]:
            return await caller.stream(keys.dead("default"))

        (letter,) = await wait_until(letters, description="the dead letter")
        caller.call("add", '{"a": 1, "b": 2}')
        assert (await caller.result()).output == "3"
    assert letter["reason"] == "unexpected_type"


async def test_cancels_that_overtake_their_call_are_remembered_and_nonsense_is_not(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, add, wait):
        caller.call("wait")
        name = (await caller.started()).worker
        await caller.bus.call("XADD", keys.control(name), "*", "type", "tool.cancel")
        caller.tools._tell(caller.session, CancelTool("c2", "default", name, "hangup"), name)
        # they are read in order: once this one has had its effect, so have those before
        caller.tools._tell(caller.session, CancelTool("c1", "default", name, "hangup"), name)
        assert (await caller.result()).outcome is Outcome.CANCELLED
        caller.call("add", '{"a": 1, "b": 2}', call_id="c2")
        assert (await caller.result("c2")).outcome is Outcome.CANCELLED
        caller.call("add", '{"a": 1, "b": 2}', call_id="c3")
        assert (await caller.result("c3")).output == "3"


async def test_a_long_calls_claim_is_renewed(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "RENEW_EVERY_S", 0.02)
    claim = keys.call("default", "s1", "c1")

    async def renewed() -> bool:
        return int(await caller.bus.call("TTL", claim)) > 60

    async with worker(redis_url, keys, wait):
        caller.call("wait")
        started = await caller.started()
        await caller.bus.call("EXPIRE", claim, 30)
        await wait_until(renewed, description="a claim that lasts")
        caller.cancel(worker=started.worker)
        await caller.result()


async def test_a_registry_that_was_lost_is_written_again(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "REGISTER_EVERY_S", 0.02)

    async def registered() -> Any:
        return await caller.bus.call("HGET", keys.registry_tools, "add")

    async with worker(redis_url, keys, add):
        await caller.bus.call("DEL", keys.registry_tools)
        found = await wait_until(registered, description="the registration")
    assert json.loads(found)["parameters"] == add.params_json_schema


async def test_a_server_that_comes_back_empty_is_told_at_once_what_is_offered(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before gateways take the tools for gone."""
    monkeypatch.setattr(registering, "REGISTER_EVERY_S", 3600)
    with RedisServer() as server:
        async with worker(server.url, keys, add):
            server.kill()
            server.start()
            async with await connect(server.url) as bus:

                async def registered() -> bool:
                    return bool(await bus.call("HEXISTS", keys.registry_tools, "add"))

                await wait_until(registered, description="the tool to be registered again", timeout=30)


async def test_a_worker_that_ends_offers_nothing_again_whatever_becomes_of_the_server(
    keys: Keys, caller: Caller
) -> None:
    registry, stop = ToolRegistry(caller.bus, keys, caller.clock), asyncio.Event()
    registrar = registering.Registrar(registry, "w-1-abcdef", {"add": add}, {"add": "default"}, timeout_s=1)

    async def offered() -> list[str]:
        return list(json.loads(await caller.bus.call("HGET", keys.registry_tools, "add"))["workers"])

    await registrar.register()
    assert await offered() == ["w-1-abcdef"]
    keeping = asyncio.create_task(registrar.keep(stop))
    await asyncio.sleep(0)
    stop.set()
    registrar.again()
    await keeping
    registrar.again()
    await asyncio.sleep(0)
    assert await offered() == []


async def test_a_server_that_was_emptied_is_told_with_the_next_heartbeat_what_is_offered(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before gateways take the tools for gone, which wait 5 s."""
    monkeypatch.setattr(registering, "REGISTER_EVERY_S", 3600)
    with RedisServer() as server:
        async with worker(server.url, keys, add), await connect(server.url) as bus:
            await bus.call("FLUSHALL")

            async def registered() -> bool:
                return bool(await bus.call("HEXISTS", keys.registry_tools, "add"))

            await wait_until(registered, description="the tool to be registered again", timeout=30)


@pytest.mark.parametrize(("limit_s", "told_ms"), [(0.0001, 1), (1.5, 1500), (400 * 24 * 3600.0, LONGEST_MS)])
async def test_a_limit_is_registered_as_a_time_that_there_is(
    redis_url: str, keys: Keys, caller: Caller, limit_s: float, told_ms: int
) -> None:
    async with worker(redis_url, keys, add, tool_timeout=limit_s):
        found = json.loads(await caller.bus.call("HGET", keys.registry_tools, "add"))
    assert found["timeout_ms"] == told_ms


async def test_a_docstring_that_is_reworded_is_rolled_out_without_a_word_of_the_old_one_in_between(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registering, "REGISTER_EVERY_S", 0.02)
    said: list[tuple[str, str]] = []
    publish = ToolRegistry.publish

    async def known() -> str:
        return str(json.loads(await caller.bus.call("HGET", keys.registry_tools, "add"))["description"])

    async def published(registry: ToolRegistry, registration: Any, *, worker: str, **options: Any) -> None:
        await publish(registry, registration, worker=worker, **options)
        said.append((registration.description, await known()))

    @function_tool(queue="default", name_override="add")
    async def reworded(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: The one.
            b: The other.
        """
        return a + b

    async with worker(redis_url, keys, add):
        async with worker(redis_url, keys, reworded):
            monkeypatch.setattr(ToolRegistry, "publish", published)
            await wait_until(lambda: len({mine for mine, _ in said[-10:]}) == 2, description="both to register again")
            await wait_until(lambda: len(said) >= 20, description="them to do so again and again")
            assert {now for _, now in said} == {"Add two numbers."}

        async def alone() -> bool:
            return await known() == "Add."

        await wait_until(alone, description="the words of the one that is left")


async def test_a_call_that_no_worker_survives_is_given_up_with_its_history_and_its_caller_told(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    """Workers that die of it, one after another: the last to take it does not start it any more."""
    victims = ["host-1-aaaaaa", "host-2-bbbbbb"]
    await _killing(caller, keys, victims, idempotent=True)
    async with worker(redis_url, keys, add, max_deliveries=2):
        result = await caller.result()
        assert (result.outcome, result.error and result.error.kind) == (Outcome.ERROR, "dead_lettered")
        assert "given up" in result.output
        letter = await _letter(caller, keys)
        assert (letter["reason"], letter["deliveries"]) == ("too_many_deliveries", "3")
        assert [start["worker"] for start in json.loads(letter["history"])] == victims

        # an operator has mended what killed them
        box = LetterBox(caller.bus, keys, caller.clock)
        (dead,) = [one async for one in box.letters(queue="default")]
        await box.replay(dead)
        await wait_until(lambda: len(caller.results()) == 2, description="the answer after the replay")
    assert caller.results()[1].output == "3"


async def test_a_call_that_may_have_taken_effect_is_given_up_as_one_of_unknown_outcome(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    """The second victim died of another call, before it could say so."""
    await _killing(caller, keys, ["host-1-aaaaaa", "host-2-bbbbbb"], idempotent=False)
    async with worker(redis_url, keys, add, max_deliveries=2):
        result = await caller.result()
        assert (result.outcome, result.error and result.error.kind) == (Outcome.UNKNOWN, "dead_lettered")
        assert [start["worker"] for start in json.loads((await _letter(caller, keys))["history"])] == ["host-1-aaaaaa"]


async def _killing(caller: Caller, keys: Keys, victims: list[str], *, idempotent: bool) -> None:
    """A call is delivered to one worker after the other; each starts it, as far as it may, and is never heard of."""
    stream, record = keys.tools("default"), keys.call("default", "s1", "c1")
    caller.call("add", '{"a": 1, "b": 2}', idempotent=idempotent)
    await wait_until(lambda: caller.stream(stream), description="the call")
    await caller.bus.call("XGROUP", "CREATE", stream, "workers", "0")
    reply = await caller.bus.call("XREADGROUP", "GROUP", "workers", victims[0], "COUNT", 1, "STREAMS", stream, ">")
    entry_id = reply[0][1][0][0]
    for n, victim in enumerate(victims):
        if n:
            await caller.bus.call("XCLAIM", stream, "workers", victim, 0, entry_id)
        lost = victims[n - 1] if n else ""
        await caller.bus.script(CLAIM, [record], victim, 1, caller.inbox.stream, "", int(idempotent), 60, lost)


async def _letter(caller: Caller, keys: Keys) -> dict[str, str]:
    async def letters() -> list[dict[str, str]]:
        return await caller.stream(keys.dead("default"))

    (letter,) = await wait_until(letters, description="the dead letter")
    return letter


def _flat(entry: Any) -> list[str]:
    return [text for pair in entry.fields().items() for text in pair]
