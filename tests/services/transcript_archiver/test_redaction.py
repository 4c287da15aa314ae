"""What a tenant does not keep never reaches the archive's disk: its bytes are searched for the original."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.transcript_archiver.conftest import Bus, StartArchiver
from services.transcript_archiver.test_wiring import archiver_process
from support.commands import voicebus
from support.recorded import ended, entry, said, started, tool_end, tool_start
from support.servers import PostgresServer, free_port
from support.waiting import wait_until
from voicebus.adapters.database import migrate
from voicebus.adapters.database.store import TranscriptStore
from voicebus.contracts.envelope import Entry
from voicebus.detection import Place
from voicebus_services.privacy.events import redacted_event
from voicebus_services.privacy.redaction import WITHHELD, Redaction, Rule

MAIL, CARD, WORD = "ann.smith@example.org", "4111 1111 1111 1111", "blackbird"
PIECES = [MAIL, "ann.smith", CARD, "4111 1111", CARD.replace(" ", ""), WORD]
KEPT = "umbrellas"
TENANT = "acme"


@pytest.fixture(params=["sqlite", "postgresql"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A migrated database, and the folder with all its files."""
    if request.param == "sqlite":
        folder = tmp_path / "database"
        folder.mkdir()
        url = f"sqlite:///{folder / 'transcripts.db'}"
        migrate.upgrade(url)
        yield url, folder
        return
    with PostgresServer() as server:
        migrate.upgrade(server.url)
        yield server.url, server.folder


@pytest.fixture
def privacy_file(tmp_path: Path) -> Path:
    file = tmp_path / "privacy.json"
    word = {"name": "word", "pattern": WORD}
    file.write_text(json.dumps({"tenants": {TENANT: {"redact": ["email", "card", word]}}}))
    return file


def found(folder: Path, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def call(session: str) -> list[Entry]:
    begun = started(session)
    begun.data["tenant"] = TENANT
    trip = {"response_id": "r", "item_id": "i", "agent": "a", "guardrails": ["g"], "at_ms": 1}
    asks = json.dumps({"to": MAIL, "about": KEPT})
    request, result = tool_start(session, 3), tool_end(session, 4, output=json.dumps({"card": 4111111111111111}))
    request.data["arguments"] = result.data["arguments"] = asks.replace("@", "\\u0040")
    return [
        begun,
        said(session, 2, "user", f"I am {MAIL}, about {KEPT}.", start=10),
        request,
        result,
        said(session, 5, "assistant", f"So {CARD}?", start=20, truncated=True, heard_text="So 4111 1111"),
        entry(session, 6, "guardrail_tripped", {**trip, "message": f"the {WORD}", "info": {"g": {MAIL: WORD}}}),
        entry(session, 7, "error", {"code": "x", "message": f"no {MAIL}", "source": "tool", "at_ms": 30}),
        entry(session, 8, "tool_approval_required", {"call_id": "c2", "tool": "t", "arguments": asks, "agent": "a"}),
        entry(session, 9, "of_a_later_release", {"anything": [MAIL]}),
        said(session, 10, "system", f"The {WORD} sings.", start=40),
        ended(session, 11),
    ]


@pytest.mark.timeout(180)  # a database server of its own is started
async def test_the_original_is_in_no_file_of_the_database_and_the_rest_is_found(
    bus: Bus, redis_url: str, disk: tuple[str, Path], privacy_file: Path, tmp_path: Path
) -> None:
    url, folder = disk
    settings: dict[str, Any] = {
        "redis_url": redis_url, "stream_prefix": bus.keys.prefix, "event_shards": bus.keys.event_shards,
        "database_url": url, "privacy_file": privacy_file,
    }  # fmt: skip
    # The beginning comes last: what arrives before anybody knows whose it is has the rules of all.
    first, *rest = call("s1")
    await bus.record(*rest)
    unreadable = rest[0].fields() | {"seq": "12", "data": json.dumps({"text": f"{MAIL} {WORD}"})}
    async with archiver_process(tmp_path / "log", **settings) as archiver:
        await bus.wait_idle()
        await bus.record(first)
        await bus.add(bus.keys.event_shard("s1"), unreadable)
        await bus.wait_idle()
        async with httpx2.AsyncClient() as http:
            counted = (await http.get(f"{archiver.ops_url}/metrics")).text
        archiver.process.kill()
        await archiver.process.wait()
    assert [piece for piece in PIECES if found(folder, piece)] == []
    assert found(folder, KEPT), "the search of the files finds what is kept"
    (letter,) = await bus.dead_letters()
    assert letter["data"] == '{"text":"[email] [word]"}'.replace(":", ": "), "nor is it in the dead letters"
    assert [piece for piece in PIECES if piece in (tmp_path / "log").read_text()] == []
    for rule in ("email", "card", "word"):
        assert f'voicebus_redactions_total{{rule="{rule}"}}' in counted
    async with TranscriptStore(url) as store:
        transcript = await store.transcript("s1", tenant=TENANT)
    assert transcript is not None
    lines = {item.seq: item for item in transcript.items}
    assert lines[2].text == f"I am [email], about {KEPT}."
    assert (lines[5].text, lines[5].heard_text) == ("So [card]?", "So [card]")
    assert json.loads(lines[3].arguments or "") == {"to": "[email]", "about": KEPT}
    assert json.loads(lines[3].output or "") == {"card": "[card]"}


async def test_a_rule_that_fails_leaves_out_its_texts_and_keeps_nobody_from_being_archived(
    bus: Bus, start_archiver: StartArchiver, database: str, tmp_path: Path
) -> None:
    def failing(text: str) -> Iterator[Place]:
        if WORD in text:
            raise ValueError(text)
        yield from ()

    redaction = Redaction([Rule("names", failing, "[name]")])

    def rules(_: str | None) -> Redaction:
        return redaction

    unreadable = started("s3").fields() | {"seq": "two", "data": WORD}
    async with (
        TranscriptStore(database, redact=partial(redacted_event, rules)) as store,
        start_archiver(on=store, rules=rules),
    ):
        await bus.add(bus.keys.event_shard("s3"), unreadable)
        for session in ("s1", "s2"):
            await bus.record(
                started(session), said(session, 2, "user", f"The {WORD} of {session}", start=10), ended(session, 3)
            )
        await bus.record(said("s3", 2, "user", KEPT, start=10))
        await bus.wait_idle()
        kept = {session: await store.transcript(session, tenant=None) for session in ("s1", "s2", "s3")}
    assert [[(line.role, line.text) for line in one.items] for one in kept.values() if one is not None] == [
        [("user", WITHHELD)],
        [("user", WITHHELD)],
        [("user", KEPT)],
    ]
    (letter,) = await bus.dead_letters()
    assert (letter["data"], letter["reason"]) == (WITHHELD, "malformed")
    assert not found(tmp_path, WORD)


async def test_another_tenant_keeps_what_this_one_does_not(
    bus: Bus, redis_url: str, database: str, privacy_file: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "redis_url": redis_url, "stream_prefix": bus.keys.prefix, "event_shards": bus.keys.event_shards,
        "database_url": database, "privacy_file": privacy_file,
    }  # fmt: skip
    async with archiver_process(tmp_path / "log", **settings):
        await bus.record(started("s1"), said("s1", 2, "user", f"I am {MAIL}", start=10))
        await bus.wait_idle()
        assert found(tmp_path, MAIL)
        # The rules of a changed file count from then on.
        privacy_file.write_text(json.dumps({"default": {"redact": ["card"]}}))
        log = tmp_path / "log"
        await wait_until(lambda: "file read again" in log.read_text(), description="the file to be read again")
        await bus.record(said("s1", 3, "user", f"I have {CARD}", start=20))
        await bus.wait_idle()
        privacy_file.write_text("{")
        await wait_until(lambda: "counts on" in log.read_text(), description="the wrong file to be told")
        await bus.record(said("s1", 4, "user", f"And {CARD}", start=30))
        await bus.wait_idle()
    assert not any(CARD.encode() in file.read_bytes() for file in tmp_path.glob("transcripts.db*"))
    async with TranscriptStore(database) as store:
        transcript = await store.transcript("s1", tenant="local")
    assert transcript is not None
    assert [item.text for item in transcript.items] == [f"I am {MAIL}", "I have [card]", "And [card]"]


async def test_a_wrong_rule_stops_the_start_and_is_named_with_its_file(database: str, tmp_path: Path) -> None:
    file = tmp_path / "privacy.yaml"
    file.write_text("tenants: {acme: {redact: [email, {name: order, pattern: '(a'}]}}")
    ports: dict[str, Any] = {"http_port": free_port(), "ops_port": free_port()}
    ran = await voicebus("transcript-archiver", database_url=database, privacy_file=file, **ports)
    assert ran.status == 2
    assert f"voicebus: settings: VOICEBUS_PRIVACY_FILE: {str(file)!r} was read, but" in ran.err
    assert "tenants.acme.redact[1], rule 'order': '(a' is no regular expression" in ran.err
