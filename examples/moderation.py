"""A guardrail that asks a model of its own: a moderation endpoint as OpenAI has it, over HTTP.

    MODERATION_URL=https://api.openai.com/v1/moderations voicebus dev examples.moderation

OPENAI_API_KEY is sent along where it is set. An answer is held until it was judged; where the endpoint fails or does
not answer in time, it is stopped. Either way the caller hears the replacement.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import httpx2

from voicebus import GuardrailFunctionOutput, RealtimeAgent, RunContextWrapper, output_guardrail

URL = os.environ.get("MODERATION_URL", "https://api.openai.com/v1/moderations")
MODEL = os.environ.get("MODERATION_MODEL", "omni-moderation-latest")

# One client for each event loop that judges, with its connections kept open.
_clients: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}


def client() -> httpx2.AsyncClient:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        _clients[loop] = httpx2.AsyncClient(headers=headers, timeout=2.0)
    return _clients[loop]


@output_guardrail(
    mode="hold",
    on_error="closed",
    on_unavailable="closed",
    replacement="I'm sorry, I cannot talk about that.",
)
async def moderated(context: RunContextWrapper[Any], agent: RealtimeAgent[Any], text: str) -> GuardrailFunctionOutput:
    """Trips over what the endpoint flags, and says for which categories."""
    answer = await client().post(URL, json={"model": MODEL, "input": text})
    answer.raise_for_status()
    result: Mapping[str, Any] = answer.json()["results"][0]
    flagged = sorted(name for name, is_so in result.get("categories", {}).items() if is_so)
    return GuardrailFunctionOutput(output_info={"categories": flagged}, tripwire_triggered=bool(result["flagged"]))


agent = RealtimeAgent("moderated", instructions="You talk about anything.", output_guardrails=[moderated])
