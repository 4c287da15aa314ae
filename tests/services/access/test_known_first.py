"""Who writes is found out before what is written is read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends, FastAPI

from voicebus_services.access.authenticator import Authenticator, Presented, caller
from voicebus_services.access.keystore import KeyStore
from voicebus_services.access.known_first import KnownFirst
from voicebus_services.access.principal import Principal
from voicebus_services.http import answer_with_problems, serving


class Counting(Authenticator):
    """Counts how often it is asked."""

    asked = 0

    async def authenticate(self, presented: Presented) -> Principal:
        self.asked += 1
        return await super().authenticate(presented)


@pytest.fixture
def access(tmp_path: Path) -> Counting:
    path = tmp_path / "keys"
    path.write_text("acme:right\n", encoding="utf-8")
    return Counting(KeyStore(path))


@pytest.fixture
async def port(access: Counting) -> AsyncIterator[int]:
    app = FastAPI()
    answer_with_problems(app)
    app.add_middleware(KnownFirst, access=access)

    @app.post("/v1/notes")
    async def note(principal: Annotated[Principal, Depends(caller(access))], body: dict[str, Any]) -> dict[str, Any]:
        return {"tenant": principal.tenant, **body}

    async with serving(app, host="127.0.0.1", port=0) as server:
        yield server.port


async def test_who_is_refused_is_told_so_before_anything_of_its_body_has_come(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/notes HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\nAuthorization: Bearer wrong\r\n\r\n"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_who_is_let_in_is_looked_at_once_and_read(port: int, access: Counting) -> None:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        right = {"Authorization": "Bearer right"}
        answer = await http.post("/v1/notes", json={"text": "hello"}, headers=right)
        assert answer.json() == {"tenant": "acme", "text": "hello"}
        assert access.asked == 1
        refused = await http.post("/v1/notes", content=b"{", headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401, "nothing is said of a body that nobody reads"
        assert access.asked == 2
        assert (await http.post("/v1/notes", json={}, headers=right)).status_code == 200, "the connection serves on"
