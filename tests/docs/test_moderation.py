"""The example of a guardrail that asks a moderation endpoint, with an endpoint of this machine."""

import importlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from support.simulator import running_simulator
from voicebus import RealtimeRunner
from voicebus_services.http import serving


class Endpoint:
    """Answers as OpenAI's does; flags what has "violence" in it, and fails while `broken`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.broken = False
        self.app = FastAPI()
        self.app.post("/v1/moderations", response_model=None)(self.moderate)

    async def moderate(self, request: Request) -> Any:
        question = await request.json()
        self.asked.append((request.headers.get("authorization"), question))
        if self.broken:
            return Response(status_code=503)
        flagged = "violence" in question["input"]
        categories = {"violence": flagged, "hate": False}
        return {"id": "modr-1", "model": question["model"], "results": [{"flagged": flagged, "categories": categories}]}


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    async with serving(endpoint.app, host="127.0.0.1", port=0) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        example = importlib.import_module("examples.moderation")
        monkeypatch.setattr(example, "URL", f"http://127.0.0.1:{server.port}/v1/moderations")
        yield endpoint
        for client in example._clients.values():
            await client.aclose()
        example._clients.clear()


async def conversation(say: str, until: str) -> tuple[str, Any]:
    """What is heard of an answer, and the event that it comes to."""
    example = importlib.import_module("examples.moderation")
    async with running_simulator() as simulator:
        runner = RealtimeRunner(example.agent)
        settings: Any = {"output_modalities": ["text"]}
        session = await runner.run(
            model_config={"url": simulator.url, "api_key": "simulator", "initial_model_settings": settings}
        )
        heard = ""
        async with session:
            await session.send_message(say)
            async for event in session:
                if event.type == "transcript_delta" and event.role == "assistant":
                    heard += event.delta
                if event.type == until:
                    return heard, event
    raise AssertionError("the session ended")


async def test_what_the_endpoint_flags_is_not_heard(endpoint: Endpoint) -> None:
    heard, tripped = await conversation("[[say: Use violence now]][[next]][[say: Sorry]]", "guardrail_tripped")
    assert "violence" not in heard
    [result] = tripped.guardrail_results
    assert result.output.output_info == {"categories": ["violence"]}
    key, question = endpoint.asked[0]
    assert (key, question["model"]) == ("Bearer sk-test", "omni-moderation-latest")


async def test_what_the_endpoint_lets_pass_is_heard(endpoint: Endpoint) -> None:
    heard, _ = await conversation("[[say: Have a nice day]]", "agent_end")
    assert heard == "Have a nice day"


async def test_what_the_endpoint_cannot_judge_is_stopped(endpoint: Endpoint) -> None:
    endpoint.broken = True
    heard, tripped = await conversation("[[say: Have a nice day]][[next]][[say: Sorry]]", "guardrail_tripped")
    assert heard == ""
    assert "503" in str(tripped.guardrail_results[0].output.output_info)
