"""`ToolWorker`: what happens to a tool call, whatever happens to its worker."""

import asyncio
import json
import threading
from typing import Any

import pytest
from redis.exceptions import ResponseError

from support.servers import RedisServer
from support.tool_calls import Caller, calling, worker
from support.waiting import wait_until
from voicebus import (
    FunctionTool,
    RealtimeAgent,
    ToolContext,
    ToolGuardrailFunctionOutput,
    UserError,
    background_result,
    function_tool,
    tool_input_guardrail,
    tool_output_guardrail,
)
from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.contact import Contact
from voicebus.adapters.redis.dispatch import RedisToolDispatch
from voicebus.adapters.redis.heartbeat import living
from voicebus.adapters.redis.scripts import CLAIM, Script
from voicebus.agents.tools.handling import CallHandling
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import TOOL_RESULT, Outcome, ToolCall
from voicebus.engine.outputs import DispatchTool
from voicebus.errors import BusError


@function_tool(queue="default")
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@function_tool(queue="default")
def thread_name() -> str:
    """Name the thread that this runs in."""
    return threading.current_thread().name


@function_tool(queue="default")
def broken() -> str:
    """Fail."""
    raise ValueError("out of stock")


@function_tool(queue="default")
async def key(context: ToolContext[Any]) -> str:
    """Tell the idempotency key."""
    return context.idempotency_key


class Blocking:
    """An async tool that tells when it started and how it ended, and waits to be let go."""

    def __init__(self, *, idempotent: bool = False) -> None:
        self.starts = 0
        self.cancelled = asyncio.Event()
        self.go = asyncio.Event()

        async def wait() -> str:
            """Wait."""
            self.starts += 1
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return "done"

        self.tool = function_tool(queue="default", idempotent=idempotent, name_override="wait")(wait)


async def test_a_call_is_run_answered_and_acknowledged(redis_url: str, keys: Keys, caller: Caller) -> None:
    async with worker(redis_url, keys, add):
        caller.call("add", '{"a": 2, "b": 3}')
        result = await caller.result()
        assert (result.outcome, result.output, result.error) == (Outcome.OK, "5", None)

        async def acknowledged() -> bool:
            return await caller.pending(keys.tools("default")) == 0

        await wait_until(acknowledged, description="the acknowledgement")
        assert await caller.bus.call("EXISTS", keys.worker(result.worker)) == 1


async def test_a_call_that_takes_a_while_is_said_to_have_started_by_the_worker_that_answers_it(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    blocking = Blocking()
    async with worker(redis_url, keys, blocking.tool):
        caller.call("wait")
        started = await caller.started()
        blocking.go.set()
        assert (await caller.result()).worker == started.worker


async def test_a_call_that_ends_at_once_is_told_by_its_result_alone(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus.agents.tools.starts.TELL_START_S", 0.5)
    async with worker(redis_url, keys, key):
        caller.call("key")
        await caller.result()
    assert [entry.type for entry in caller.received] == [TOOL_RESULT]


async def test_a_server_that_refuses_scripts_of_several_hash_tags_has_results_stored_first_and_then_sent(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    script = RedisConnection.script

    def as_of_a_cluster(self: RedisConnection, run: Script, names: list[str], *arguments: str | int) -> Any:
        if len({name[name.find("{") : name.find("}")] for name in names}) > 1:
            refused.append(run.name)
            error = ResponseError("CROSSSLOT Keys in request don't hash to the same slot")
            raise BusError("refused") from error
        return script(self, run, names, *arguments)

    monkeypatch.setattr(RedisConnection, "script", as_of_a_cluster)
    async with worker(redis_url, keys, key):
        for call in ("c1", "c2"):
            caller.call("key", call_id=call)
            assert (await caller.result(call)).output == f"s1:{call}"
    assert refused == ["conclude"]
    assert await caller.bus.call("HGET", keys.call("default", "s1", "c2"), "state") == "finished"


async def test_calls_that_waited_for_a_worker_are_run(redis_url: str, keys: Keys, caller: Caller) -> None:
    caller.call("key")
    async with worker(redis_url, keys, key):
        assert (await caller.result()).output == "s1:c1"


async def test_no_caller_has_an_answer_written_into_another_stream_of_ours(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    foreign = keys.events(3)
    dispatch = RedisToolDispatch(caller.bus, caller.tools._outbox, caller.clock, keys, reply_to=foreign)
    async with worker(redis_url, keys, add):
        dispatch.dispatch(caller.session, DispatchTool("c1", "add", '{"a": 1, "b": 1}', "a", "default", 10_000, False))

        async def letters() -> list[dict[str, str]]:
            return await caller.stream(keys.dead("default"))

        (letter,) = await wait_until(letters, description="the dead letter")
    assert letter["reason"] == "malformed"
    assert foreign in letter["error"]
    assert await caller.bus.call("EXISTS", foreign) == 0


async def test_functions_that_are_not_async_run_in_threads(redis_url: str, keys: Keys, caller: Caller) -> None:
    async with worker(redis_url, keys, thread_name):
        caller.call("thread_name")
        assert (await caller.result()).output.startswith("tool-")


async def test_an_error_becomes_what_the_model_is_told(redis_url: str, keys: Keys, caller: Caller) -> None:
    async with worker(redis_url, keys, broken, add):
        caller.call("broken")
        caller.call("add", '{"a": "many"}', call_id="c2")
        result, refused = await caller.result(), await caller.result("c2")
    assert result.outcome is Outcome.ERROR
    assert "out of stock" in result.output
    assert result.error is not None
    assert result.error.kind == "raised"
    assert refused.error is not None
    assert refused.error.kind == "invalid_arguments"


async def test_a_tool_finds_the_agent_that_calls_it(redis_url: str, keys: Keys, caller: Caller) -> None:
    @function_tool(queue="default")
    async def who(context: ToolContext[Any]) -> str:
        """Tell who calls."""
        assert context.agent is not None
        return f"{context.agent.name} {context.agent.instructions} {context.context}"

    async with worker(redis_url, keys, who, context="here"):
        caller.call("who")
        assert (await caller.result()).output == "greeter None here"
    known: RealtimeAgent[Any] = RealtimeAgent("greeter", instructions="Greet.")
    async with worker(redis_url, keys, who, agents=[known]):
        caller.call("who", call_id="c2")
        assert (await caller.result("c2")).output == "greeter Greet. {}"


async def test_a_tool_made_by_hand_runs_on_a_worker(redis_url: str, keys: Keys, caller: Caller) -> None:
    async def look(context: ToolContext[Any], arguments: str) -> dict[str, str]:
        return {context.tool_call_id: arguments}

    async with worker(redis_url, keys, FunctionTool("look", "Look.", {}, look, queue="default")):
        caller.call("look", '{"a": 1}')
        assert json.loads((await caller.result()).output) == {"c1": '{"a": 1}'}


async def test_a_background_result_says_so(redis_url: str, keys: Keys, caller: Caller) -> None:
    @function_tool(queue="default")
    async def note() -> Any:
        """Note."""
        return background_result("noted")

    async with worker(redis_url, keys, note, add):
        caller.call("note")
        caller.call("add", '{"a": 1, "b": 1}', call_id="c2")
        result = await caller.result()
        assert (result.output, result.background) == ("noted", True)
        assert (await caller.result("c2")).background is False


async def test_a_worker_asks_the_guardrails_of_a_call_that_nobody_vetted(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    @tool_input_guardrail
    def nobody(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content("Not now.")

    @tool_output_guardrail
    async def polite(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content(f"{data.output}, please")

    @function_tool(queue="default", tool_input_guardrails=[nobody], tool_output_guardrails=[polite])
    async def pay() -> str:
        """Pay."""
        return "paid"

    async with worker(redis_url, keys, pay):
        caller.call("pay")
        assert (await caller.result()).output == "Not now."
        caller.call("pay", call_id="c2", vetted=True)
        assert (await caller.result("c2")).output == "paid, please"


async def test_an_error_that_the_program_keeps_to_itself_reaches_only_the_session(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    @function_tool(queue="default", failure_error_function=None)
    async def boom() -> str:
        """Fail."""
        raise ValueError("out of stock")

    async with worker(redis_url, keys, boom):
        caller.call("boom")
        result = await caller.result()
        assert result.error is not None
        assert (result.error.kind, result.error.message) == ("raised_unhandled", "ValueError: out of stock")
        assert "out of stock" not in result.output


async def test_a_call_past_its_deadline_is_not_started(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking = Blocking()
    caller.call("wait", timeout_ms=200)
    first = await wait_until(lambda: caller.stream(keys.tools("default")), description="the call in its queue")
    deadline = int(first[0]["deadline"])
    await wait_until(lambda: caller.clock.at_ms() >= deadline, description="the deadline")
    async with worker(redis_url, keys, blocking.tool):
        assert (await caller.result()).outcome is Outcome.EXPIRED
    assert blocking.starts == 0


async def test_a_call_that_runs_past_its_deadline_times_out(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking = Blocking()
    async with worker(redis_url, keys, blocking.tool):
        caller.call("wait", timeout_ms=300)
        assert (await caller.result()).outcome is Outcome.TIMEOUT
        await asyncio.wait_for(blocking.cancelled.wait(), 10)


async def test_a_cancelled_call_is_stopped_where_it_runs(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking = Blocking()
    async with worker(redis_url, keys, blocking.tool):
        caller.call("wait")
        started = await caller.started()
        caller.cancel(worker=started.worker)
        await asyncio.wait_for(blocking.cancelled.wait(), 10)
        assert (await caller.result()).outcome is Outcome.CANCELLED


async def test_a_call_cancelled_before_it_started_never_starts(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking = Blocking()
    caller.call("wait")
    caller.cancel()

    async def marked() -> object:
        return await caller.bus.call("HGET", keys.call("default", "s1", "c1"), "cancelled")

    await wait_until(marked, description="the cancel")
    async with worker(redis_url, keys, blocking.tool):
        assert (await caller.result()).outcome is Outcome.CANCELLED
    assert blocking.starts == 0


async def test_a_call_published_again_is_answered_from_its_stored_result(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    runs = []

    @function_tool(queue="default")
    async def count() -> int:
        """Count."""
        runs.append(1)
        return len(runs)

    async with worker(redis_url, keys, count):
        caller.call("count")
        await caller.result()
        caller.call("count")
        await wait_until(lambda: len(caller.results()) == 2, description="the second answer")
    assert [result.output for result in caller.results()] == ["1", "1"]


async def test_a_call_that_comes_again_while_its_result_is_being_stored_is_answered_once_for_each_time(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    storing: list[str] = []
    both = asyncio.Event()
    finish = CallHandling.finish

    async def together(self: Any, result: Any, **options: Any) -> Any:
        storing.append(result.call_id)
        if len(storing) == 2:
            both.set()
        await both.wait()
        return await finish(self, result, **options)

    async def acknowledged() -> bool:
        return await caller.pending(keys.tools("default")) == 0

    @function_tool(queue="default")
    async def once() -> str:
        """Count."""
        runs.append(1)
        return "done"

    monkeypatch.setattr(CallHandling, "finish", together)
    async with worker(redis_url, keys, once):
        caller.call("once")
        await wait_until(lambda: storing, description="a result that is being stored")
        caller.call("once")
        await wait_until(lambda: len(caller.results()) == 2, description="both answers")
        await wait_until(acknowledged, description="both entries to be acknowledged")
    assert [result.output for result in caller.results()] == ["done", "done"]
    assert runs == [1]


async def test_a_result_that_could_not_be_stored_at_first_is_stored_without_running_again(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    failures = [RuntimeError("no room for it")]
    finish = CallHandling.finish

    async def sometimes(self: Any, result: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await finish(self, result, **options)

    @function_tool(queue="default")
    async def once() -> str:
        """Count."""
        runs.append(1)
        return "done"

    monkeypatch.setattr(CallHandling, "finish", sometimes)
    async with worker(redis_url, keys, once):
        caller.call("once")
        result = await caller.result()
    assert (result.outcome, result.output) == (Outcome.OK, "done")
    assert runs == [1]


async def test_a_call_published_again_while_it_runs_is_answered_to_its_new_owner(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    blocking = Blocking()
    async with worker(redis_url, keys, blocking.tool), calling(redis_url, keys, "g2") as successor:
        caller.call("wait")
        await caller.started()
        successor.call("wait")

        async def known() -> bool:
            return bool(
                await caller.bus.call("HGET", keys.call("default", "s1", "c1"), "reply_to") == successor.inbox.stream
            )

        await wait_until(known, description="the new address")
        blocking.go.set()
        assert (await successor.result()).output == "done"
    assert blocking.starts == 1
    assert caller.results() == []


@pytest.mark.parametrize(("idempotent", "outcome"), [(False, Outcome.UNKNOWN), (True, Outcome.OK)])
async def test_a_call_whose_worker_died_after_its_start(
    redis_url: str, keys: Keys, caller: Caller, idempotent: bool, outcome: Outcome
) -> None:
    """One that is not idempotent is reported as unknown, an idempotent one runs again."""
    await _start_on_a_worker_that_dies(caller, keys, idempotent=idempotent)
    blocking = Blocking(idempotent=idempotent)
    blocking.go.set()
    async with worker(redis_url, keys, blocking.tool):
        assert (await caller.result()).outcome is outcome
    assert blocking.starts == (1 if idempotent else 0)


async def test_a_call_is_not_given_up_while_it_may_be_redis_that_stood_still_and_not_its_worker(
    redis_url: str, keys: Keys, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where its entry would be taken over, nor where a copy of it comes to another worker."""
    stands_still = True
    asked: list[str] = []

    def is_unbroken(contact: Contact, server: str) -> bool:
        asked.append(server)
        return not stands_still

    monkeypatch.setattr(Contact, "is_unbroken", is_unbroken)
    await _start_on_a_worker_that_dies(caller, keys, idempotent=False)
    async with worker(redis_url, keys, Blocking().tool):
        caller.call("wait")
        await wait_until(lambda: len(asked) >= 8, description="both to be asked about")
        assert caller.results() == []
        stands_still = False
        assert (await caller.result()).outcome is Outcome.UNKNOWN


async def test_a_call_that_a_dead_worker_had_not_started_is_run(redis_url: str, keys: Keys, caller: Caller) -> None:
    await _start_on_a_worker_that_dies(caller, keys, idempotent=False, claimed=False)
    blocking = Blocking()
    blocking.go.set()
    async with worker(redis_url, keys, blocking.tool):
        assert (await caller.result()).outcome is Outcome.OK


async def test_a_worker_that_lacks_the_tool_says_of_a_dead_workers_call_what_became_of_it(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    """Where nobody else has the tool: one that may have taken effect is not said to be impossible."""
    await _start_on_a_worker_that_dies(caller, keys, idempotent=False)
    async with worker(redis_url, keys, add):
        assert (await caller.result()).outcome is Outcome.UNKNOWN


async def test_a_living_workers_long_call_is_never_taken(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking, other = Blocking(), Blocking()
    async with worker(redis_url, keys, blocking.tool, concurrency=1):
        caller.call("wait")
        await caller.started()
        async with worker(redis_url, keys, other.tool):
            # longer than a heartbeat may be late, with a second worker that looks for abandoned calls all the time
            await asyncio.sleep(3.0)
        assert (blocking.starts, other.starts) == (1, 0)
        blocking.go.set()
        assert (await caller.result()).output == "done"


async def test_a_tool_that_the_worker_lacks_reaches_the_one_that_has_it(
    redis_url: str, keys: Keys, caller: Caller
) -> None:
    async with worker(redis_url, keys, key), worker(redis_url, keys, add):
        for n in range(20):
            caller.call("add", json.dumps({"a": n, "b": 1}), call_id=f"c{n}")
        results = [await caller.result(f"c{n}") for n in range(20)]
    assert [result.output for result in results] == [str(n + 1) for n in range(20)]


async def test_a_tool_that_nobody_has_fails_at_once(redis_url: str, keys: Keys, caller: Caller) -> None:
    async with worker(redis_url, keys, add):
        caller.call("no_such_tool")
        result = await caller.result()
    assert result.outcome is Outcome.ERROR
    assert result.error is not None
    assert result.error.kind == "unknown_tool"


async def test_an_entry_of_a_newer_version_goes_to_the_dead_letters(redis_url: str, keys: Keys, caller: Caller) -> None:
    stream = keys.tools("default")
    caller.call("add")
    (fields,) = await wait_until(lambda: caller.stream(stream), description="the call")
    newer = [part for pair in (fields | {"v": "2", "id": "newer"}).items() for part in pair]
    await caller.bus.call("XADD", stream, "*", *newer)
    await caller.bus.call("XADD", stream, "*", "v", "1", "id", "x", "type", "tool.call", "data", "no json")
    async with worker(redis_url, keys, add):

        async def letters() -> list[dict[str, Any]]:
            found = await caller.stream(keys.dead("default"))
            return found if len(found) == 2 else []

        found = await wait_until(letters, description="two dead letters")
    assert {letter["reason"] for letter in found} == {"unsupported_version", "malformed"}
    assert {letter["origin"].partition("/")[0] for letter in found} == {stream}
    assert "newer" in {letter["id"] for letter in found}


async def test_a_stopping_worker_finishes_what_it_has_in_hand(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking = Blocking()
    stop = asyncio.Event()
    task = asyncio.create_task(worker(redis_url, keys, blocking.tool).run(stop))
    caller.call("wait")
    await caller.started()
    stop.set()
    caller.call("wait", call_id="c2")
    blocking.go.set()
    await task
    assert (await caller.result()).outcome is Outcome.OK
    names = [row[1] for row in await caller.bus.call("XINFO", "CONSUMERS", keys.tools("default"), "workers")]
    assert names == []
    async with worker(redis_url, keys, blocking.tool):
        assert (await caller.result("c2")).outcome is Outcome.OK  # whoever got it
    assert blocking.starts == 2


async def test_what_is_not_finished_in_time_goes_to_another_worker(redis_url: str, keys: Keys, caller: Caller) -> None:
    blocking = Blocking(idempotent=True)
    stop = asyncio.Event()
    first = asyncio.create_task(worker(redis_url, keys, blocking.tool, drain_timeout=0.2).run(stop))
    caller.call("wait", idempotent=True)
    await caller.started()
    async with worker(redis_url, keys, blocking.tool):
        stop.set()
        await first
        await wait_until(lambda: blocking.starts == 2, description="the second start")
        blocking.go.set()
        assert (await caller.result()).outcome is Outcome.OK


async def test_workers_register_their_tools_and_beat(redis_url: str, keys: Keys, caller: Caller) -> None:
    async with worker(redis_url, keys, add):
        registered = json.loads(await caller.bus.call("HGET", keys.registry_tools, "add"))
        (name,) = registered["workers"]
        assert await living(caller.bus, [keys.worker(name)]) == [True]
        beat = await caller.bus.call("HGETALL", keys.worker(name))
        beat = dict(zip(beat[::2], beat[1::2], strict=True)) if isinstance(beat, list) else beat
        assert json.loads(beat["tools"]) == ["add"]
        assert int(beat["at"]) > 0
    assert await living(caller.bus, [keys.worker(name)]) == [False]
    assert json.loads(await caller.bus.call("HGET", keys.registry_tools, "add"))["workers"] == []
    assert registered["parameters"] == add.params_json_schema


async def test_what_needs_approval_is_registered_as_such(redis_url: str, keys: Keys, caller: Caller) -> None:
    async def large(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        return True

    @function_tool(queue="default", needs_approval=large)
    async def pay() -> str:
        """Pay."""
        return "paid"

    async with worker(redis_url, keys, pay, add):
        told = {
            name: json.loads(await caller.bus.call("HGET", keys.registry_tools, name))["needs_approval"]
            for name in ("pay", "add")
        }
    assert told == {"pay": True, "add": False}


async def test_two_schemas_under_one_name_are_refused(redis_url: str, keys: Keys, caller: Caller) -> None:
    @function_tool(queue="default", name_override="add")
    async def other(numbers: list[int]) -> int:
        """Add."""
        return sum(numbers)

    async with worker(redis_url, keys, add):
        with pytest.raises(UserError, match=r"^tool 'add' is offered with two schemas: by worker .* and by this"):
            async with worker(redis_url, keys, other):
                pass
    async with worker(redis_url, keys, other):
        pass  # the workers of the other schema are gone


async def test_a_worker_without_redis_says_so_at_once(keys: Keys) -> None:
    with pytest.raises(BusError, match="cannot be reached"):
        async with worker("redis://127.0.0.1:1/0", keys, add):
            pass


@pytest.mark.parametrize("persistent", [True, False])
async def test_work_goes_on_after_redis_was_away(persistent: bool) -> None:
    """Also where Redis comes back empty: groups, records and the inbox are made again."""
    keys = Keys("vb")
    blocking = Blocking()
    with RedisServer(persistent=persistent) as server:
        async with calling(server.url, keys) as caller, worker(server.url, keys, add, blocking.tool):
            caller.call("wait")
            await caller.started()
            server.kill()
            blocking.go.set()
            caller.call("add", '{"a": 1, "b": 1}', call_id="c2")
            server.start()
            assert (await caller.result()).output == "done"
            assert (await caller.result("c2")).output == "2"
    assert blocking.starts == 1


async def _start_on_a_worker_that_dies(caller: Caller, keys: Keys, *, idempotent: bool, claimed: bool = True) -> None:
    """A worker takes the call, claims it as its own, and is never heard of again."""
    dead, stream = "host-1-abcdef", keys.tools("default")
    caller.call("wait", idempotent=idempotent)
    await wait_until(lambda: caller.stream(stream), description="the call")
    await caller.bus.call("XGROUP", "CREATE", stream, "workers", "0")
    reply = await caller.bus.call("XREADGROUP", "GROUP", "workers", dead, "COUNT", 1, "STREAMS", stream, ">")
    call = ToolCall.model_validate_json(reply[0][1][0][1]["data"])
    if claimed:
        arguments = (dead, 1, call.reply_to, "", int(idempotent), 60, "")
        status = await caller.bus.script(CLAIM, [keys.call("default", "s1", "c1")], *arguments)
        assert status == ["start", "1"]
