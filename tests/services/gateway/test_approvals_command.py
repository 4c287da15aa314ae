"""`voicebus approvals`, beside a real gateway whose teller moves money only when a person agrees."""

import json
from typing import Any

import pytest

from services.gateway.clients import native
from support.commands import voicebus
from voicebus.adapters.redis.awaiting import AwaitingCall
from voicebus_services.approvals_command import _line
from voicebus_services.gateway.wiring import Gateway

TRANSFERS = '[[call: transfer {"amount": 5}]][[call: transfer {"amount": 6}]][[next]][[say: It says {outputs}]]'


@pytest.mark.timeout(120)  # ten commands, each a process
async def test_calls_that_wait_are_listed_approved_and_rejected_from_a_terminal(
    bank: Gateway, redis_url: str, stream_prefix: str
) -> None:
    where: Any = {"redis_url": redis_url, "stream_prefix": stream_prefix}
    ran = await voicebus("approvals", **where)
    assert (ran.status, ran.out) == (0, "")
    assert ran.complaint == "voicebus: no call of tenant local waits for a word (--tenant names another)"
    async with native(bank) as client:
        session = (await client.until("session_started"))["session"]
        await client.send("send_message", text=TRANSFERS)
        five = (await client.until("tool_approval_required"))["call_id"]
        six = (await client.until("tool_approval_required", arguments='{"amount": 6}'))["call_id"]
        ran = await voicebus("approvals", **where)
        first, second = ran.out.splitlines()
        assert first.startswith(f'{session}  {five}  transfer({{"amount": 5}})  agent teller  since 20')
        assert second.startswith(f"{session}  {six}  transfer(")
        shown = [json.loads(line) for line in (await voicebus("approvals", "list", "--json", **where)).out.splitlines()]
        assert [one["call_id"] for one in shown] == [five, six]
        assert shown[0].keys() == {"session", "call_id", "tool", "arguments", "agent", "asked_at"}
        ran = await voicebus("approvals", "list", "--tenant", "other", **where)
        assert ran.out == ""

        ran = await voicebus("approvals", "approve", session, five, **where)
        assert (ran.status, ran.out) == (0, f"approved {five}\n")
        decided = await client.until("tool_approval_decided", call_id=five)
        assert (decided["approved"], decided["always"], decided["by"]) == (True, False, {"via": "stream"})
        ran = await voicebus("approvals", **where)
        assert ran.out.startswith(f"{session}  {six}  "), "what is decided waits no more"

        ran = await voicebus("approvals", "reject", session, six, five, "--message", "Not today.", "--json", **where)
        assert ran.status == 1, "one of them waits no more"
        assert json.loads(ran.out) == {"session": session, "call_id": six, "decision": "rejected"}
        assert ran.complaint.startswith(f"voicebus: {five}: ")
        spoken = await client.until("item_recorded", role="assistant")
        assert "moved 5" in spoken["text"]
        assert "Not today." in spoken["text"]
        ran = await voicebus("approvals", "approve", "nobody", six, **where)
        assert (ran.status, ran.complaint) == (1, f"voicebus: {six}: there is no session 'nobody'")
    assert (await voicebus("approvals", **where)).out == ""


def test_what_a_model_or_a_server_of_tools_has_named_commands_no_terminal() -> None:
    call = AwaitingCall("s1", "call\x1b[2J", "pay\r", '{"amount":\n 5}', "teller", 0)
    assert _line(call) == 's1  call�[2J  pay�({"amount": 5})  agent teller  since 1970-01-01T00:00:00Z'


async def test_calls_are_named_and_none_is_decided_without(redis_url: str) -> None:
    ran = await voicebus("approvals", "approve", "a-session", redis_url=redis_url)
    assert ran.status == 2
    assert ran.out == ""
