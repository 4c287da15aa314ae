"""The OpenAPI documents of gateway and archiver: complete, true (schemathesis tries to show otherwise), offline."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from services.gateway.services import working
from support.recorded import conversation, recorded
from support.recordings import reading
from support.simulator import running_simulator
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.agents.targets import load_targets
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.gateway.wiring import running_gateway
from voicebus_services.http import serving as http_serving
from voicebus_services.openapi import COMMON
from voicebus_services.settings import ArchiverSettings, GatewaySettings
from voicebus_services.transcript_archiver.app import create_app

# `make soak` tries more, and keeps state from one request to the next.
EXAMPLES = int(os.environ.get("VOICEBUS_SCHEMATHESIS_EXAMPLES", "3"))
PHASES = os.environ.get("VOICEBUS_SCHEMATHESIS_PHASES", "examples,coverage,fuzzing")
SERVICES = ("gateway", "archiver")
KEY = {"Authorization": "Bearer right"}


@asynccontextmanager
async def serving(service: str, folder: Path, redis_url: str, prefix: str) -> AsyncIterator[str]:
    """The address of the service, which asks for the key `right`."""
    keys = folder / "keys"
    keys.write_text("acme:right\n")
    common: dict[str, Any] = {
        "redis_url": redis_url, "stream_prefix": prefix, "api_keys_file": keys, "http_port": 0, "ops_port": 0,
        "drain_timeout": 0,
    }  # fmt: skip
    if service == "archiver":
        database = f"sqlite:///{folder / 'transcripts.db'}"
        await asyncio.to_thread(migrate.upgrade, database)
        credentials = Credentials.of(ArchiverSettings(api_keys_file=keys))
        async with open_access(credentials) as access, TranscriptStore(database) as store:
            first, *others = conversation("s1")
            await store.write(recorded(replace(first, data={**first.data, "tenant": "acme"}), *others))
            app = create_app(store, access, recordings=await reading(folder, "acme", "s1"))
            async with http_serving(app, host="127.0.0.1", port=0) as server:
                yield f"http://127.0.0.1:{server.port}"
        return
    targets = load_targets(["services.gateway.hotel"])
    async with running_simulator() as simulator, working(targets, redis_url=redis_url, stream_prefix=prefix):
        of_gateway: dict[str, Any] = {"model_url": simulator.url, "model_api_key": "k", "resume_grace": 1}
        async with running_gateway(GatewaySettings(**common, **of_gateway), targets) as gateway:
            yield f"http://127.0.0.1:{gateway.port}"


@pytest.fixture(params=SERVICES)
async def address(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, stream_prefix: str
) -> AsyncIterator[str]:
    async with serving(request.param, tmp_path, redis_url, stream_prefix) as url:
        yield url


async def document(address: str) -> Mapping[str, Any]:
    async with httpx2.AsyncClient() as http:
        found: Mapping[str, Any] = (await http.get(f"{address}/openapi.json")).json()
    return found


@pytest.mark.timeout(max(240, 60 * EXAMPLES))
async def test_schemathesis_finds_neither_a_server_error_nor_a_lie(address: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"), "run", f"{address}/openapi.json",
        "--max-examples", str(EXAMPLES), "--phases", PHASES, "--header", "Authorization: Bearer right", "--seed", "1",
        "--no-color",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        out = (await process.stdout.read()).decode()
        assert await process.wait() == 0, out[-6000:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Tested" in out


async def test_every_operation_says_what_it_does_and_what_may_go_wrong(address: str) -> None:
    found = await document(address)
    assert found["security"] == [{"credential": []}]
    assert found["components"]["securitySchemes"]["credential"]["scheme"] == "bearer"
    tags = {tag["name"] for tag in found["tags"]}
    operations = [
        (f"{method} {path}", operation)
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
    ]
    assert operations
    for name, operation in operations:
        assert operation["summary"], name
        assert operation["description"], name
        assert set(operation["tags"]) <= tags, name
        problems = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert {str(status) for status in COMMON} <= set(problems), name
        for status, answer in problems.items():
            assert list(answer["content"]) == ["application/problem+json"], (name, status)
            assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem"), (name, status)
    assert "HTTPValidationError" not in json.dumps(found)


async def test_the_page_of_the_interface_asks_no_other_server(address: str) -> None:
    async with httpx2.AsyncClient(base_url=address) as http:
        page = (await http.get("/docs")).text
        assert "://" not in page
        for asset in ("docs/assets/swagger-ui-bundle.js", "docs/assets/swagger-ui.css", "openapi.json"):
            assert asset in page
            assert (await http.get(f"/{asset}")).status_code == 200


async def test_a_method_that_a_path_does_not_have_is_answered_with_those_that_it_has(address: str) -> None:
    found = await document(address)
    async with httpx2.AsyncClient(base_url=address, headers=KEY) as http:
        for path, methods in found["paths"].items():
            answer = await http.delete(path.replace("{", "").replace("}", ""))
            assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed"), path
            named = {method.upper() for method in methods}
            has = named | {"HEAD"} if "GET" in named else named
            assert set(answer.headers["allow"].split(", ")) == has, path


async def test_without_keys_the_document_asks_for_none(redis_url: str, stream_prefix: str) -> None:
    targets = load_targets(["services.gateway.hotel"])
    settings = GatewaySettings(
        redis_url=redis_url, stream_prefix=stream_prefix, model_url="ws://127.0.0.1:1/", http_port=0, ops_port=0
    )
    async with running_gateway(settings, targets) as gateway:
        assert "security" not in await document(f"http://127.0.0.1:{gateway.port}")
