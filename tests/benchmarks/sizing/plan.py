"""From what one unit of work costs to what so many calls at once need. Pure arithmetic: docs/operations.md shows it."""

import math
from dataclasses import dataclass
from typing import Final

MS_PER_S: Final = 1000
US_PER_S: Final = 1_000_000
GB: Final = 1e9


@dataclass(frozen=True)
class Figures:
    """What was measured; CPU is that of one core of the machine that measured it.

    Of a conversation (per session and second): `gateway_ms`, `guardrail_ms`, `redis_ms` of CPU, `redis_commands`,
    `redis_in` and `redis_out` bytes. Of a conversation, for a day after its end: `redis_state` bytes, and `redis_item`
    for each line and call of it. Of a tool call: `call_worker_us`, `call_redis_us`, `call_redis_commands`, the bytes
    `call_redis_in` and `call_redis_out`, and `call_redis_bytes` of its record, for a day. Of a recorded event:
    `event_archiver_us`, `event_postgres_us`, `event_redis_bytes` while it waits, `event_row_bytes` in PostgreSQL with
    indexes. Resident memory: `gateway_mb` of a session, `gateway_process_mb` of a gateway without any.
    """

    gateway_ms: float
    gateway_mb: float
    gateway_process_mb: float
    guardrail_ms: float
    redis_ms: float
    redis_commands: float
    redis_in: float
    redis_out: float
    redis_state: float
    redis_item: float
    call_worker_us: float
    call_redis_us: float
    call_redis_commands: float
    call_redis_in: float
    call_redis_out: float
    call_redis_bytes: float
    event_archiver_us: float
    event_postgres_us: float
    event_redis_bytes: float
    event_row_bytes: float


@dataclass(frozen=True)
class Habits:
    """What calls are like, and how full things may be. Prices are examples: put in your own."""

    turns_per_minute: float = 6.0
    tool_calls_per_minute: float = 1.0
    tool_seconds: float = 1.0
    minutes: float = 5.0
    busy_hours_per_day: float = 10.0
    full: float = 0.6
    sessions_per_gateway: int = 250
    calls_per_worker: int = 20
    sessions_per_shard: int = 1_000
    hours_without_postgres: float = 1.0
    redis_copies: int = 2
    core_hour: float = 0.04
    memory_gb_hour: float = 0.005
    gb_month: float = 0.12

    @property
    def events_per_second(self) -> float:
        """Recorded of one conversation: two lines and the end of each turn, begin and end of each call."""
        return (3 * self.turns_per_minute + 2 * self.tool_calls_per_minute) / 60


@dataclass(frozen=True)
class Plan:
    """What so many conversations at once need; cores where nothing else is said."""

    calls: int
    gateways: int
    gateway_cores: float
    gateway_gb: float
    tool_workers: int
    tool_worker_cores: float
    guardrail_cores: float
    redis_cores: float
    redis_masters: int
    redis_commands: float
    redis_mbit: float
    redis_gb: float
    redis_events_gb: float
    shards: int
    archivers: int
    postgres_cores: float
    postgres_rows: float
    postgres_gb_day: float
    cost_per_call: float


def plan(calls: int, f: Figures, h: Habits | None = None) -> Plan:
    """The need of `calls` conversations at once. Redis' masters are what one thread each can do, `full` at most."""
    h = h or Habits()
    tool_calls = calls * h.tool_calls_per_minute / 60
    events = calls * h.events_per_second
    # What was measured of Redis has turns and checks in it, and no tool calls.
    redis = calls * f.redis_ms / MS_PER_S + tool_calls * f.call_redis_us / US_PER_S
    gateway = calls * f.gateway_ms / MS_PER_S / h.full
    workers = tool_calls * f.call_worker_us / US_PER_S / h.full
    guardrails = calls * f.guardrail_ms / MS_PER_S / h.full
    archivers = events * f.event_archiver_us / US_PER_S / h.full
    postgres = events * f.event_postgres_us / US_PER_S / h.full
    pods = gateway + workers + guardrails + archivers
    servers = h.redis_copies * redis / h.full + postgres
    ended_per_second = calls / (h.minutes * 60)
    events_per_call = h.events_per_second * h.minutes * 60
    stored_gb = events_per_call * f.event_row_bytes / GB
    # What a session held stays for a day after its end; those of the busy hours are all there then.
    kept = ended_per_second * h.busy_hours_per_day * 3600
    # Two lines of a turn; a call is an item, and stands in its session's calls, beside its record.
    items = h.minutes * (2 * h.turns_per_minute + 2 * h.tool_calls_per_minute)
    session_bytes = f.redis_state + items * f.redis_item + h.minutes * h.tool_calls_per_minute * f.call_redis_bytes
    events_gb = events * h.hours_without_postgres * 3600 * f.event_redis_bytes / GB
    redis_gb = (kept + calls) * session_bytes / GB + events_gb
    gateways = math.ceil(calls / h.sessions_per_gateway)
    # Pods come and go with the calls; Redis and PostgreSQL are there at night, too.
    pods_cost = pods * h.core_hour * h.minutes / 60 / calls
    servers_cost = (servers * h.core_hour + h.redis_copies * redis_gb * h.memory_gb_hour) * 24 / kept
    return Plan(
        calls=calls,
        gateways=gateways,
        gateway_cores=gateway,
        gateway_gb=(calls * f.gateway_mb + gateways * f.gateway_process_mb) * 1e6 / GB,
        tool_workers=math.ceil(tool_calls * h.tool_seconds / h.calls_per_worker / h.full),
        tool_worker_cores=workers,
        guardrail_cores=guardrails,
        redis_cores=redis / h.full,
        redis_masters=max(1, math.ceil(redis / h.full)),
        redis_commands=calls * f.redis_commands + tool_calls * f.call_redis_commands,
        redis_mbit=(calls * (f.redis_in + f.redis_out) + tool_calls * (f.call_redis_in + f.call_redis_out)) * 8 / 1e6,
        redis_gb=redis_gb,
        redis_events_gb=events_gb,
        shards=max(16, 2 ** math.ceil(math.log2(max(1.0, calls / h.sessions_per_shard)))),
        archivers=max(2, math.ceil(archivers)),
        postgres_cores=postgres,
        postgres_rows=events,
        postgres_gb_day=kept * stored_gb,
        cost_per_call=pods_cost + servers_cost + stored_gb * h.gb_month,
    )


def rows(plans: list[Plan]) -> list[tuple[str, list[str]]]:
    """The table, a row for each need."""

    def each(show: str, name: str) -> list[str]:
        return [format(getattr(one, name), show) for one in plans]

    return [
        ("gateways (250 sessions each)", each(",d", "gateways")),
        ("gateways, cores", each(",.1f", "gateway_cores")),
        ("gateways, memory GB", each(",.1f", "gateway_gb")),
        ("tool workers (20 calls at once each)", each(",d", "tool_workers")),
        ("tool workers' own part, cores", each(",.2f", "tool_worker_cores")),
        ("guardrail workers' own part, cores", each(",.1f", "guardrail_cores")),
        ("Redis, cores", each(",.2f", "redis_cores")),
        ("Redis, masters", each(",d", "redis_masters")),
        ("Redis, commands/s", each(",.0f", "redis_commands")),
        ("Redis, network Mbit/s", each(",.1f", "redis_mbit")),
        ("Redis, memory GB", each(",.1f", "redis_gb")),
        ("of it an hour of events, GB", each(",.1f", "redis_events_gb")),
        ("event shards", each(",d", "shards")),
        ("archivers", each(",d", "archivers")),
        ("PostgreSQL, cores", each(",.2f", "postgres_cores")),
        ("PostgreSQL, events/s", each(",.0f", "postgres_rows")),
        ("PostgreSQL, GB a day", each(",.1f", "postgres_gb_day")),
        ("cost of a call without the model", each(",.6f", "cost_per_call")),
    ]
