"""A session in the program's own process, over a real socket: what programs do with it, and what it shows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from operator import contains
from typing import Any

import pytest

from support.simulator import SimulatorHandle, running_simulator
from support.waiting import wait_until
from voicebus import (
    GuardrailFunctionOutput,
    ModelLinkError,
    NotConnectedError,
    OpenAIRealtimeWebSocketModel,
    OutputGuardrail,
    RealtimeAgent,
    RealtimeModelEvent,
    RealtimeModelListener,
    RealtimeModelSendRawMessage,
    RealtimePlaybackState,
    RealtimePlaybackTracker,
    RealtimeRunConfig,
    RealtimeRunHooks,
    RealtimeRunner,
    RealtimeSession,
    RunContextWrapper,
    UserError,
    VoicebusError,
    function_tool,
    realtime_handoff,
)
from voicebus.testing import Drop, ScriptedRealtimeServer, ServerStep, audio_turn, text_turn

pytestmark = pytest.mark.usefixtures("delivery")

KEY = "test-key"


@function_tool
async def find_rate(city: str) -> str:
    """Find what a room costs."""
    return f"a room in {city} is 100"


def agent(**fields: Any) -> RealtimeAgent[Any]:
    return RealtimeAgent(**{"name": "desk", "instructions": "You help.", **fields})


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorHandle]:
    async with running_simulator() as handle:
        yield handle


async def session_of(
    url: str, who: RealtimeAgent[Any] | None = None, config: RealtimeRunConfig | None = None, **more: Any
) -> RealtimeSession:
    options: Any = {"url": url, "api_key": KEY, **more.pop("model_config", {})}
    return await RealtimeRunner(who or agent(), config=config).run(model_config=options, **more)


def label(event: Any) -> str:
    """What an event is, in one word or two."""
    if event.type == "raw_model_event":
        return f"raw {event.data.type}"
    return str(event.type)


async def until(session: RealtimeSession, kind: str, times: int = 1) -> list[Any]:
    """Events up to the `times`-th of `kind`."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        async for event in session:
            events.append(event)
            times -= event.type == kind
            if times == 0:
                break
    return events


def without_server(events: list[Any]) -> list[str]:
    return [label(event) for event in events if label(event) != "raw raw_server_event"]


# --- what a turn looks like ---------------------------------------------------------------------------


async def test_a_turn_is_shown_in_the_order_that_programs_know() -> None:
    async with (
        ScriptedRealtimeServer([ServerStep("response.create", audio_turn("Hi.", bytes(960)))]) as server,
        await session_of(server.url) as session,
    ):
        await session.send_message("Hello")
        events = await until(session, "agent_end")
    kinds = [label(event) for event in events]
    assert kinds[0] == "history_updated"
    assert events[0].history == []
    assert kinds[1] == "raw raw_server_event"
    shown = without_server(events)
    assert shown.index("raw turn_started") == shown.index("agent_start") - 1
    for index, kind in enumerate(shown):
        if kind in ("history_added", "history_updated") and index:
            assert shown[index - 1] in ("raw item_updated", "raw input_audio_transcription_completed")
    first = shown.index("raw audio")
    assert shown[first : first + 3] == ["raw audio", "audio_start", "audio"]
    assert shown[-2:] == ["raw turn_ended", "agent_end"]
    assert events[-1].output == "Hi."
    assert b"".join(event.audio.data for event in events if event.type == "audio") == bytes(960)
    audio = next(event for event in events if event.type == "audio")
    assert (audio.item_id, audio.content_index) == (audio.audio.item_id, 0)
    raw = next(event.data.data for event in events if label(event) == "raw raw_server_event" and event.data.data["type"].endswith("audio.delta"))  # fmt: skip # noqa: E501
    assert raw["event_id"]
    assert raw["delta"]


async def test_a_tool_is_run_and_its_object_shown(simulator: SimulatorHandle) -> None:
    told: list[Any] = []

    @function_tool
    def look_up(context: RunContextWrapper[dict[str, int]], city: str) -> dict[str, str]:
        """Look something up."""
        told.append(context.context)
        return {"city": city}

    context = {"caller": 7}
    async with await session_of(simulator.url, agent(tools=[look_up]), context=context) as session:
        await session.send_message('[[call: look_up {"city": "Rome"}]] [[next]] [[say: {outputs}]]')
        events = await until(session, "agent_end", 2)
        start = next(event for event in events if event.type == "tool_start")
        end = next(event for event in events if event.type == "tool_end")
        assert (start.tool, start.agent, start.arguments) == (look_up, session.current_agent, '{"city": "Rome"}')
        assert (end.tool, end.output, end.outcome, end.call_id) == (look_up, {"city": "Rome"}, "ok", start.call_id)
        assert told == [context]
        assert told[0] is context
        assert events[-1].output == '{"city": "Rome"}'
        shown = without_server(events)
        begun, ended = shown.index("tool_start"), shown.index("tool_end")
        assert shown[begun - 1] == "raw function_call"
        assert shown[ended - 2 : ended] == ["raw item_updated", "history_updated"]
        assert events[0].info.context.context is context
        assert [record["type"] for record in session.records].count("tool_end") == 1
        assert [item.type for item in session.history] == ["message", "function_call", "message"]


async def test_a_session_says_what_it_knows_of_itself(simulator: SimulatorHandle) -> None:
    who = agent()
    session = await session_of(simulator.url, who, context="caller")
    assert (session.history, session.records, session.model_session_id) == ([], [], None)
    assert session.current_agent is who
    async with session:
        await session.send_message("[[say: Yes.]]")
        await until(session, "agent_end")
        assert session.context.context == "caller"
        assert session.usage.requests == 1
        assert session.usage.total_tokens > 0
        assert session.usage is session.context.usage
        assert [item.role for item in session.history] == ["user", "assistant"]  # type: ignore[union-attr]
        assert session.model_session_id in {entry["session"] for entry in simulator.ledger()}
        assert len(session.id) == 26
        assert not session.closed
    assert session.closed
    assert session.records[0]["type"] == "session_started"
    assert session.records[-1]["type"] == "session_ended"
    assert [record["seq"] for record in session.records] == list(range(1, len(session.records) + 1))


async def test_a_handoff_shows_both_agents_and_changes_who_is_in_charge(simulator: SimulatorHandle) -> None:
    second = agent(name="bookings")
    first = agent(handoffs=[realtime_handoff(second)])
    async with await session_of(simulator.url, first) as session:
        await session.send_message("[[call: transfer_to_bookings {}]] [[next]] [[say: Here I am.]]")
        events = await until(session, "agent_end", 2)
        handoff = next(event for event in events if event.type == "handoff")
        assert (handoff.from_agent, handoff.to_agent) == (first, second)
        assert [event.agent for event in events if event.type == "agent_end"] == [first, second]
        assert session.current_agent is second


async def test_a_call_waits_for_approval_and_may_be_refused(simulator: SimulatorHandle) -> None:
    @function_tool(needs_approval=True)
    async def refund(amount: int) -> str:
        """Refund money."""
        return f"refunded {amount}"

    async with await session_of(simulator.url, agent(tools=[refund])) as session:
        await session.approve_tool_call("nobody's")
        for decide, output in (
            (session.approve_tool_call, "refunded 5"),
            (session.reject_tool_call, "Tool execution was not approved."),
        ):
            await session.send_message('[[call: refund {"amount": 5}]] [[next]] [[say: {outputs}]]')
            asked = (await until(session, "tool_approval_required"))[-1]
            assert (asked.tool, asked.arguments) == (refund, '{"amount": 5}')
            await decide(asked.call_id)
            end = (await until(session, "tool_end"))[-1]
            assert (end.output, end.call_id) == (output, asked.call_id)
            await until(session, "agent_end")
        assert [record["type"] for record in session.records].count("tool_approval_decided") == 2


async def test_a_guardrail_shows_what_it_found(simulator: SimulatorHandle) -> None:
    found = object()

    async def no_prices(_: Any, who: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(found, "100" in text)

    guardrail = OutputGuardrail[Any](no_prices)
    who = agent(output_guardrails=[guardrail])
    async with await session_of(simulator.url, who) as session:
        await session.send_message("[[say: It is 100 euros.]]")
        event = (await until(session, "guardrail_tripped"))[-1]
        assert [(one.guardrail, one.agent, one.output.output_info) for one in event.guardrail_results] == [
            (guardrail, who, found)
        ]
        assert "100" in event.message


async def test_hooks_are_told_and_may_close_the_session(simulator: SimulatorHandle) -> None:
    told: list[str] = []

    class Hooks(RealtimeRunHooks[Any]):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            told.append(f"start {agent.name}")

        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            told.append(f"tool {tool.name}")

        async def on_agent_end(self, context: Any, agent: Any, output: Any) -> None:
            told.append(f"end {output}")
            if output:
                await session.close()

    session = await session_of(simulator.url, agent(tools=[find_rate]), {"hooks": Hooks()})
    async with session:
        await session.send_message('[[call: find_rate {"city": "Rome"}]] [[next]] [[say: Done.]]')
        async with asyncio.timeout(20):
            async for _ in session:
                pass
        await session.close()
    assert told == ["start desk", "tool find_rate", "end ", "start desk", "end Done."]


async def test_what_a_hook_raises_is_an_error_and_ends_nothing(simulator: SimulatorHandle) -> None:
    class Hooks(RealtimeRunHooks[Any]):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            raise ValueError("hooked")

    async with await session_of(simulator.url, config={"hooks": Hooks()}) as session:
        await session.send_message("[[say: One.]]")
        error = (await until(session, "error"))[-1].error
        assert (error.code, error.type) == ("hook_failed", "tool_error")
        assert "hooked" in error.message
        await session.send_message("[[say: Two.]]")
        await until(session, "agent_end")


async def test_a_policy_that_raises_is_an_error_and_lets_a_person_decide(simulator: SimulatorHandle) -> None:
    async def policy(*_: Any) -> bool:
        raise ValueError("no policy")

    @function_tool(needs_approval=policy)
    async def refund(amount: int) -> str:
        """Refund money."""
        return f"refunded {amount}"

    async with await session_of(simulator.url, agent(tools=[refund])) as session:
        await session.send_message('[[call: refund {"amount": 5}]]')
        events = await until(session, "tool_approval_required")
        assert [event.error.code for event in events if event.type == "error"] == ["approval_policy_failed"]


async def test_tools_that_wait_are_waited_for_where_the_program_wants_that(simulator: SimulatorHandle) -> None:
    gate = asyncio.Event()

    @function_tool
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    async with await session_of(simulator.url, agent(tools=[wait]), {"async_tool_calls": False}) as session:
        await session.send_message("[[call: wait {}]] [[next]] [[say: {outputs}]]")
        await until(session, "tool_start")
        await asyncio.sleep(0.05)  # the end of the response would have been shown by now
        gate.set()
        shown = without_server(await until(session, "agent_end"))
        assert shown.index("tool_end") < shown.index("agent_end")


# --- speaking -----------------------------------------------------------------------------------------


async def test_messages_of_several_kinds_reach_the_model() -> None:
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("A.")) for _ in range(2)]) as server:
        async with await session_of(server.url) as session:
            picture = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
            await session.send_message(
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look"}, picture]},  # type: ignore[arg-type]
                other_event_data={"previous_item_id": "root"},
            )
            await until(session, "agent_end")
            await session.add_image("https://example.org/a.png", trigger_response=False)
            await session.send_message("And?")
            await until(session, "agent_end")
        creates = [event for event in server.received() if event["type"] == "conversation.item.create"]
        assert creates[0]["item"]["content"] == [{"type": "input_text", "text": "Look"}, picture]
        assert creates[0]["previous_item_id"] == "root"
        assert creates[1]["item"]["content"] == [{"type": "input_image", "image_url": "https://example.org/a.png"}]


async def test_half_a_surrogate_pair_in_a_message_or_the_instructions_ends_nothing() -> None:
    async with ScriptedRealtimeServer([ServerStep("response.create", text_turn("A."))]) as server:
        async with await session_of(server.url, agent(instructions="men\udce9")) as session:
            await session.send_message("men\udce9")
            await until(session, "agent_end")
        [create] = [event for event in server.received() if event["type"] == "conversation.item.create"]
        assert create["item"]["content"][0]["text"] == "men?"


async def test_half_a_surrogate_pair_in_an_answer_lets_it_be_judged_and_end() -> None:
    def forbids(_: Any, __: Any, text: str) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, "vault" in text)

    answers = [text_turn("I like \ud83d the vault"), text_turn("Sorry."), text_turn("Yes.")]
    who = agent(output_guardrails=[OutputGuardrail(forbids, name="forbids")])
    async with ScriptedRealtimeServer([ServerStep("response.create", answer) for answer in answers]) as server:
        async with await session_of(server.url, who) as session:
            await session.send_message("Hello")
            [*_, tripped] = await until(session, "guardrail_tripped")
            assert tripped.message == "I like ? the vault"
            await until(session, "agent_end")
            await session.send_message("Are you there?")
            await until(session, "agent_end")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (7, "message must be"), ({"type": "other", "content": []}, 'type "message"'),
        ({"role": "assistant", "content": []}, 'role "user"'), ({"content": []}, "needs content"),
        ({"content": "text"}, "needs content"), ({"content": [{"type": "audio"}]}, r"content\[0\]"),
        ({"content": ["x"]}, r"content\[0\]"), ({"content": [{"type": "input_text"}]}, "needs text"),
        ({"content": [{"type": "input_image", "image_url": 1}]}, "needs image_url"),
        ({"content": [{"type": "input_image", "image_url": ""}]}, r"content\[0\].image_url must be a data: or https:"),
        ({"content": [{"type": "input_image", "image_url": "ftp://host/a.png"}]}, r"content\[0\].image_url must be"),
        ({"content": [{"type": "input_image", "image_url": "data:,", "detail": 5}]}, r"content\[0\]: detail must be"),
    ],
)  # fmt: skip
async def test_a_message_that_is_none_is_refused(simulator: SimulatorHandle, message: Any, why: str) -> None:
    async with await session_of(simulator.url) as session:
        with pytest.raises(UserError, match=why):
            await session.send_message(message)


async def test_audio_is_sent_committed_and_dropped_while_muted() -> None:
    async with ScriptedRealtimeServer() as server:
        async with await session_of(server.url) as session:
            await session.send_audio(b"\1\0")
            session.mute()
            assert session.muted
            await session.send_audio(b"\2\0")
            session.mute(muted=False)
            await session.send_audio(b"\3\0", commit=True)
            with pytest.raises(UserError, match="bytes"):
                await session.send_audio("text")  # type: ignore[arg-type]
            await wait_until(
                lambda: [e for e in server.received() if e["type"] == "input_audio_buffer.commit"], description="commit"
            )
        assert [event["audio"] for event in server.received() if event["type"] == "input_audio_buffer.append"] == [
            "AQA=", "AwA=",
        ]  # fmt: skip


async def test_interrupting_stops_the_response(simulator: SimulatorHandle) -> None:
    async with await session_of(simulator.url) as session:
        await session.send_message("[[say: One two three four five six seven eight nine ten.]]")
        await until(session, "audio")
        await session.interrupt()
        events = await until(session, "agent_end")
        shown = without_server(events)
        at = shown.index("audio_interrupted")
        assert shown[at - 1] == "raw audio_interrupted"


async def test_an_image_must_have_an_address(simulator: SimulatorHandle) -> None:
    async with await session_of(simulator.url) as session:
        with pytest.raises(UserError, match="image must be"):
            await session.add_image("/etc/passwd")


async def test_another_agent_takes_over_and_one_that_cannot_be_does_not(simulator: SimulatorHandle) -> None:
    first, second = agent(), agent(name="night", instructions="You sleep.", tools=[find_rate])
    async with await session_of(simulator.url, first) as session:
        with pytest.raises(UserError, match="find_rate"):
            await session.update_agent(agent(name="double", tools=[find_rate, find_rate]))
        assert session.current_agent is first
        await session.update_agent(second)
        assert session.current_agent is second
        await session.send_message('[[call: find_rate {"city": "Rome"}]] [[next]] [[say: Done.]]')
        events = await until(session, "agent_end", 2)
        assert all(event.agent is second for event in events if event.type == "agent_end")
        assert next(event for event in events if event.type == "tool_end").tool is find_rate


async def test_history_can_be_given_and_rewritten() -> None:
    said: Any = {"item_id": "m1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    async with ScriptedRealtimeServer() as server:
        session = await session_of(server.url, history=[said])
        assert [item.item_id for item in session.history] == ["m1"]
        async with session:
            await wait_until(lambda: len(session.history) == 1, description="the seed")
            seeded = [item.item_id for item in session.history]
            await session.update_history(lambda items: [])
            await wait_until(lambda: session.history == [], description="the history to be empty")
            with pytest.raises(UserError, match="history must be a list"):
                await session.update_history("text")  # type: ignore[arg-type]
            with pytest.raises(UserError, match=r"history\[0\]"):
                await session.update_history([{"no": "id"}])
            with pytest.raises(UserError, match="no form"):
                await session.update_history([{"item_id": "x", "type": "message", "role": "clown", "content": []}])
        created = [event["item"]["id"] for event in server.received() if event["type"] == "conversation.item.create"]
        deleted = [event["item_id"] for event in server.received() if event["type"] == "conversation.item.delete"]
        assert created == deleted == seeded


async def test_the_model_may_be_listened_to_and_told_raw_messages() -> None:
    heard: list[str] = []

    class Listener(RealtimeModelListener):
        async def on_event(self, event: Any) -> None:
            heard.append(event.type)

    async with (
        ScriptedRealtimeServer([ServerStep("response.create", text_turn("A."))]) as server,
        await session_of(server.url) as session,
    ):
        session.model.add_listener(Listener())
        await session.model.send_event(RealtimeModelSendRawMessage({"type": "response.create"}))
        await until(session, "agent_end")
        await wait_until(lambda: "turn_ended" in heard, description="the listener to hear the end")
        assert heard.index("turn_started") < heard.index("turn_ended")


async def test_a_session_of_a_class_of_ones_own_hears_the_model_until_it_is_closed(simulator: SimulatorHandle) -> None:
    class Heard(RealtimeSession):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.heard: list[str] = []

        async def on_event(self, event: RealtimeModelEvent) -> None:
            self.heard.append(event.type)
            await super().on_event(event)

    model = OpenAIRealtimeWebSocketModel()
    first, second = (Heard(model, agent(), None, {"url": simulator.url, "api_key": KEY}) for _ in range(2))
    for session in (first, second):
        async with session:
            await session.send_message("Hello")
            await wait_until(partial(contains, session.heard, "turn_ended"), description="the end of its turn")
    assert (first.heard.count("turn_ended"), second.heard.count("turn_ended")) == (1, 1)


async def test_a_playback_tracker_says_what_was_heard() -> None:
    tracker = RealtimePlaybackTracker()
    step = ServerStep("response.create", audio_turn("Hi there.", bytes(48_000)))
    async with ScriptedRealtimeServer([step]) as server:
        async with await session_of(server.url, model_config={"playback_tracker": tracker}) as session:
            await session.send_message("Hello")
            audio = next(event for event in await until(session, "agent_end") if event.type == "audio")
            tracker.on_play_ms(audio.item_id, audio.content_index, 250)
            await session.interrupt()
            await wait_until(
                lambda: [e for e in server.received() if e["type"] == "conversation.item.truncate"],
                description="the truncation",
            )
        (cut,) = [event for event in server.received() if event["type"] == "conversation.item.truncate"]
        assert (cut["item_id"], cut["audio_end_ms"]) == (audio.item_id, 250)


async def test_a_tracker_of_a_class_of_ones_own_says_what_was_heard() -> None:
    class Player(RealtimePlaybackTracker):
        playing: str | None = None
        told = 0

        def get_state(self) -> RealtimePlaybackState:
            self.told += self.playing is not None
            return {"current_item_id": self.playing, "current_item_content_index": 0, "elapsed_ms": 250}

    player = Player()
    step = ServerStep("response.create", audio_turn("Hi there.", bytes(48_000)))
    async with ScriptedRealtimeServer([step]) as server:
        async with await session_of(server.url, model_config={"playback_tracker": player}) as session:
            await session.send_message("Hello")
            audio = next(event for event in await until(session, "agent_end") if event.type == "audio")
            player.playing = audio.item_id
            await wait_until(lambda: player.told, description="the question")
            await session.interrupt()
            await server.wait_for("conversation.item.truncate")
        (cut,) = server.received("conversation.item.truncate")
        assert (cut["item_id"], cut["audio_end_ms"]) == (audio.item_id, 250)


# --- beginnings ---------------------------------------------------------------------------------------


async def test_running_does_not_connect_and_a_session_is_entered_once(simulator: SimulatorHandle) -> None:
    session = await session_of(simulator.url)
    assert simulator.ledger() == []
    for speak in (session.send_message("x"), session.send_audio(b""), session.update_history([])):
        with pytest.raises(NotConnectedError, match="not open"):
            await speak
    await session.interrupt()
    await session.approve_tool_call("c")
    await session.on_event(None)  # type: ignore[arg-type]
    assert await session.enter() is session
    with pytest.raises(UserError, match="entered before"):
        await session.enter()
    await session.close()
    with pytest.raises(NotConnectedError, match="has ended"):
        await session.send_message("x")
    await session.interrupt()
    await session.approve_tool_call("c")
    await session.reject_tool_call("c")


async def test_a_session_that_was_never_entered_can_be_closed() -> None:
    session = await session_of("ws://127.0.0.1:9")
    await session.close()
    assert [event async for event in session] == []
    with pytest.raises(UserError, match="entered before"):
        await session.enter()


async def test_a_wrong_agent_is_refused_before_anything_is_dialled() -> None:
    session = await session_of("ws://127.0.0.1:9", agent(tools=[find_rate, find_rate]))
    for _ in range(2):
        with pytest.raises(UserError, match="find_rate"):
            await session.enter()


async def test_a_model_that_cannot_be_reached_leaves_nothing_behind(simulator: SimulatorHandle) -> None:
    model = OpenAIRealtimeWebSocketModel()
    options: Any = {"url": "ws://127.0.0.1:9", "api_key": KEY}
    session = RealtimeSession(model, agent(), None, options)
    with pytest.raises(ModelLinkError, match="cannot be reached"):
        await session.enter()
    options["url"] = simulator.url
    async with session:
        await session.send_message("[[say: Now.]]")
        assert (await until(session, "agent_end"))[-1].output == "Now."


async def test_a_model_that_is_in_use_is_not_taken_from_its_session(simulator: SimulatorHandle) -> None:
    model, options = OpenAIRealtimeWebSocketModel(), {"url": simulator.url, "api_key": KEY}
    async with RealtimeSession(model, agent(), None, options) as session:  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="Already connected"):
            await RealtimeSession(model, agent(), None, options).enter()  # type: ignore[arg-type]
        await session.send_message("[[say: Mine.]]")
        assert (await until(session, "agent_end"))[-1].output == "Mine."


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"model": object()}, "model must be"), ({"agent": "desk"}, "agent must be"),
        ({"run_config": {"debounce": 1}}, "debounce"), ({"history": "x"}, "history must be"),
    ],
)  # fmt: skip
def test_a_session_refuses_what_cannot_be(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        RealtimeSession(**{"model": OpenAIRealtimeWebSocketModel(), "agent": agent(), **wrong})


# --- endings ------------------------------------------------------------------------------------------


async def test_a_connection_that_cannot_be_replaced_is_raised_after_everything_that_came_before() -> None:
    steps = [ServerStep("response.create", [text_turn("Bye."), Drop(4000)])]
    async with ScriptedRealtimeServer(steps) as server, await session_of(server.url) as session:
        await session.send_message("x")
        kinds: list[str] = []

        async def read() -> None:
            async for event in session:
                kinds.append(label(event))  # noqa: PERF401 - what came before the failure counts

        with pytest.raises(ModelLinkError):
            await read()
        assert "agent_end" in kinds
        with pytest.raises(ModelLinkError):
            await read()


async def test_an_error_of_the_server_is_an_event_with_its_fields() -> None:
    error = {"type": "invalid_request_error", "code": "odd", "message": "It is odd.", "param": "x", "event_id": None}
    async with (
        ScriptedRealtimeServer([ServerStep("response.create", {"type": "error", "error": error})]) as server,
        await session_of(server.url) as session,
    ):
        await session.send_message("x")
        events = await until(session, "error")
        assert without_server(events)[-2:] == ["raw error", "error"]
        shown = events[-1].error
        assert (shown.code, shown["message"], shown.type, shown.param) == ("odd", "It is odd.", error["type"], "x")


async def test_closing_ends_tools_and_loops_and_may_be_done_often(simulator: SimulatorHandle) -> None:
    stopped = asyncio.Event()

    @function_tool
    async def never() -> str:
        """Never answers."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    session = await session_of(simulator.url, agent(tools=[never]))
    await session.enter()
    await session.send_message("[[call: never {}]]")
    await until(session, "tool_start")
    reading = asyncio.create_task(_all(session))
    await asyncio.gather(session.close(), session.close())
    assert stopped.is_set()
    assert "tool_start" not in await reading
    await session.close()
    assert session.closed


async def _all(session: RealtimeSession) -> list[str]:
    return [label(event) async for event in session]


async def test_a_tool_may_close_its_own_session(simulator: SimulatorHandle) -> None:
    @function_tool
    async def hang_up() -> str:
        """Hang up."""
        await session.close()
        return "gone"

    session = await session_of(simulator.url, agent(tools=[hang_up]))
    async with session:
        await session.send_message("[[call: hang_up {}]]")
        async with asyncio.timeout(20):
            await _all(session)
        await session.close()
    assert session.closed


async def test_a_loop_that_is_cancelled_says_so_and_the_session_goes_on(simulator: SimulatorHandle) -> None:
    async with await session_of(simulator.url) as session:
        reading = asyncio.create_task(_all(session))
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await session.send_message("[[say: Still here.]]")
        assert (await until(session, "agent_end"))[-1].output == "Still here."


async def test_a_session_that_fails_inside_ends_with_an_error(
    simulator: SimulatorHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await session_of(simulator.url) as session:
        conversation = session._conversation
        assert conversation is not None
        monkeypatch.setattr(conversation.driver, "_handle", lambda *_: 1 / 0)
        await session.send_message("x")
        with pytest.raises(VoicebusError, match="The session failed"):
            await _all(session)


# --- runners ------------------------------------------------------------------------------------------


async def test_one_runner_holds_many_sessions_at_once(simulator: SimulatorHandle) -> None:
    model = OpenAIRealtimeWebSocketModel()
    options: Any = {"url": simulator.url, "api_key": KEY}
    for given in (None, model, OpenAIRealtimeWebSocketModel, partial(OpenAIRealtimeWebSocketModel)):
        runner = RealtimeRunner(agent(), model=given)
        async with contextlib.AsyncExitStack() as stack:
            sessions = [
                await stack.enter_async_context(await runner.run(model_config=options, context=number))
                for number in range(3)
            ]
            assert len({id(session.model) for session in sessions}) == 3
            for number, session in enumerate(sessions):
                await session.send_message(f"[[say: {number}]]")
            ends = await asyncio.gather(*(until(session, "agent_end") for session in sessions))
            assert [events[-1].output for events in ends] == ["0", "1", "2"]
            assert [events[-1].info.context.context for events in ends] == [0, 1, 2]


async def test_a_runner_gives_its_model_to_one_session_after_another(simulator: SimulatorHandle) -> None:
    model = OpenAIRealtimeWebSocketModel()
    runner = RealtimeRunner(agent(), model=model)
    for _ in range(2):
        async with await runner.run(model_config={"url": simulator.url, "api_key": KEY}) as session:
            assert session.model is model


async def test_a_runner_refuses_what_is_no_model() -> None:
    with pytest.raises(UserError, match="model must be"):
        await RealtimeRunner(agent(), model=7).run()  # type: ignore[arg-type]
    with pytest.raises(UserError, match="RealtimeAgent"):
        RealtimeRunner("desk")  # type: ignore[arg-type]
