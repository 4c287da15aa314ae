"""`GET /v1/sessions…`: the sessions of every gateway, asked of any."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.clients import native
from services.gateway.conftest import Gateways
from support.waiting import wait_until
from voicebus_services.gateway.wiring import Gateway


async def get(gateway: Gateway, path: str, **options: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        return await client.get(path, **options)


async def test_sessions_of_all_gateways_are_listed_by_any_page_by_page(gateway: Gateway, gateways: Gateways) -> None:
    async with gateways() as other, native(gateway) as one, native(other, "?agent=porter") as two:
        first = (await one.until("session_started"))["session"]
        second = (await two.until("session_started"))["session"]
        for asked in (gateway, other):
            page = (await get(asked, "/v1/sessions", params={"limit": 1})).json()
            rest = (await get(asked, "/v1/sessions", params={"cursor": page["next_cursor"]})).json()
            listed = {session["id"]: session["gateway"] for session in page["data"] + rest["data"]}
            assert listed == {first: gateway.id, second: other.id}
            assert rest["next_cursor"] is None
        shown = (await get(gateway, f"/v1/sessions/{second}")).json()
    assert (shown["agent"], shown["status"], shown["gateway"]) == ("porter", "active", other.id)
    assert (shown["ended_at"], shown["end_reason"]) == (None, None)
    started = datetime.fromisoformat(shown["started_at"])
    assert shown["started_at"].endswith("Z")
    assert abs(datetime.now(UTC) - started) < timedelta(minutes=5)


async def test_a_session_that_ended_is_still_shown_with_its_end(gateway: Gateway) -> None:
    async with native(gateway) as client:
        session = (await client.until("session_started"))["session"]
        await client.send("end")
        await client.closed()

    async def ended() -> Any:
        shown = (await get(gateway, f"/v1/sessions/{session}")).json()
        return shown if shown["status"] == "ended" else None

    shown = await wait_until(ended, description="the end to be shown")
    assert shown["end_reason"] == "ended"
    assert shown["ended_at"] >= shown["started_at"]
    assert shown["seq"] == 2


async def test_lists_are_filtered_by_status_and_agent(gateway: Gateway) -> None:
    async with native(gateway) as one, native(gateway, "?agent=porter") as two:
        await one.until("session_started")
        porters = (await two.until("session_started"))["session"]

        async def listed(**params: Any) -> list[str]:
            answer = await get(gateway, "/v1/sessions", params=params)
            return [session["id"] for session in answer.json()["data"]]

        assert await listed(agent="porter") == [porters]
        assert await listed(agent="porter", status="ended") == []
        assert len(await listed(status=["active", "ended"])) == 2


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": "many"}, "query.limit"),
        ({"cursor": "no cursor"}, "query.cursor"),
        ({"cursor": "bm9uZQ=="}, "query.cursor"),
        ({"status": "sleeping"}, "query.status"),
    ],
)
async def test_a_wrong_parameter_is_named(gateway: Gateway, params: dict[str, Any], named: str) -> None:
    answer = await get(gateway, "/v1/sessions", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert named in answer.json()["detail"]


async def test_a_session_that_nobody_knows_is_404(gateway: Gateway) -> None:
    missing = await get(gateway, "/v1/sessions/none")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_session")


async def test_a_tenant_sees_its_own_sessions_alone(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("acme:right\nother:wrong\n")
    mine, theirs = ({"Authorization": f"Bearer {key}"} for key in ("right", "wrong"))
    async with gateways(api_keys_file=keys) as gateway, native(gateway, additional_headers=mine) as client:
        session = (await client.until("session_started"))["session"]
        assert (await get(gateway, f"/v1/sessions/{session}", headers=mine)).status_code == 200
        assert (await get(gateway, f"/v1/sessions/{session}", headers=theirs)).status_code == 404
        assert (await get(gateway, "/v1/sessions", headers=theirs)).json()["data"] == []
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", headers=theirs) as http:
            answer = await http.post(f"/v1/sessions/{session}/tool-calls/c/approve")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")
