"""`voicebus sessions`, beside a real gateway."""

import json
from typing import Any

import pytest

from services.gateway.clients import native
from services.gateway.conftest import Gateways
from support.commands import voicebus


@pytest.mark.timeout(120)  # ten commands, each a process
async def test_sessions_are_listed_shown_and_ended(gateways: Gateways, redis_url: str, stream_prefix: str) -> None:
    where: Any = {"redis_url": redis_url, "stream_prefix": stream_prefix}
    ran = await voicebus("sessions", **where)
    assert (ran.status, ran.out) == (0, "")
    assert ran.complaint == "voicebus: tenant local has no such session (--tenant names another)"
    async with gateways() as gateway, native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        ran = await voicebus("sessions", **where)
        assert ran.out.startswith(f"{session}  active  agent "), ran
        ran = await voicebus("sessions", "list", "--status", "ended", **where)
        assert (ran.status, ran.out) == (0, "")
        shown = json.loads((await voicebus("sessions", "show", session, "--json", **where)).out)
        assert (shown["id"], shown["status"], shown["end_reason"]) == (session, "active", None)
        ran = await voicebus("sessions", "show", session, "--tenant", "other", **where)
        assert (ran.status, ran.complaint) == (1, f"voicebus: there is no session '{session}' of tenant other")
        ran = await voicebus("sessions", "end", session, **where)
        assert (ran.status, ran.out) == (0, f"ended {session}\n")
        await client.until("session_ended")
        ran = await voicebus("sessions", "end", session, "nobody", **where)
        assert ran.status == 1
        assert "has ended" in ran.err
        assert "no session 'nobody'" in ran.err
        shown = json.loads((await voicebus("sessions", "show", session, "--json", **where)).out)
        assert shown["status"] == "ended"
