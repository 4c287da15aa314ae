"""`voicebus keys`: make API keys, and show what a keys file holds."""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from voicebus.errors import SettingsError, UsageError
from voicebus_services.access.keyfile import Key, KeyFileError, StoredKey, digest, new_key, parse
from voicebus_services.access.principal import Limits
from voicebus_services.settings_errors import allowed

app = typer.Typer(name="keys", help="Make API keys, and show what a keys file holds.", no_args_is_help=True)

_FILE_HELP = "The file of keys."
_OPTIONS: Final = {"sessions": "max_sessions"}
"""Options that have another name than what they say has."""

_NAME: Final = "a name without spaces, colons and braces is allowed"
File = Annotated[Path | None, typer.Option("--file", envvar="VOICEBUS_API_KEYS_FILE", help=_FILE_HELP)]
AsJson = Annotated[bool, typer.Option("--json", envvar="VOICEBUS_JSON", help="Print JSON lines.")]


@app.command("create")
def create_command(
    tenant: Annotated[str, typer.Option(envvar="VOICEBUS_TENANT", help="Whose key it is.")],
    key_id: Annotated[
        str | None,
        typer.Option("--id", envvar="VOICEBUS_KEY_ID", help="Its name in logs and lists. Default: a random one."),
    ] = None,
    agents: Annotated[
        list[str] | None,
        typer.Option(
            "--agents", envvar="VOICEBUS_AGENTS", help="Agents that it opens, separated by commas. Default: all."
        ),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(envvar="VOICEBUS_EXPIRES", help="When it ends: 2030-01-31, or 90d, 12h, 30m from now.")
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(envvar="VOICEBUS_KEY_MAX_SESSIONS", help="Sessions at once, over all gateways.")
    ] = None,
    connections_per_minute: Annotated[
        int | None, typer.Option(envvar="VOICEBUS_KEY_CONNECTIONS_PER_MINUTE", help="New connections in a minute.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(envvar="VOICEBUS_KEY_REQUESTS_PER_MINUTE", help="HTTP requests in a minute.")
    ] = None,
    messages_per_second: Annotated[
        int | None, typer.Option(envvar="VOICEBUS_KEY_MESSAGES_PER_SECOND", help="Messages of one connection.")
    ] = None,
    message_bytes: Annotated[
        int | None, typer.Option(envvar="VOICEBUS_KEY_MESSAGE_BYTES", help="Bytes of one message.")
    ] = None,
    audio_speed: Annotated[
        float | None, typer.Option(envvar="VOICEBUS_KEY_AUDIO_SPEED", help="Audio of one client, times real time.")
    ] = None,
    session_length: Annotated[
        float | None, typer.Option(envvar="VOICEBUS_KEY_SESSION_LENGTH", help="Seconds that a session may last.")
    ] = None,
    idle_time: Annotated[
        float | None, typer.Option(envvar="VOICEBUS_KEY_IDLE_TIME", help="Seconds without a turn that end a session.")
    ] = None,
    session_tokens: Annotated[
        int | None, typer.Option(envvar="VOICEBUS_KEY_SESSION_TOKENS", help="Tokens that a session may cost.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Append it to this file of keys.")] = None,
    json_lines: AsJson = False,
) -> None:
    """Make an API key.

    Prints the key, which is shown this once, and the line to store in the file of keys.
    """
    limits = {
        "sessions": max_sessions,
        "connections_per_minute": connections_per_minute,
        "requests_per_minute": requests_per_minute,
        "messages_per_second": messages_per_second,
        "message_bytes": message_bytes,
        "audio_speed": audio_speed,
        "session_length": session_length,
        "idle_time": idle_time,
        "session_tokens": session_tokens,
    }
    if agents and not any(name.strip(" ,") for name in agents):
        # An empty variable of a shell is not to open every agent.
        raise UsageError("--agents: '' was read; name agents, or leave it out for a key that opens all of them")
    named = [name.strip() for names in agents or () for name in names.split(",") if name.strip()]
    key, stored = create(tenant=tenant, key_id=key_id, agents=named, expires=expires, limits=limits)
    if file is not None:
        append(file, stored)
    if json_lines:
        typer.echo(json.dumps({"key": key, "stored": json.loads(stored.line())}))
    else:
        typer.echo(key)
        typer.echo(stored.line())
    where = "add the second line to the file of keys" if file is None else f"{file} holds its digest"
    typer.echo(f"voicebus: this key is shown once; {where}", err=True)


@app.command("list")
def list_command(file: File = None, json_lines: AsJson = False) -> None:
    """Show the keys of a file, without the keys themselves."""
    for shown in listed(file):
        typer.echo(json.dumps(shown) if json_lines else line_of(shown))


def create(
    *,
    tenant: str,
    key_id: str | None = None,
    agents: Sequence[str] = (),
    expires: str | None = None,
    limits: Mapping[str, Any] | None = None,
) -> tuple[str, StoredKey]:
    """A new key, and what to store of it. `expires` is RFC 3339, a date, or a time from now such as `90d` or `12h`.

    Raises:
        UsageError: a name, the expiry or a limit cannot be.
    """
    key = new_key()
    try:
        stored = StoredKey(
            id=key_id or f"key-{secrets.token_hex(4)}",
            tenant=tenant,
            sha256=digest(key).hex(),
            agents=frozenset(agents) or None,
            expires=_expiry(expires),
            limits=Limits(**{name: value for name, value in (limits or {}).items() if value is not None}),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = next(part for part in reversed(first["loc"]) if isinstance(part, str))  # behind it which of several
        where = _OPTIONS.get(name, name)
        what = _NAME if first["type"] == "string_pattern_mismatch" else allowed(first)
        raise UsageError(f"--{where.replace('_', '-')}: {first['input']!r} was read, but {what}") from error
    return key, stored


def append(path: Path, stored: StoredKey) -> None:
    """Add a key to a keys file, which is made where there is none, for its owner's eyes only.

    Raises:
        UsageError: the file cannot be read or written, is no file of keys, or has a key of this id.
    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            text += "\n"
        whole = f"{text}{stored.line()}\n"
        parse(whole)
        # Written beside and moved into place, so that no service ever reads half of it.
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(whole)
        beside.replace(path)
    except KeyFileError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--file: {str(path)!r} cannot be written ({getattr(error, 'strerror', error)})") from error


def listed(path: Path | None) -> list[dict[str, Any]]:
    """What a keys file holds, without anything of the keys themselves.

    Raises:
        SettingsError: there is no file, or it is none of keys.
    """
    if path is None:
        raise SettingsError("VOICEBUS_API_KEYS_FILE: nothing was read; name the file of keys, or give --file")
    try:
        return [_shown(key) for key in parse(path.read_text(encoding="utf-8"))]
    except KeyFileError as error:
        raise SettingsError(f"VOICEBUS_API_KEYS_FILE: {str(path)!r} was read, but {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"VOICEBUS_API_KEYS_FILE: {str(path)!r} cannot be read ({error})") from error


def line_of(shown: Mapping[str, Any]) -> str:
    """A listed key for reading."""
    agents = "all agents" if shown["agents"] is None else ", ".join(shown["agents"])
    limits = ", ".join(f"{name}={value:g}" for name, value in shown["limits"].items())
    state = "expired" if shown["expired"] else f"expires {shown['expires']}" if shown["expires"] else "no expiry"
    return f"{shown['id']}  tenant {shown['tenant']}  {agents}  {state}" + (f"  {limits}" if limits else "")


def _shown(key: Key) -> dict[str, Any]:
    principal = key.principal
    expires = principal.expires_at
    return {
        "id": principal.key_id,
        "tenant": principal.tenant,
        "agents": None if principal.agents is None else sorted(principal.agents),
        "expires": None if expires is None else datetime.fromtimestamp(expires, UTC).isoformat().replace("+00:00", "Z"),
        "expired": principal.expired(),
        "limits": principal.limits.model_dump(exclude_none=True),
    }


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    units = {"m": 60, "h": 3600, "d": 86400}
    if text[:-1].isdigit() and text[-1:] in units and len(text) < 9:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=int(text[:-1]) * units[text[-1]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--expires: {text!r} was read; a date such as 2030-01-31, or 90d, 12h, 30m, is allowed"
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= datetime.now(UTC):
        raise UsageError(f"--expires: {text!r} was read, but a time to come is allowed")
    return moment
