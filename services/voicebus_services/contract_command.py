"""`voicebus contract`: the stream contract for workers in other languages, as documents."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from voicebus.adapters.redis.scripts import PUBLISHED
from voicebus.contracts.asyncapi import asyncapi
from voicebus.errors import UsageError
from voicebus_services.acl_command import acl_command

app = typer.Typer(name="contract", help="The stream contract, for workers in other languages.", no_args_is_help=True)

DOCUMENT: Final = "asyncapi.json"


def document() -> str:
    """The AsyncAPI document as text, one line end behind it."""
    return json.dumps(asyncapi(), indent=2, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """What is published, by file name: the document, and each script that workers run."""
    return {DOCUMENT: document(), **{f"{script.name}.lua": script.text for script in PUBLISHED}}


app.command("acl")(acl_command)


@app.command("asyncapi")
def asyncapi_command() -> None:
    """Print the AsyncAPI 3 document."""
    typer.echo(document(), nl=False)


@app.command("scripts")
def scripts_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Only these. Default: all.")] = None,
) -> None:
    """Print the Lua scripts that workers of the full level run.

    Each begins with its keys, arguments and replies.
    """
    known = {script.name: script.text for script in PUBLISHED}
    for name in names or known:
        if name not in known:
            raise UsageError(f"there is no script {name!r}; there are {', '.join(known)}")
        typer.echo(known[name] if names and len(names) == 1 else f"-- {name}.lua\n{known[name]}", nl=False)


@app.command("write")
def write_command(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made where it is not there.")],
) -> None:
    """Write the document and the scripts into a directory."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files().items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{str(directory)!r} cannot be written ({error.strerror})") from error
    typer.echo(f"{len(files())} files in {directory}")
