"""`voicebus contract acl`: users of Redis, one for each service, with passwords that are made here."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from voicebus.contracts.access import Access, accesses
from voicebus.errors import UsageError

ACL_FILE: Final = "users.acl"
PASSWORDS: Final = "passwords"
_SECRET_BYTES: Final = 32


def acl_file(users: Mapping[str, Access], passwords: Mapping[str, str]) -> str:
    """Users with their passwords' hashes, one a line, as Redis's `aclfile` and `ACL SETUSER` take them."""
    lines = []
    for name, access in users.items():
        hashed = hashlib.sha256(passwords[name].encode()).hexdigest()
        lines.append(" ".join(["user", name, "on", "sanitize-payload", f"#{hashed}", *access.rules()]))
    return "".join(f"{line}\n" for line in lines)


def acl_command(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made where it is not there.")],
    stream_prefix: Annotated[
        str, typer.Option(metavar="PREFIX", envvar="VOICEBUS_STREAM_PREFIX", help="First part of every Redis key.")
    ] = "vb",
    queue: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A tool worker's user that touches this queue alone; several times."),
    ] = None,
) -> None:
    """Make a user of Redis for each service.

    It may touch the keys that it needs and no others.

    Writes DIRECTORY/users.acl, for the file that Redis's `aclfile` names (then ACL LOAD), and each user's password in
    DIRECTORY/passwords/USER. A password that is there already stays, so a second run only brings the rules up to date.
    """
    prefix = _checked("--stream-prefix", stream_prefix, 32)
    queues = [_checked("--queue", name, 64) for name in queue or []]
    users = {f"{prefix}-{name}": access for name, access in accesses(prefix, queues=queues).items()}
    folder = directory / PASSWORDS
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        passwords = {name: _password(folder / name) for name in users}
        (directory / ACL_FILE).write_text(acl_file(users, passwords), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{str(directory)!r} cannot be written ({error.strerror})") from error
    for name in users:
        typer.echo(name)


def _checked(option: str, name: str, longest: int) -> str:
    if re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{longest}}}", name) is None:
        raise UsageError(
            f"{option}: {name!r} was read, but a name of 1 to {longest} letters, digits and _ . - is allowed"
        )
    return name


def _password(path: Path) -> str:
    """The password in this file, which is made where it is not there; nobody else reads it.

    Raises:
        UsageError: the file is empty.
    """
    if not path.exists():
        path.touch(mode=0o600)
        # Without a line end: a secret that is made of the file holds just this.
        path.write_text(secrets.token_urlsafe(_SECRET_BYTES), encoding="utf-8")
    if found := path.read_text(encoding="utf-8").strip():
        return found
    raise UsageError(f"{str(path)!r} is empty; write a password into it, or remove it to have one made")
