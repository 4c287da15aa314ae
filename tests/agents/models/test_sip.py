"""Phone calls: what one is accepted with, and the model that joins it."""

import time
from typing import Any

import pytest

from support.model_server import model_server
from support.waiting import wait_until
from voicebus import RealtimeRunner, RealtimeSessionExpiring
from voicebus.agents.agent import RealtimeAgent
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.models.model import RealtimeModelConfig
from voicebus.agents.models.openai import is_plain
from voicebus.agents.models.sip import OpenAIRealtimeSIPModel, RealtimeSessionCreateRequest
from voicebus.agents.tools.decorator import function_tool
from voicebus.errors import UserError

pytestmark = pytest.mark.usefixtures("delivery")

build = OpenAIRealtimeSIPModel.build_initial_session_payload


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return city


def hotline() -> RealtimeAgent[Any]:
    return RealtimeAgent(
        name="Hotline",
        instructions=lambda context, agent: f"Help {context.context}.",
        tools=[weather],
        handoffs=[RealtimeAgent(name="Billing")],
    )


async def test_a_call_is_accepted_as_the_agent_that_answers_it() -> None:
    payload = await build(hotline(), context="Ada")
    assert isinstance(payload, RealtimeSessionCreateRequest)
    body = payload.model_dump(exclude_unset=True)
    assert body["type"] == "realtime"
    assert body["model"] == "gpt-realtime-2.1"
    assert body["instructions"] == "Help Ada."
    assert [tool["name"] for tool in body["tools"]] == ["weather", "transfer_to_billing"]
    assert body["audio"]["output"]["voice"] == "ash"
    assert body["audio"]["input"]["turn_detection"] == {"type": "semantic_vad", "interrupt_response": True}
    assert "tracing" not in body


async def test_a_context_that_is_wrapped_already_is_taken_as_it_is() -> None:
    payload = await build(hotline(), context=RunContextWrapper("Ada"))
    assert payload.instructions == "Help Ada."


async def test_formats_are_left_to_the_call_unless_given() -> None:
    audio = (await build(hotline())).audio or {}
    assert "format" not in audio["input"]
    assert "format" not in audio["output"]
    given = await build(hotline(), run_config={"model_settings": {"input_audio_format": "g711_ulaw"}})
    assert (given.audio or {})["input"]["format"] == {"type": "audio/pcmu"}


async def test_overrides_beat_everything_else() -> None:
    payload = await build(
        hotline(),
        run_config={"model_settings": {"voice": "sage", "speed": 1.2}},
        model_config={"initial_model_settings": {"model_name": "first", "audio": {"output": {"voice": "coral"}}}},
        overrides={"model_name": "second", "voice": "echo", "turn_detection": None, "instructions": "Short."},
    )
    audio = payload.audio or {}
    assert (payload.model, payload.instructions) == ("second", "Short.")
    assert audio["output"] == {"voice": "echo", "speed": 1.2}
    assert audio["input"]["turn_detection"] is None
    assert payload.model_dump(exclude_none=True)["audio"]["input"]["transcription"]


@function_tool
def bill(room: int) -> str:
    """The bill of a room."""
    return str(room)


@pytest.mark.parametrize(
    ("overrides", "offered"),
    [
        ({"tools": [bill]}, ["bill", "transfer_to_billing"]),
        ({"tools": []}, ["transfer_to_billing"]),
        ({"handoffs": [RealtimeAgent(name="Sales")]}, ["weather", "transfer_to_sales"]),
        ({"handoffs": []}, ["weather"]),
        ({"tools": [bill], "handoffs": []}, ["bill"]),
    ],
)
async def test_tools_that_are_overridden_leave_handoffs_and_handoffs_leave_tools(
    overrides: Any, offered: list[str]
) -> None:
    payload = await build(hotline(), model_config={"initial_model_settings": {"voice": "coral"}}, overrides=overrides)
    assert [tool["name"] for tool in payload.tools or []] == offered
    assert (payload.audio or {})["output"]["voice"] == "coral"


async def test_an_overridden_tool_named_as_a_handoff_is_refused() -> None:
    billing = function_tool(name_override="transfer_to_billing")(lambda: "")
    with pytest.raises(UserError, match="transfer_to_billing"):
        await build(hotline(), overrides={"tools": [billing]})


async def test_an_agent_that_cannot_be_honoured_is_refused() -> None:
    with pytest.raises(UserError, match="vioce"):
        await build(hotline(), run_config={"model_settings": {"vioce": "x"}})  # type: ignore[arg-type]


async def test_joining_a_call_needs_its_id() -> None:
    model = OpenAIRealtimeSIPModel()
    with pytest.raises(UserError, match="needs the call_id"):
        await model.connect({"api_key": "k"})


async def test_the_model_joins_the_call_that_it_is_given() -> None:
    model = OpenAIRealtimeSIPModel()
    assert is_plain(model)
    async with model_server() as server:
        await model.connect({"api_key": "k", "url": server.url, "call_id": "rtc_1"})
        update = await server.hears("session.update")
        assert server.requests[0].path == "/v1/realtime?call_id=rtc_1"
        assert "format" not in update["session"]["audio"]["input"]
        await model.close()


async def test_a_program_is_told_that_its_call_will_end() -> None:
    async with model_server(greets=False) as server:
        config: RealtimeModelConfig = {"url": server.url, "api_key": "k", "call_id": "rtc_1"}
        runner = RealtimeRunner(hotline(), model=OpenAIRealtimeSIPModel())
        async with await runner.run(context="Ada", model_config=config) as session:
            await wait_until(lambda: server.connections, description="the socket")
            ends = {"id": "sess_1", "expires_at": time.time() + 30}
            await server.say({"type": "session.created", "session": ends})
            ending = anext(event async for event in session if isinstance(event, RealtimeSessionExpiring))
            assert (await ending).ends_in_ms == 60_000


@pytest.mark.parametrize("code", [1001, 1005, None])
async def test_a_caller_who_hangs_up_ends_the_iteration_in_order(code: int | None) -> None:
    async with model_server() as server:
        config: RealtimeModelConfig = {"url": server.url, "api_key": "k", "call_id": "rtc_1"}
        runner = RealtimeRunner(hotline(), model=OpenAIRealtimeSIPModel())
        async with await runner.run(context="Ada", model_config=config) as session:
            await server.hears("session.update")
            server.status = 404
            if code is None:
                server.cut()
            else:
                await server.hang_up(code)
            seen = [event async for event in session]
    assert [event.data.type for event in seen if event.type == "raw_model_event"][-2:] == [
        "connection_status", "end_of_stream",
    ]  # fmt: skip
    assert not [event for event in seen if event.type == "error"]
    assert len(server.requests) == 2, "whether the call is over was asked once"
