"""How a program reaches its model: in one process, where the program dials."""

from typing import Any, Final

import pytest

from voicebus import RealtimeAgent, RealtimeRunner, UserError
from voicebus.testing import ScriptedRealtimeServer, ServerStep, text_turn

CREATE: Final = "response.create"
AGENT: Final = RealtimeAgent[Any](name="clerk", instructions="Help.")


async def test_a_program_as_it_is_written_today_runs() -> None:
    """The loop of a program that imports from elsewhere, with the import changed and nothing else."""
    from voicebus import OpenAIRealtimeWebSocketModel

    async def key() -> str:
        return "secret"

    async with ScriptedRealtimeServer([ServerStep(CREATE, text_turn("Good day."))]) as server:
        runner = RealtimeRunner(
            starting_agent=AGENT,
            model=OpenAIRealtimeWebSocketModel(transport_config={"ping_interval": 20.0, "handshake_timeout": 5.0}),
            config={"model_settings": {"model_name": "gpt-realtime", "modalities": ["text"]}},
        )
        said = []
        session = await runner.run(model_config={"api_key": key, "url": server.url})
        async with session:
            await session.send_message("hello")
            async for event in session:
                if event.type == "history_updated":
                    said = [item for item in event.history if item.type == "message" and item.role == "assistant"]
                elif event.type == "agent_end":
                    break
        (connection,) = server.connections
    assert "Authorization" in connection.headers or "authorization" in connection.headers
    assert [getattr(part, "text", None) for part in said[-1].content] == ["Good day."]


async def test_headers_of_the_program_take_the_place_of_the_key() -> None:
    async with ScriptedRealtimeServer() as server:
        options: Any = {"url": server.url + "?model=deployment", "headers": {"api-key": "secret"}}
        async with await RealtimeRunner(AGENT).run(model_config=options):
            await server.wait_for("session.update")
        (connection,) = server.connections
    names = {name.lower() for name in connection.headers}
    assert "api-key" in names
    assert "authorization" not in names
    assert connection.path.endswith("?model=deployment")


async def test_a_call_and_a_model_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    options: Any = {"api_key": "k", "call_id": "rtc_1", "initial_model_settings": {"model_name": "gpt-realtime"}}
    with pytest.raises(UserError, match="call_id"):
        await (await RealtimeRunner(AGENT).run(model_config=options)).enter()
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("VOICEBUS_MODEL_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"API key is required but was not provided\."):
        await (await RealtimeRunner(AGENT).run()).enter()
