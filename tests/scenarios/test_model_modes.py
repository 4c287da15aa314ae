"""A session's behaviours against each mode of the model-simulator: in order as spoken, burst, reordered, delayed.

The outcome is to be the same in each: what the conversation holds, what tools gave, and never two responses at once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from support.modes_desk import no_secrets, rate, refund, weather
from support.simulator import MODES, SimulatorHandle, running_simulator
from support.waiting import wait_until
from voicebus import (
    OutputGuardrail,
    RealtimeAgent,
    RealtimePlaybackTracker,
    RealtimeRunConfig,
    RealtimeRunner,
    RealtimeSession,
)
from voicebus_services.model_simulator import tape

SECOND: Final = bytes(48_000)  # of silence, 24 kHz PCM


class Heard:
    """A session and what was heard of it so far."""

    def __init__(self, session: RealtimeSession, tracker: RealtimePlaybackTracker) -> None:
        self.session = session
        self.tracker = tracker
        self.events: list[Any] = []
        self.raw: list[Mapping[str, Any]] = []
        self._read = 0

    async def listen(self) -> None:
        async for event in self.session:
            if event.type != "raw_model_event":
                self.events.append(event)
            elif event.data.type == "raw_server_event":
                self.raw.append(dict(event.data.data))

    async def until(self, kind: str, fits: Callable[[Any], bool] = lambda event: True) -> Any:
        """The next event of this kind that fits, after the one that was waited for last."""

        def found() -> Any:
            for at in range(self._read, len(self.events)):
                if self.events[at].type == kind and fits(self.events[at]):
                    self._read = at + 1
                    return self.events[at]
            return None

        return await wait_until(found, description=f"{kind} among {[e.type for e in self.events]}", timeout=20)

    async def answered(self, text: str) -> Any:
        return await self.until("agent_end", lambda event: event.output == text)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    def texts(self) -> list[tuple[str, str]]:
        """Who said what, in the conversation's order; of calls their names and outputs."""
        found = []
        for item in self.session.history:
            if item.type == "function_call":
                found.append((item.name, item.output or ""))
            else:
                parts = [getattr(part, "text", None) or getattr(part, "transcript", None) for part in item.content]
                found.append((item.role, " ".join(part or "" for part in parts)))
        return found

    async def holds(self, *expected: tuple[str, str]) -> None:
        """Wait until the conversation is just this: its last frames may come behind the end of a turn."""

        def settled() -> bool:
            return self.texts() == list(expected)

        try:
            await wait_until(settled, description="the conversation")
        except AssertionError:
            assert self.texts() == list(expected)

    def most_responses_at_once(self) -> int:
        active: set[str] = set()
        most = 0
        for event in self.raw:
            if event["type"] == "response.created":
                active.add(event["response"]["id"])
            elif event["type"] == "response.done":
                active.discard(event["response"]["id"])
            most = max(most, len(active))
        return most


@pytest.fixture(params=list(MODES.values()), ids=list(MODES))
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[SimulatorHandle]:
    async with running_simulator(**request.param) as running:
        yield running


@asynccontextmanager
async def talking(
    simulator: SimulatorHandle,
    agent: RealtimeAgent[Any],
    config: RealtimeRunConfig | None = None,
    history: Sequence[Mapping[str, Any]] = (),
) -> AsyncIterator[Heard]:
    """A session with the simulated model; in the end it has had no error and no two responses at once."""
    tracker = RealtimePlaybackTracker()
    runner = RealtimeRunner(agent, config=config)
    session = await runner.run(
        model_config={"url": simulator.url, "api_key": "test", "playback_tracker": tracker}, history=history
    )
    async with session:
        heard = Heard(session, tracker)
        listening = asyncio.create_task(heard.listen(), name="events")
        try:
            yield heard
        finally:
            await session.close()
            await asyncio.gather(listening)
    assert not heard.of("error")
    # A cancel may cross the end of what it cancels; nothing else that was sent may be refused.
    refused = [event["error"] for event in heard.raw if event["type"] == "error"]
    assert [error for error in refused if error["code"] != "response_cancel_not_active"] == []
    assert heard.most_responses_at_once() == 1


async def test_a_written_turn_is_answered(simulator: SimulatorHandle) -> None:
    async with talking(simulator, RealtimeAgent("Ada")) as talk:
        await talk.session.send_message("[[say: One.]]")
        await talk.answered("One.")
        await talk.session.send_message("[[say: Two.]]")
        await talk.answered("Two.")
        await talk.holds(
            ("user", "[[say: One.]]"), ("assistant", "One."), ("user", "[[say: Two.]]"), ("assistant", "Two.")
        )


async def test_a_spoken_turn_is_answered_and_written_down_in_its_place(simulator: SimulatorHandle) -> None:
    heard: dict[str, Any] = {"turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}
    config: Any = {"model_settings": {**heard, "input_audio_transcription": {"model": "whisper-1"}}}
    async with talking(simulator, RealtimeAgent("Ada"), config) as talk:
        await talk.session.send_audio(bytes(9600) + tape.record("hello") + SECOND)
        await talk.answered("You said: hello")
        await talk.holds(("user", "hello"), ("assistant", "You said: hello"))


async def test_a_tool_is_called_and_its_result_said(simulator: SimulatorHandle) -> None:
    asked = '[[call: rate {"city": "Rome"}]] [[next]] [[say: {outputs}]]'
    async with talking(simulator, RealtimeAgent("Ada", tools=[rate])) as talk:
        await talk.session.send_message(asked)
        await talk.answered("100 in Rome")
        assert [event.output for event in talk.of("tool_end")] == ["100 in Rome"]
        await talk.holds(("user", asked), ("rate", "100 in Rome"), ("assistant", "100 in Rome"))


async def test_two_tools_of_one_response_are_answered_together(simulator: SimulatorHandle) -> None:
    both = '[[call: rate {"city": "Rome"}]] [[call: weather {"city": "Rome"}]] [[next]] [[say: {outputs}]]'
    async with talking(simulator, RealtimeAgent("Ada", tools=[rate, weather])) as talk:
        await talk.session.send_message(both)
        said = await talk.until("agent_end", lambda event: bool(event.output))
        assert sorted(said.output.split("; ")) == ["100 in Rome", "sunny in Rome"]
        assert sorted(event.output for event in talk.of("tool_end")) == ["100 in Rome", "sunny in Rome"]
        await talk.holds(
            ("user", both), ("rate", "100 in Rome"), ("weather", "sunny in Rome"), ("assistant", said.output)
        )
    (session,) = simulator.ledger()
    assert [line["speaker"] for line in session["lines"]] == ["user", "call", "call", "tool", "tool", "agent"]


async def test_another_agent_takes_over(simulator: SimulatorHandle) -> None:
    desk: RealtimeAgent[Any] = RealtimeAgent("desk", tools=[weather])
    front: RealtimeAgent[Any] = RealtimeAgent("front", handoffs=[desk])
    async with talking(simulator, front) as talk:
        await talk.session.send_message("[[call: transfer_to_desk {}]] [[next]] [[say: Desk.]]")
        assert (await talk.answered("Desk.")).agent is desk
        await talk.session.send_message('[[call: weather {"city": "Oslo"}]] [[next]] [[say: {outputs}]]')
        assert (await talk.answered("sunny in Oslo")).agent is desk
        (handoff,) = talk.of("handoff")
        assert (handoff.from_agent, handoff.to_agent) == (front, desk)


async def test_what_must_not_be_said_is_stopped(simulator: SimulatorHandle) -> None:
    agent: RealtimeAgent[Any] = RealtimeAgent("Ada", output_guardrails=[OutputGuardrail(no_secrets, name="discretion")])
    async with talking(simulator, agent, {"guardrails_settings": {"debounce_text_length": 10}}) as talk:
        await talk.session.send_message("[[say: The secret is out now.]]")
        tripped = await talk.until("guardrail_tripped")
        assert "secret" in tripped.message
        await talk.until("agent_end", lambda event: event.output.startswith("You said:"))
        await talk.session.send_message("[[say: Hi.]]")
        await talk.answered("Hi.")
        assert len(talk.of("guardrail_tripped")) == 1


async def test_a_call_waits_for_its_approval(simulator: SimulatorHandle) -> None:
    async with talking(simulator, RealtimeAgent("Ada", tools=[refund])) as talk:
        request = '[[call: refund {"amount": 5}]] [[next]] [[say: {outputs}]]'
        await talk.session.send_message(request)
        asked = await talk.until("tool_approval_required")
        assert not talk.of("tool_end")
        await talk.session.approve_tool_call(asked.call_id)
        await talk.answered("refunded 5")
        assert [event.output for event in talk.of("tool_end")] == ["refunded 5"]
        await talk.holds(("user", request), ("refund", "refunded 5"), ("assistant", "refunded 5"))


async def test_an_interrupted_answer_is_cut_where_it_was_heard_and_the_next_one_comes(
    simulator: SimulatorHandle,
) -> None:
    async with talking(simulator, RealtimeAgent("Ada")) as talk:
        await talk.session.send_message("[[say: Let me tell you all about it.]]")
        audio = await talk.until("audio")
        talk.tracker.on_play_ms(audio.item_id, audio.content_index, 50)
        await talk.session.interrupt()
        await talk.until("audio_interrupted", lambda event: event.item_id == audio.item_id)
        await talk.session.send_message("[[say: Yes?]]")
        await talk.answered("Yes?")
    (session,) = simulator.ledger()
    agent = [line for line in session["lines"] if line["speaker"] == "agent"]
    assert [line.get("truncated_ms") for line in agent] == [50, None]
    assert agent[1]["text"] == "Yes?"


async def test_what_was_said_before_is_known(simulator: SimulatorHandle) -> None:
    said = [
        {"item_id": "m1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "item_id": "m2",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "text", "text": "Hello."}],
        },
    ]
    async with talking(simulator, RealtimeAgent("Ada"), history=said) as talk:
        await talk.session.send_message("[[say: Again.]]")
        await talk.answered("Again.")
        await talk.holds(("user", "Hi"), ("assistant", "Hello."), ("user", "[[say: Again.]]"), ("assistant", "Again."))
    (session,) = simulator.ledger()
    assert [line["text"] for line in session["lines"]] == ["Hi", "Hello.", "[[say: Again.]]", "Again."]
