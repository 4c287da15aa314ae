"""How fast the archiver finds conversations among 1,000,000 lines on PostgreSQL, through its HTTP interface.

    python -m benchmarks.search [--items 1000000] [--queries 400]

Generated calls of 20 lines each over half a year, for twenty tenants of very different size; words as frequent as in
speech (Zipf), of which the two most frequent are never in one line. Of a hundred calls one has a line that a guardrail
tripped over. Queries of each kind are asked one after another; a
quarter of the tenant's own, over all it may see.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import psycopg
from sqlalchemy import create_engine

from support.servers import PostgresServer
from voicebus.adapters.database import migrate
from voicebus.adapters.database.partitions import create_partitions
from voicebus.adapters.database.schema import month_of
from voicebus.adapters.database.store import TranscriptStore
from voicebus_services.access.authenticator import Authenticator
from voicebus_services.http import serving
from voicebus_services.transcript_archiver.app import create_app

LINES: Final = 20
TENANTS: Final = ["local"] * 10 + [f"tenant{number}" for number in range(1, 11)]
WORDS: Final = 30_000
BEGAN: Final = 1_767_225_600_000  # 2026-01-01
DAY_MS: Final = 86_400_000
DAYS: Final = 180
LIMIT_MS: Final = 100


class Speech:
    """Made-up words as frequent as real ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = [f"word{number}" for number in range(WORDS)]
        self._weights = [1 / (number + 1) for number in range(WORDS)]
        self._stock: list[str] = []

    def line(self) -> str:
        if len(self._stock) < 40:
            self._stock = self._random.choices(self._words, self._weights, k=200_000)
        words = [self._stock.pop() for _ in range(self._random.randint(4, 25))]
        return " ".join(word for word in words if word != "word1" or "word0" not in words)


def calls(count: int) -> Iterator[tuple[str, int, str, str, int]]:
    chosen = random.Random(1)
    for number in range(count):
        at = BEGAN + number * DAYS * DAY_MS // count
        yield f"01S{number:010d}", month_of(at), chosen.choice(TENANTS), f"agent{chosen.randrange(5)}", at


def fill(url: str, items: int) -> None:
    speech = Speech(2)
    made = list(calls(items // LINES))
    with psycopg.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
        with cursor.copy(
            "COPY sessions (session, month, tenant, agent, status, started_at, ended_at, end_reason, last_seq)"
            " FROM STDIN"
        ) as copy:
            for session, month, tenant, agent, at in made:
                copy.write_row((session, month, tenant, agent, "ended", at, at + 60_000, "hangup", LINES))
        with cursor.copy(
            "COPY items (session, month, key, seq, revised_seq, at, type, role, agent, text, start_ms, end_ms)"
            " FROM STDIN"
        ) as copy:
            for number, (session, month, _, agent, at) in enumerate(made):
                for seq in range(1, LINES + 1):
                    tripped = number % 100 == 0 and seq == LINES
                    kind, role = ("guardrail", None) if tripped else ("message", "user" if seq % 2 else "assistant")
                    position = seq * 3000
                    copy.write_row(
                        (session, month, f"item:{seq}", seq, seq, at + position, kind, role, agent,
                         speech.line(), position, position + 2000)
                    )  # fmt: skip
        connection.commit()
        connection.autocommit = True
        cursor.execute("VACUUM ANALYZE")


def queries(count: int) -> dict[str, list[dict[str, str]]]:
    chosen = random.Random(3)

    def word(low: int, high: int) -> str:
        return f"word{chosen.randrange(low, high)}"

    def month() -> dict[str, str]:
        number = chosen.randrange(1, 6)
        return {"from": f"2026-0{number}-01T00:00:00Z", "to": f"2026-0{number + 1}-01T00:00:00Z"}

    each = range(max(1, count // 8))
    return {
        "no words": [{} for _ in each],
        "a common word": [{"q": word(0, 20)} for _ in each],
        "a word": [{"q": word(20, 1000)} for _ in each],
        "a rare word": [{"q": word(1000, WORDS)} for _ in each],
        "two words": [{"q": f"{word(0, 200)} {word(200, 2000)}"} for _ in each],
        "words never together": [{"q": "word0 word1"} for _ in each],
        "a phrase": [{"q": f'"{word(0, 50)} {word(0, 50)}"'} for _ in each],
        "a word and an agent": [{"q": word(20, 3000), "agent": f"agent{chosen.randrange(5)}"} for _ in each],
        "a word in a month": [{"q": word(20, 3000), **month()} for _ in each],
        "a word that a user said": [{"q": word(20, 3000), "role": "user"} for _ in each],
        "what users said": [{"role": "user"} for _ in each],
        "trips": [{"type": "guardrail"} for _ in each],
        "errors (none)": [{"type": "error"} for _ in each],
        "a system's words (none)": [{"role": "system"} for _ in each],
    }


async def measure(client: httpx2.AsyncClient, asked: list[dict[str, str]]) -> tuple[list[float], int]:
    took, found = [], 0
    for query in asked:
        began = time.perf_counter()
        answer = await client.get("/v1/transcripts", params=query)
        took.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
        found += len(answer.json()["data"])
    return took, found


async def run(items: int, count: int) -> bool:
    with PostgresServer() as server:
        url = server.url
        migrate.upgrade(url)
        store = TranscriptStore(url)
        _partitions(url)
        began = time.perf_counter()
        fill(url, items)
        print(f"{items:,} lines of {items // LINES:,} calls written in {time.perf_counter() - began:.0f} s", flush=True)
        everything: list[float] = []
        async with store, serving(create_app(store, Authenticator()), host="127.0.0.1", port=0) as api:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=60) as client:
                await measure(client, [{"q": "word5000"}])
                print(f"{'query':22} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8} {'found':>7}")
                for name, asked in queries(count).items():
                    took, found = await measure(client, asked)
                    everything += took
                    _row(name, took, found)
        _row("all", everything, 0)
        p95 = statistics.quantiles(everything, n=100)[94]
        print(f"p95 {p95:.1f} ms, at most {LIMIT_MS} ms wanted: {'ok' if p95 < LIMIT_MS else 'too slow'}")
        return p95 < LIMIT_MS


def _row(name: str, took: list[float], found: int) -> None:
    cuts: Any = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    print(f"{name:22} {cuts[49]:8.1f} {cuts[94]:8.1f} {max(took):8.1f} {found:7}", flush=True)


def _partitions(url: str) -> None:

    engine = create_engine(url)
    with engine.begin() as connection:
        for day in range(0, DAYS, 25):
            create_partitions(connection, month_of(BEGAN + day * DAY_MS))
    engine.dispose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=400)
    given = parser.parse_args()
    raise SystemExit(0 if asyncio.run(run(given.items, given.queries)) else 1)
