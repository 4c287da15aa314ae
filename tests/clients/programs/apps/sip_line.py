"""A SIP line: a signed webhook announces a call, which is accepted and then joined by its id.

`sip_line.py PORT`, the provider by environment. Written for openai-agents; the tests run it with voicebus after a
change of its import lines.
"""

import asyncio
import os
import sys
from typing import Any

import uvicorn
from agents.realtime import RealtimeAgent, RealtimeRunner, realtime_handoff
from agents.realtime.config import RealtimeSessionModelSettings
from agents.realtime.model_inputs import RealtimeModelSendRawMessage
from agents.realtime.openai_realtime import OpenAIRealtimeSIPModel
from fastapi import FastAPI, HTTPException, Request
from openai import APIStatusError, AsyncOpenAI, InvalidWebhookSignatureError

from agents import function_tool

client = AsyncOpenAI(webhook_secret=os.environ["OPENAI_WEBHOOK_SECRET"])


@function_tool
async def record(name: str) -> str:
    """Write a caller's name down."""
    return f"{name} was written down."


records = RealtimeAgent(name="Records", instructions="You keep the records.", tools=[record])
front = RealtimeAgent(name="Front desk", instructions="You answer calls.", handoffs=[realtime_handoff(records)])

SETTINGS: RealtimeSessionModelSettings = {
    "model_name": "gpt-realtime",
    "voice": "ash",
    "turn_detection": {"type": "server_vad"},
}


async def observe(call_id: str) -> None:
    runner = RealtimeRunner(front, model=OpenAIRealtimeSIPModel())
    model_config: Any = {
        "call_id": call_id,
        "url": f"{os.environ['REALTIME_URL']}?call_id={call_id}",
        "initial_model_settings": {"turn_detection": {"type": "server_vad"}},
    }
    async with await runner.run(model_config=model_config) as session:
        greeting = {"response": {"instructions": "Say exactly: Good day, this is the front desk."}}
        await session.model.send_event(
            RealtimeModelSendRawMessage(message={"type": "response.create", "other_data": greeting})
        )
        async for event in session:
            if event.type == "history_added" and event.item.type == "message":
                print(f"added {event.item.role}", flush=True)
            elif event.type == "handoff":
                print(f"handoff {event.from_agent.name} -> {event.to_agent.name}", flush=True)
            elif event.type == "tool_end":
                print(f"tool {event.tool.name} -> {event.output}", flush=True)
            elif event.type == "agent_end":
                print(f"end {event.agent.name}", flush=True)
            elif event.type == "error":
                print(f"error {event.error}", flush=True)
    print("call over", flush=True)


app = FastAPI()
calls: dict[str, asyncio.Task[None]] = {}


@app.post("/webhook")
async def webhook(request: Request) -> dict[str, bool]:
    try:
        event = client.webhooks.unwrap(await request.body(), dict(request.headers))
    except InvalidWebhookSignatureError as error:
        raise HTTPException(400, "the signature is wrong") from error
    if event.type != "realtime.call.incoming" or event.data.call_id in calls:
        return {"ok": True}
    payload = await OpenAIRealtimeSIPModel.build_initial_session_payload(
        front, model_config={"initial_model_settings": SETTINGS}
    )
    try:
        await client.post(
            f"/realtime/calls/{event.data.call_id}/accept", body=payload.model_dump(exclude_none=True), cast_to=object
        )
    except APIStatusError as error:
        if error.status_code != 404:
            raise
        return {"ok": True}
    calls[event.data.call_id] = asyncio.create_task(observe(event.data.call_id))
    return {"ok": True}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
