"""A gateway that serves TLS itself: every face over it, and what callers trust."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import websockets

from services.gateway.clients import TestClient
from services.gateway.conftest import Gateways
from support.commands import voicebus
from support.tls import Authority
from voicebus.errors import RemoteError, UsageError
from voicebus_services.call.command import CallOptions, run_call
from voicebus_services.gateway.wiring import Gateway


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def secure(gateways: Gateways, authority: Authority) -> AsyncIterator[Gateway]:
    pair = authority.issue()
    async with gateways(tls_cert=pair.certificate, tls_key=pair.key) as gateway:
        yield gateway


async def test_every_face_is_served_over_tls(secure: Gateway, authority: Authority) -> None:
    trusted = authority.trusting()
    async with httpx2.AsyncClient(verify=trusted, trust_env=False) as client:
        assert (await client.get(f"https://localhost:{secure.port}/v1/agents")).status_code == 200
    for path, first in (("/v1/realtime", "session.created"), ("/v1/sessions/connect", "session_started")):
        async with websockets.connect(f"wss://localhost:{secure.port}{path}", ssl=trusted) as socket:
            assert (await TestClient(socket).until(first))["type"] == first


async def test_a_call_is_held_over_tls_with_a_certificate_that_its_caller_trusts(
    secure: Gateway, authority: Authority
) -> None:
    lines: list[str] = []
    url = f"https://localhost:{secure.port}"
    await run_call(CallOptions(url, text="[[say: Good morning.]]", ca_file=authority.file), out=lines.append)
    assert "agent: Good morning." in lines
    with pytest.raises(RemoteError, match="certificate verify failed"):
        await run_call(CallOptions(url, text="hello"), out=lines.append)


async def test_an_authority_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no PEM file of certificates that can be read"):
        await run_call(CallOptions("https://localhost:1", text="hello", ca_file=tmp_path / "absent"))
    authority = Authority(tmp_path)
    with pytest.raises(UsageError, match="an address without TLS"):
        await run_call(CallOptions("http://localhost:1", text="hello", ca_file=authority.file))


async def test_wrong_files_stop_the_start_and_the_doctor_finds_them(tmp_path: Path, redis_url: str) -> None:
    absent = tmp_path / "absent.pem"
    ran = await voicebus(
        *("gateway", "examples.front_desk", "--tls-cert", str(absent), "--tls-key", str(absent)),
        redis_url=redis_url,
        model_url="ws://127.0.0.1:1/v1/realtime",
    )
    assert ran.status == 2
    assert ran.complaint.startswith(f"voicebus: settings: VOICEBUS_TLS_CERT: '{absent}' cannot be read")
    found = await voicebus("doctor", "--json", redis_url=redis_url, tls_cert=str(absent), tls_key=str(absent))
    (settings,) = [each for line in found.out.splitlines() if (each := json.loads(line))["check"] == "settings"]
    assert settings["problem"].startswith(f"VOICEBUS_TLS_CERT: '{absent}' cannot be read")
