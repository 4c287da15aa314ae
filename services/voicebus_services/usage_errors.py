"""The one sentence for a command line that cannot be: the option, what was read, and what is allowed.

The single home of how typer's reports are told, in the words in which `settings_errors` tells of settings.
"""

from typing import Any

import typer
from pydantic import ValidationError

from voicebus_services.settings_errors import allowed


def help_instead(error: typer.TyperException) -> str | None:
    """The help that typer wants shown where a command of several was not named, None for every other report."""
    return error.format_message() if type(error).__name__ == "NoArgsIsHelpError" else None


def sentence(error: typer.TyperException) -> str:
    """What was wrong, in one sentence."""
    cause: Any = error.__cause__ or error.__context__
    parameter = getattr(error, "param", None)
    if isinstance(cause, ValidationError) and parameter is not None:
        report = cause.errors(include_url=False)[0]
        name = parameter.opts[-1] if parameter.opts[-1].startswith("-") else parameter.opts[-1].upper()
        what = allowed(report).rstrip(".")
        choice = what.removeprefix(f"{report['input']!r} is not one of ")  # which names its value itself
        return f"{name}: {report['input']!r} was read, but {what if choice == what else f'{choice} are allowed'}"
    told = error.format_message()
    return f"{told.rstrip('.')}; `voicebus --help` lists them" if told.startswith("No such command") else told
