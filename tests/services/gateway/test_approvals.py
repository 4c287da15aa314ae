"""Calls that need a person's word: from the session's client, from another process, over HTTP from any gateway."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio as aioredis

from services.gateway.clients import TestClient, native, realtime
from services.gateway.conftest import BANK, Gateways
from support.waiting import wait_until
from voicebus.contracts.commands import SESSION_COMMAND, SessionCommand
from voicebus.contracts.envelope import Entry
from voicebus.contracts.journal import EventType
from voicebus.contracts.streams import Keys
from voicebus.errors import SettingsError
from voicebus_services.gateway.faces import native_connection
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.settings import GatewaySettings, load

TRANSFER = '[[call: transfer {"amount": 5}]][[next]][[say: It says {outputs}]]'


async def asked(client: TestClient, text: str = TRANSFER) -> dict[str, Any]:
    """Have the model make a call; returns the `tool_approval_required` that came of it."""
    await client.send("send_message", text=text)
    return await client.until("tool_approval_required")


async def decide(gateway: Gateway, session: str, call_id: str, word: str, **options: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.post(f"/v1/sessions/{session}/tool-calls/{call_id}/{word}", **options)


async def test_a_call_waits_for_its_client_and_runs_once_approved(bank: Gateway) -> None:
    async with native(bank) as client:
        required = await asked(client)
        assert (required["tool"], json.loads(required["arguments"]), required["agent"]) == (
            "transfer", {"amount": 5}, "teller",
        )  # fmt: skip
        await client.send("approve", call_id=required["call_id"], id="a")
        end = await client.until("tool_end")
        spoken = await client.until("item_recorded", role="assistant")
        await client.send("approve", call_id=required["call_id"], id="again")
        error = await client.until("error", id="again")
    assert client.events("ack")[0]["id"] == "a"
    kinds = [kind for kind in client.types if kind.startswith("tool_")]
    assert kinds == ["tool_approval_required", "tool_approval_decided", "tool_start", "tool_end"]
    assert (end["output"], end["outcome"], end["call_id"]) == ("moved 5", "ok", required["call_id"])
    assert end["duration_ms"] == end["ended_ms"] - end["started_ms"]
    assert spoken["text"] == "It says moved 5"
    assert error["code"] == "unknown_call"


async def test_an_answer_tells_no_seq_of_what_waits_behind_it(bank: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_connection, "BEHIND_S", 600)
    written: list[Callable[[], None]] = []
    async with native(bank) as client:
        await asked(client, '[[call: transfer {"amount": 5}]][[call: transfer {"amount": 6}]][[next]][[say: Done]]')
        await client.until("tool_approval_required", arguments='{"amount": 6}')
        (held,) = list(bank.sessions)
        with monkeypatch.context() as slow:
            slow.setattr(held.face.driver, "once_written", written.append)
            for required in client.events("tool_approval_required"):
                await client.send("approve", call_id=required["call_id"], id=required["call_id"])
            await wait_until(lambda: len(written) == 2, description="both approved")
        for then in written:
            then()
        await client.until("item_recorded", role="assistant")
    told = [frame for frame in client.seen if not isinstance(frame, bytes)]
    acks = [index for index, frame in enumerate(told) if frame["type"] == "ack"]
    assert len(acks) == 2
    for ack in acks:
        behind = [frame["seq"] for frame in told[ack + 1 :] if frame["type"] in set(EventType)]
        assert min(behind) > told[ack]["seq"], "who comes back from there would never be told"


async def test_a_rejected_call_never_starts_and_the_model_is_told_why(bank: Gateway) -> None:
    async with native(bank) as client:
        required = await asked(client)
        await client.send("reject", call_id=required["call_id"], message="Not today.", id="r")
        end = await client.until("tool_end")
        spoken = await client.until("item_recorded", role="assistant")
    assert (end["output"], end["outcome"]) == ("Not today.", "error")
    assert "tool_start" not in client.types
    assert spoken["text"] == "It says Not today."


async def test_a_word_given_for_always_counts_for_further_calls(bank: Gateway) -> None:
    async with native(bank) as client:
        required = await asked(client)
        await client.send("approve", call_id=required["call_id"], always=True)
        await client.until("item_recorded", role="assistant")
        await client.send("send_message", text=TRANSFER)
        await client.until("tool_end")
    assert client.types.count("tool_approval_required") == 1
    assert client.types.count("tool_end") == 2


@pytest.mark.parametrize(("amount", "asks"), [(50, False), (500, True)])
async def test_the_authors_policy_decides_which_calls_ask(bank: Gateway, amount: int, asks: bool) -> None:
    async with native(bank) as client:
        await client.send("send_message", text=f'[[call: withdraw {{"amount": {amount}}}]][[next]][[say: {{outputs}}]]')
        await client.until("tool_approval_required" if asks else "tool_end")
    assert ("tool_start" in client.types) is not asks


async def test_a_tool_of_another_service_asks_where_its_worker_says_so(bank: Gateway) -> None:
    async with native(bank, "?agent=branch") as client:
        required = await asked(client)
        await client.send("approve", call_id=required["call_id"])
        end = await client.until("tool_end")
    assert (end["output"], end["agent"]) == ("moved 5", "branch")


@pytest.mark.parametrize(
    ("word", "body", "output"),
    [
        ("approve", None, "moved 5"),
        ("approve", {"always": True}, "moved 5"),
        ("reject", None, "Tool execution was not approved."),
        ("reject", {"message": "The limit is reached.", "always": False}, "The limit is reached."),
    ],
)
async def test_any_gateway_takes_a_word_about_a_call(
    bank: Gateway, gateways: Gateways, word: str, body: dict[str, Any] | None, output: str
) -> None:
    async with gateways(BANK) as other, native(bank) as client:
        required = await asked(client)
        answer = await decide(other, required["session"], required["call_id"], word, json=body)
        assert (answer.status_code, list(answer.json())) == (202, ["command_id"])
        end = await client.until("tool_end")
    assert end["output"] == output
    decided = client.events("tool_approval_decided")[0]
    assert decided["approved"] is (word == "approve")
    assert decided["always"] is bool((body or {}).get("always"))


async def test_the_gateway_that_holds_the_session_takes_it_too(bank: Gateway) -> None:
    async with native(bank) as client:
        required = await asked(client)
        answer = await decide(bank, required["session"], required["call_id"], "approve")
        assert answer.status_code == 202
        await client.until("tool_end")


async def test_a_word_that_fits_no_call_is_answered_with_what_is_wrong(bank: Gateway) -> None:
    async with native(bank) as client:
        required = await asked(client)
        session, call_id = required["session"], required["call_id"]
        assert problem(await decide(bank, "01NONE", call_id, "approve")) == (404, "unknown_session")
        assert problem(await decide(bank, session, "call_none", "reject")) == (404, "unknown_call")
        assert problem(await decide(bank, session, call_id, "reject", json={"note": "x"})) == (
            422, "invalid_request",
        )  # fmt: skip
        assert problem(await decide(bank, session, call_id, "reject", json={"message": "x" * 10_001})) == (
            422, "invalid_request",
        )  # fmt: skip
        assert (await decide(bank, session, call_id, "approve")).status_code == 202
        assert problem(await decide(bank, session, call_id, "approve")) == (404, "unknown_call")
        await client.until("tool_end")
        await client.send("end")
        await client.closed()
        await bank.sessions.drain(5)
        assert problem(await decide(bank, session, call_id, "approve")) == (409, "session_ended")


async def test_nobody_decides_without_a_key(gateways: Gateways, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys"
    keys_file.write_text("acme:right\n")
    async with gateways(BANK, api_keys_file=keys_file) as gateway:
        assert problem(await decide(gateway, "01NONE", "c", "approve")) == (401, "unauthorized")
        authorized = await decide(gateway, "01NONE", "c", "approve", headers={"Authorization": "Bearer right"})
    assert problem(authorized) == (404, "unknown_session")


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["code"]


async def test_an_owner_that_does_not_answer_is_said(bank: Gateway, redis_url: str, stream_prefix: str) -> None:
    keys = Keys(stream_prefix)
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        await bus.hset(keys.session_state("01GONE"), mapping={"owner": "a-1-abcdef", "status": "active", "epoch": "1"})
        await bus.expire(keys.session_state("01GONE"), 60)
    assert problem(await decide(bank, "01GONE", "c", "approve")) == (504, "no_answer")


async def test_another_process_writes_its_command_to_the_owners_inbox(
    bank: Gateway, redis_url: str, stream_prefix: str
) -> None:
    keys = Keys(stream_prefix)
    async with native(bank) as client, aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:
        required = await asked(client)
        owner: Any = await bus.hget(keys.session_state(required["session"]), "owner")
        assert owner == bank.id
        command = SessionCommand(
            command_id="mine",
            command="approve",
            reply_to="answers",
            call_id=required["call_id"],
        )
        for entry_id in ("e1", "e2"):  # written twice, as a writer does that could not know
            entry = Entry(
                id=entry_id, type=SESSION_COMMAND, session=required["session"], epoch=1, at=0,
                data=command.model_dump(),
            )  # fmt: skip
            fields: Any = entry.fields()
            await bus.xadd(keys.inbox(owner), fields)
        end = await client.until("tool_end")
        answers: Any = await bus.xread({"answers": "0"}, block=5000, count=1)
    assert end["output"] == "moved 5"
    assert client.types.count("tool_start") == 1
    ((_, entries),) = answers
    assert Entry.parse(entries[0][1]).data == {"command_id": "mine", "error": None}


@pytest.mark.parametrize("leave", [True, False])
async def test_a_client_of_the_openai_protocol_sees_nothing_of_a_call_that_waits(
    bank: Gateway, redis_url: str, stream_prefix: str, leave: bool
) -> None:
    keys = Keys(stream_prefix)
    async with realtime(bank, "?agent=teller") as client, aioredis.Redis.from_url(redis_url) as bus:
        await client.until("session.created")
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": TRANSFER}]}
        await client.send("conversation.item.create", item=item)
        await client.send("response.create")
        created = await client.until("response.created")
        (held,) = bank.sessions

        async def waiting() -> str | None:
            calls: Any = await bus.hgetall(keys.session_calls(held.id))
            found = [json.loads(call) for call in calls.values()]
            return next((call["call_id"] for call in found if call["type"] == "tool_approval_required"), None)

        call_id = str(await wait_until(waiting, description="the call that waits"))
        assert "response.done" not in client.types
        if leave:
            assert (await decide(bank, held.id, call_id, "approve")).status_code == 202
        else:
            await client.send("response.cancel")
        done = await client.until("response.done")
    assert done["response"]["id"] == created["response"]["id"]
    assert done["response"]["status"] == ("completed" if leave else "cancelled")
    assert "transfer" not in json.dumps([frame for frame in client.seen if frame.get("item", {}).get("role") != "user"])


async def test_who_decided_is_recorded_and_no_callers_business(
    bank: Gateway, gateways: Gateways, redis_url: str, stream_prefix: str
) -> None:
    keys = Keys(stream_prefix)
    async with gateways(BANK) as other, native(bank) as client:
        for word in ("approve", "reject"):
            required = await asked(client)
            assert (await decide(other, required["session"], required["call_id"], word)).status_code == 202
            await client.until("tool_end")
        required = await asked(client)
        await client.send("approve", call_id=required["call_id"])
        await client.until("tool_end")
        session = required["session"]
    async with aioredis.Redis.from_url(redis_url, decode_responses=True) as bus:

        async def decisions() -> Any:
            entries: Any = await bus.xrange(keys.events(keys.event_shard(session)))
            found = [json.loads(fields["data"]) for _, fields in entries if fields["type"] == "tool_approval_decided"]
            return found if len(found) == 3 else None

        first, second, third = await wait_until(decisions, description="the decisions in the record")
    assert first["by"] == second["by"] == {"via": "http", "tenant": "local", "key_id": "local"}
    assert third["by"] == {"via": "client", "tenant": "local", "key_id": "local"}
    assert [entry["approved"] for entry in (first, second, third)] == [True, False, True]
    assert {entry["tool"] for entry in (first, second, third)} == {"transfer"}
    assert [event["by"] for event in client.events("tool_approval_decided")] == [
        {"via": "http"}, {"via": "http"}, {"via": "client"},
    ]  # fmt: skip


async def test_a_call_that_nobody_approves_in_time_is_refused(gateways: Gateways) -> None:
    async with gateways(BANK, approval_timeout=0.2) as gateway, native(gateway) as client:
        required = await asked(client)
        end = await client.until("tool_end")
        spoken = await client.until("item_recorded", role="assistant")
        answer = await decide(gateway, required["session"], required["call_id"], "approve")
    assert (end["output"], end["outcome"]) == (
        "The call was not approved within 0.2 seconds and was not made.",
        "error",
    )
    assert end["output"] in spoken["text"]
    decided = client.events("tool_approval_decided")[0]
    assert (decided["approved"], decided["by"]) == (False, {"via": "deadline"})
    assert problem(answer) == (404, "unknown_call")


@pytest.mark.parametrize("wrong", ["0s", "-1s", "soon"])
def test_a_limit_for_approvals_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("VOICEBUS_APPROVAL_TIMEOUT", wrong)
    with pytest.raises(SettingsError, match="VOICEBUS_APPROVAL_TIMEOUT"):
        load(GatewaySettings)
