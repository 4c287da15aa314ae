"""`voicebus dead-letters`: entries that were given up, to look at, to replay and to drop."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import typer

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.clock import RedisClock
from voicebus.adapters.redis.letter_box import DeadLetter, LetterBox, NotReplayedError, NotThereError
from voicebus.contracts.streams import Keys
from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import run
from voicebus_services.operating import AsJson, ListsByDefault, Prefix, RedisUrl, on_the_bus
from voicebus_services.printable import printable
from voicebus_services.setting_values import duration_ms

app = typer.Typer(
    name="dead-letters",
    cls=ListsByDefault,
    help="Look at, replay and drop what was given up. Without a command it is listed.",
)

T = TypeVar("T")

_ERROR_SHOWN: Final = 120

Queue = Annotated[
    str | None,
    typer.Option(envvar="VOICEBUS_QUEUE", help="Only this queue's: a tool queue, or guardrails, events, inbox."),
]
Reason = Annotated[str | None, typer.Option(envvar="VOICEBUS_REASON", help="Only those given up for this reason.")]
All = Annotated[bool, typer.Option("--all", envvar="VOICEBUS_ALL", help="All of them that fit --queue and --reason.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="As `list` shows them: QUEUE/NUMBER-NUMBER.")]


@app.command("list")
def list_command(
    queue: Queue = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, envvar="VOICEBUS_LIMIT", help="At most so many.")] = 100,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """List dead letters, oldest first in each queue."""

    async def work(box: LetterBox) -> None:
        shown = 0
        async for letter in box.letters(queue=queue, reason=reason):
            if shown == limit:
                typer.echo(f"voicebus: there are more than {limit}; --limit shows more", err=True)
                return
            shown += 1
            typer.echo(json.dumps(summary(letter)) if json_lines else line_of(letter))
        if not shown:
            typer.echo("voicebus: no dead letters", err=True)

    run(_with(work, redis_url, stream_prefix))


@app.command("show")
def show_command(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it: QUEUE/NUMBER-NUMBER.")],
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Show one dead letter whole.

    Its entry, why it was given up, and who started it when.
    """

    async def work(box: LetterBox) -> bool:
        try:
            letter = await box.get(letter_id)
        except NotThereError as error:
            typer.echo(f"voicebus: {error}", err=True)
            return False
        whole = summary(letter) | {"entry": dict(letter.fields)}
        typer.echo(json.dumps(whole) if json_lines else _page(letter))
        return True

    if not run(_with(work, redis_url, stream_prefix)):
        raise typer.Exit(1)


@app.command("replay")
def replay_command(
    ids: Ids = None,
    queue: Queue = None,
    reason: Reason = None,
    every: All = False,
    deadline: Annotated[
        str | None,
        typer.Option(
            envvar="VOICEBUS_DEADLINE", help="What each has from now on, such as 30s. Default: as much as it had."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", envvar="VOICEBUS_FORCE", help="Also calls that had started and are not idempotent."),
    ] = False,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Put dead letters back into their streams.

    They keep their ids and have a new deadline. A call that had started and is not marked idempotent is left, as it
    might take effect twice; --force replays it all the same.
    """
    limit_ms = None if deadline is None else duration_ms(deadline, "--deadline")

    async def act(box: LetterBox, letter: DeadLetter) -> dict[str, Any]:
        return {"id": letter.id, "entry": await box.replay(letter, deadline_ms=limit_ms, force=force)}

    _each(ids, queue, reason, every, act, "replayed", redis_url, stream_prefix, json_lines)


@app.command("drop")
def drop_command(
    ids: Ids = None,
    queue: Queue = None,
    reason: Reason = None,
    every: All = False,
    redis_url: RedisUrl = None,
    stream_prefix: Prefix = None,
    json_lines: AsJson = False,
) -> None:
    """Delete dead letters."""

    async def act(box: LetterBox, letter: DeadLetter) -> dict[str, Any]:
        if not await box.drop(letter):
            raise NotThereError(f"{letter.id} is not there any more")
        return {"id": letter.id}

    _each(ids, queue, reason, every, act, "dropped", redis_url, stream_prefix, json_lines)


def summary(letter: DeadLetter) -> dict[str, Any]:
    """A letter as JSON, without its entry."""
    deliveries = letter.fields.get("deliveries", "")
    return {
        "id": letter.id,
        "queue": letter.queue,
        "reason": letter.reason,
        "error": letter.fields.get("error", ""),
        "deliveries": int(deliveries) if deliveries.isdigit() else None,
        "at": _time(letter.at_ms),
        "origin": letter.fields.get("origin", ""),
        "type": letter.fields.get("type", ""),
        "session": letter.fields.get("session", ""),
        "call_id": letter.data.get("call_id"),
        "tool": letter.data.get("tool"),
        "idempotent": letter.data.get("idempotent"),
        "history": list(letter.history),
    }


def line_of(letter: DeadLetter) -> str:
    """A letter as a line of the list."""
    about = summary(letter)
    named = " ".join(str(about[name]) for name in ("tool", "session", "call_id") if about[name])
    error = " ".join(str(about["error"]).split())
    shown = error if len(error) <= _ERROR_SHOWN else f"{error[:_ERROR_SHOWN]}…"
    line = f"{letter.id}  {about['at']}  {about['reason']}  x{about['deliveries']}  {about['type']} {named}  {shown}"
    return printable(line)


def _page(letter: DeadLetter) -> str:
    about = summary(letter)
    starts = [f"{_time(int(start['at']))} by {start['worker']}" for start in about.pop("history")]
    lines = [f"{name}: {value}" for name, value in about.items() if value not in (None, "")]
    lines += [f"started: {start}" for start in starts]
    page = "\n".join([*lines, *(f"  {name}: {text}" for name, text in letter.fields.items())])
    return printable(page, lines=True)


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _each(
    ids: Sequence[str] | None,
    queue: str | None,
    reason: str | None,
    every: bool,
    act: Callable[[LetterBox, DeadLetter], Awaitable[dict[str, Any]]],
    done: str,
    redis_url: str | None,
    stream_prefix: str | None,
    json_lines: bool,
) -> None:
    if bool(ids) == every:
        raise UsageError("name the dead letters, or say --all (with --queue and --reason to choose); not both")
    if ids and (queue is not None or reason is not None):
        raise UsageError("--queue and --reason choose among --all; they go with no ids")

    async def work(box: LetterBox) -> bool:
        good = True
        wanted = ids or [letter.id async for letter in box.letters(queue=queue, reason=reason)]
        if not wanted:
            typer.echo("voicebus: no dead letters", err=True)
        for letter_id in wanted:
            try:
                about = await act(box, await box.get(letter_id))
            except (NotThereError, NotReplayedError) as error:
                good = False
                typer.echo(f"voicebus: {error}", err=True)
                continue
            as_text = f"{done} {letter_id}" + (f" as {about['entry']}" if "entry" in about else "")
            typer.echo(json.dumps({done: True, **about}) if json_lines else as_text)
        return good

    if not run(_with(work, redis_url, stream_prefix)):
        raise typer.Exit(1)


async def _with(work: Callable[[LetterBox], Awaitable[T]], redis_url: str | None, stream_prefix: str | None) -> T:
    async def with_box(bus: RedisConnection, keys: Keys, clock: RedisClock) -> T:
        return await work(LetterBox(bus, keys, clock))

    return await on_the_bus(with_box, redis_url, stream_prefix)
