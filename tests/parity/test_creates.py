"""What becomes of a `response.create` that is refused, never answered, or met by others (parity 124, 2.5 to 2.8)."""

from collections.abc import Callable
from typing import Any, Final

import pytest

from support.scripts import answering
from support.stages import Stage
from voicebus import RealtimeAgent, RealtimeModelSendRawMessage, RealtimeRunner
from voicebus.engine import parts
from voicebus.engine.turns import Turns
from voicebus.testing import ScriptedRealtimeServer, ServerStep, end_turn, open_turn, server_error, text_turn

CREATE: Final = "response.create"
ADA: RealtimeAgent[Any] = RealtimeAgent("Ada")


def code(error: dict[str, Any]) -> str:
    return str(error.get("error", error)["code"])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first create of a session is given up soon; those after it have all their time."""

    class Impatient(Turns):
        def _send(self, create: Any) -> None:
            self._timeout = 10.0 if hasattr(self, "first") else 0.2
            self.first = create
            super()._send(create)

    def made(out: Any, timeout: float, *more: Any) -> Turns:
        return Impatient(out, timeout, *more)

    monkeypatch.setattr(parts, "Turns", made)


@pytest.mark.usefixtures("impatient")
async def test_a_create_that_is_never_answered_is_given_up_and_the_next_goes_out(stage: Stage) -> None:
    async with ScriptedRealtimeServer([ServerStep(CREATE), ServerStep(CREATE, text_turn("Two."))]) as server:
        async with stage.conversation(ADA, server) as talk:
            await talk.say("first")
            error = await talk.until("error")
            await talk.say("second")
            await talk.until("agent_end", output="Two.")
    assert code(error) == "response_create_timeout"
    assert len(server.received(CREATE)) == 2
    assert server.received("response.cancel") == []


async def test_a_refused_create_is_an_error_and_the_next_goes_out(stage: Stage) -> None:
    async with ScriptedRealtimeServer() as server:

        def refuse(conversation: Any) -> Any:
            return [conversation.error("invalid_value", "No.", cause=server.received(CREATE)[-1])]

        server._scripts = ((ServerStep(CREATE, refuse), ServerStep(CREATE, text_turn("Two."))),)
        async with stage.conversation(ADA, server) as talk:
            await talk.say("first")
            error = await talk.until("error")
            await talk.say("second")
            await talk.until("agent_end", output="Two.")
    assert code(error) == "invalid_value"
    assert len(server.received(CREATE)) == 2


@pytest.mark.parametrize(
    ("about", "releases"),
    [
        (server_error("bad_response_create", "Not so."), True),
        (server_error("invalid_value", "Invalid 'response.create'."), True),
        (server_error("server_error", "Something else."), False),
    ],
    ids=["its code", "its message", "anything else"],
)
async def test_an_error_that_names_no_event_releases_a_create_if_it_is_about_one(
    stage: Stage, about: Any, releases: bool
) -> None:
    async with ScriptedRealtimeServer([ServerStep(CREATE, about), ServerStep(CREATE, text_turn("Two."))]) as server:
        async with stage.conversation(ADA, server) as talk:
            await talk.say("first")
            await talk.until("error")
            await talk.say("second")
            await server.wait_for("conversation.item.create", 2)
            if releases:
                await talk.until("agent_end", output="Two.")
            else:  # the first is still with the model, whose answer comes now
                await server.connections[0].emit(text_turn("One."))
                await talk.until("agent_end", output="One.")
                await talk.until("agent_end", output="Two.")
            server.assert_complete()


async def test_a_message_after_a_sent_create_is_a_turn_of_its_own(stage: Stage) -> None:
    async with ScriptedRealtimeServer([ServerStep(CREATE), ServerStep(CREATE, text_turn("Two."))]) as server:
        async with stage.conversation(ADA, server) as talk:
            await talk.say("first")
            await server.wait_for(CREATE)
            await talk.say("second")
            await talk.say("third")
            await server.wait_for("conversation.item.create", 3)
            assert len(server.received(CREATE)) == 1
            await server.connections[0].emit(text_turn("One."))
            await talk.until("agent_end", output="One.")
            await talk.until("agent_end", output="Two.")
            server.assert_complete()
    first, second = server.received(CREATE)
    assert first["event_id"] != second["event_id"]


async def test_a_create_carries_the_mark_by_which_its_response_is_known_again(stage: Stage) -> None:
    async with answering(text_turn("Hi.")) as server, stage.conversation(ADA, server) as talk:
        await talk.say("hello")
        await talk.until("agent_end", output="Hi.")
    (create,) = server.received(CREATE)
    assert create["response"] == {"metadata": {"voicebus": create["event_id"]}}


async def test_a_raw_create_is_a_barrier_for_those_that_are_answered_together() -> None:
    """In process only: raw messages of a program go through the model object."""
    steps = [ServerStep(CREATE, open_turn("One")), *[ServerStep(CREATE, text_turn("."))] * 3]
    async with ScriptedRealtimeServer(steps) as server:
        run = RealtimeRunner(ADA).run(model_config={"url": server.url, "api_key": "test"})
        async with await run as session:
            await session.send_message("first")
            await server.wait_for(CREATE)
            for text in ("second", "third"):
                await session.send_message(text)
            raw: Any = {"type": CREATE, "other_data": {"response": {"instructions": "Be brief."}}}
            await session.model.send_event(RealtimeModelSendRawMessage(message=raw))
            await session.send_message("fourth")
            await server.connections[0].emit(end_turn())
            await server.wait_for(CREATE, 4)
            server.assert_complete()
    instructions = [(event.get("response") or {}).get("instructions") for event in server.received(CREATE)]
    assert instructions == [None, None, "Be brief.", None]


@pytest.mark.parametrize("end", [lambda _: {"status": "completed"}, lambda done: done], ids=["no id", "its id"])
async def test_the_end_of_a_response_that_names_none_ends_the_running_one(
    stage: Stage, end: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    response = {"id": "r1", "status": "completed", "output": []}
    async with answering() as server, stage.conversation(ADA, server) as talk:
        await talk.until("history_updated")
        await server.connections[0].emit(
            {"type": "response.created", "response": {**response, "status": "in_progress"}},
            {"type": "response.done", "response": end(response)},
        )
        await talk.until("agent_end")
    assert [event["response_id"] for event in talk.of("agent_end")] == ["r1"]
