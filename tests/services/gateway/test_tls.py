"""A gateway that serves TLS itself: every face over it, and what callers trust."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import websockets

from services.gateway.clients import TestClient
from services.gateway.conftest import Gateways
from support.commands import voicebus
from support.tls import Authority
from voicebus import connect
from voicebus.errors import RemoteError, ScenarioError, UsageError, UserError
from voicebus_services import entrance
from voicebus_services.call.command import CallOptions, run_call
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.scenario_command import TestOptions, run_tests


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


async def test_a_connection_that_shakes_no_hands_is_dropped(
    gateways: Gateways, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.2)
    pair = authority.issue()
    async with gateways(tls_cert=pair.certificate, tls_key=pair.key) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


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


async def test_a_program_and_the_scenarios_reach_a_gateway_whose_authority_they_name(
    secure: Gateway, authority: Authority, tmp_path: Path
) -> None:
    url = f"https://localhost:{secure.port}"
    async with connect(url, ca_file=authority.file) as session:
        assert session.id
    async with connect(url, tls=authority.trusting()) as session:
        assert session.id
    scenario = tmp_path / "greeting.scenario.yaml"
    scenario.write_text(
        "steps:\n- say: '[[say: Good morning.]]'\n- expect_text: {matches: Good morning}\n", encoding="utf-8"
    )
    lines: list[str] = []
    assert await run_tests(TestOptions([scenario], url=url, ca_file=authority.file), out=lines.append), lines
    assert not await run_tests(TestOptions([scenario], url=url), out=lines.append)
    assert "certificate verify failed" in "".join(lines)


async def test_the_variable_that_names_this_machines_authorities_counts(
    secure: Gateway, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with connect(f"wss://localhost:{secure.port}", history=[]) as session:
        assert session.id
    lines: list[str] = []
    await run_call(CallOptions(f"https://localhost:{secure.port}", text="[[say: Hi.]]"), out=lines.append)
    assert "agent: Hi." in lines


def test_an_authority_that_a_program_cannot_use_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^ca_file: 'absent' is no PEM file of certificates that can be read"):
        connect("https://localhost:1", ca_file="absent")
    with pytest.raises(UserError, match=r"^ca_file: 'http://localhost:1' is an address without TLS"):
        connect("http://localhost:1", ca_file="absent")
    with pytest.raises(UserError, match="tls and ca_file exclude each other"):
        connect("https://localhost:1", ca_file="absent", tls=ssl.create_default_context())


async def test_an_authority_without_a_gateway_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="--ca-file verifies a gateway; give its address with --url"):
        await run_tests(TestOptions([tmp_path], ca_file=tmp_path), out=print)


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
