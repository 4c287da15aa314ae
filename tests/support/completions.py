"""A server of chat completions over HTTP, which answers as a script says: the model of text agents."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from voicebus_services.http import serving


class Completions:
    """Answers with `script`, one entry a request: a message, all `choices` or a status; `asked` are the requests."""

    def __init__(self) -> None:
        self.script: list[dict[str, Any] | int] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []

    async def answer(self, request: Request) -> Any:
        self.asked.append(await request.json())
        self.keys.append(request.headers["authorization"])
        entry = self.script.pop(0)
        if isinstance(entry, int):
            return JSONResponse({"error": {"message": "no", "type": "x"}}, status_code=entry)
        choices = entry.get("choices")
        message = {"role": "assistant", "content": None, **entry}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        made = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        return {**made, "choices": [choice] if choices is None else choices, "usage": usage}


@asynccontextmanager
async def completions(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Completions]:
    """Text agents are answered by it while the block runs."""
    model, app = Completions(), FastAPI()
    app.add_api_route("/v1/chat/completions", model.answer, methods=["POST"])
    async with serving(app, host="127.0.0.1", port=0) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield model


def says(text: str) -> dict[str, Any]:
    return {"content": text}


def calls(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
