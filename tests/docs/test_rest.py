"""docs/rest.md: every curl line is sent as it stands, to a gateway and an archiver that know what it speaks of."""

import argparse
import json
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.clients import native
from services.gateway.services import working
from support.pages import Page
from support.recorded import conversation, recorded
from support.recordings import reading
from support.simulator import running_simulator
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.agents.targets import load_targets
from voicebus_services.access.wiring import Credentials, open_access
from voicebus_services.gateway.wiring import running_gateway
from voicebus_services.http import serving
from voicebus_services.settings import ArchiverSettings, GatewaySettings
from voicebus_services.transcript_archiver.app import create_app

PAGE = Page("docs/rest.md")
LINES = [
    line.strip() for block in PAGE.blocks("sh") for line in re.sub(r"\\\n\s*", "", block).splitlines() if line.strip()
]
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
HEADERS = {"Authorization": "Bearer right"}
# Every status that a successful line of the page may have.
DONE = {200, 201, 202, 206}


@dataclass
class Cluster:
    """Addresses by the ports that the page names, and what its variables stand for."""

    ports: dict[str, int]
    variables: dict[str, str]

    def expand(self, text: str) -> str:
        text = re.sub(r"\$(\w+)", lambda found: self.variables[found[1]], text)
        return re.sub(r"localhost:(\d+)", lambda found: f"127.0.0.1:{self.ports[found[1]]}", text)


@pytest.fixture
async def cluster(
    tmp_path: Path, redis_url: str, stream_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cluster]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "offer.sdp").write_text(OFFER, newline="")
    keys = tmp_path / "keys"
    keys.write_text("local:right\n")
    targets = load_targets(["services.gateway.bank"])
    common: dict[str, Any] = {
        "redis_url": redis_url, "stream_prefix": stream_prefix, "api_keys_file": keys, "http_port": 0, "ops_port": 0,
        "drain_timeout": 0,
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(running_simulator())
        await stack.enter_async_context(working(targets, redis_url=redis_url, stream_prefix=stream_prefix))
        settings = GatewaySettings(**common, model_url=simulator.url, model_api_key="k", resume_grace=1)
        gateway = await stack.enter_async_context(running_gateway(settings, targets))
        archive = await stack.enter_async_context(archiving(tmp_path, keys))
        yield Cluster({"8080": gateway.port, "8081": archive}, {"KEY": "right", "TOOL": "transfer"})


@asynccontextmanager
async def archiving(folder: Path, keys: Path) -> AsyncIterator[int]:
    database = f"sqlite:///{folder / 'transcripts.db'}"
    migrate.upgrade(database)
    credentials = Credentials.of(ArchiverSettings(api_keys_file=keys))
    async with open_access(credentials) as access, TranscriptStore(database) as store:
        await store.write(recorded(*conversation("s1")))
        recordings = await reading(folder, "local", "s1")
        app = create_app(store, access, recordings=recordings)
        async with serving(app, host="127.0.0.1", port=0) as server:
            yield server.port


@asynccontextmanager
async def knowing(cluster: Cluster, line: str) -> AsyncIterator[None]:
    """Give what the line speaks of: a session whose call waits for approval, a call, a transcript."""

    @dataclass
    class There:
        port: int

    there = There(cluster.ports["8080"])
    if "8081" in line:
        cluster.variables["SESSION"] = "s1"
        yield
    elif "$CALL_ID" in line:
        async with httpx2.AsyncClient() as http:
            made = await http.post(
                f"http://127.0.0.1:{there.port}/v1/realtime/calls",
                content=OFFER, headers={**HEADERS, "Content-Type": "application/sdp"},
            )  # fmt: skip
        cluster.variables["CALL_ID"] = made.headers["location"].rpartition("/")[2]
        yield
    else:
        async with native(there, additional_headers=HEADERS) as client:
            await client.send("send_message", text='[[call: transfer {"amount": 5}]][[next]][[say: {outputs}]]')
            required = await client.until("tool_approval_required")
            cluster.variables |= {"SESSION": required["session"], "CALL": required["call_id"]}
            yield


def read(line: str) -> tuple[str, str, dict[str, Any]]:
    """What a curl line sends: method, address, and the rest for httpx2."""
    curl = argparse.ArgumentParser()
    curl.add_argument("curl", choices=["curl"])
    curl.add_argument("url")
    curl.add_argument("-X", default="GET")
    curl.add_argument("-I", dest="X", action="store_const", const="HEAD")
    curl.add_argument("-o")
    curl.add_argument("-r")
    curl.add_argument("-N", action="store_true")
    curl.add_argument("-H", action="append", default=[])
    curl.add_argument("-F", action="append", default=[])
    curl.add_argument("-d")
    curl.add_argument("--data-binary")
    given = curl.parse_args(shlex.split(line))
    options: dict[str, Any] = {"headers": dict(header.split(": ", 1) for header in given.H)}
    if given.r is not None:
        options["headers"]["Range"] = f"bytes={given.r}"
    if given.d is not None:
        json.loads(given.d)
        options["content"] = given.d
    if given.data_binary is not None:
        options["content"] = Path(given.data_binary.removeprefix("@")).read_bytes()
    if given.F:
        options["files"] = dict(map(part, given.F))
    return given.X, given.url, options


def part(text: str) -> tuple[str, tuple[None, bytes, str]]:
    """`name=<file;type=T` or `name=value;type=T`."""
    name, _, rest = text.partition("=")
    value, _, kind = rest.rpartition(";type=")
    content = Path(value[1:]).read_bytes() if value.startswith("<") else value.encode()
    return name, (None, content, kind)


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line).rpartition("localhost:")[2][:60])
async def test_every_curl_line_of_the_page_does_what_it_says(cluster: Cluster, line: str) -> None:
    async with knowing(cluster, line), httpx2.AsyncClient(timeout=30) as http:
        method, url, options = read(cluster.expand(line))
        async with http.stream(method, url, **options) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                first = await first_event(answer)
                of_transcript = "/v1/transcripts/" in url
                assert first[:2] == (
                    ["id: 3", "event: message"] if of_transcript else ["id: 1", "event: session_started"]
                )
            else:
                await answer.aread()
                assert answer.status_code in DONE, answer.text
            assert answer.status_code in DONE


async def first_event(answer: httpx2.Response) -> list[str]:
    """The lines of the first event, which a `retry:` comes before."""
    lines: list[str] = []
    async for text in answer.aiter_lines():
        if lines and not text:
            break
        if lines or text.startswith("id:"):
            lines.append(text)
    return lines


async def test_the_page_has_a_line_for_every_operation(cluster: Cluster) -> None:
    told = {re.sub(r"\$\w+", "{}", read(line)[0] + " " + read(line)[1].partition("?")[0]) for line in LINES}
    async with httpx2.AsyncClient() as http:
        for port in cluster.ports:
            document = (await http.get(cluster.expand(f"http://localhost:{port}/openapi.json"))).json()
            for path, methods in document["paths"].items():
                for method in methods:
                    address = f"{method.upper()} http://localhost:{port}{re.sub('{[^}]*}', '{}', path)}"
                    assert address in told, address
