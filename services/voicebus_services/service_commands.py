"""One command per service, whose options are made from its settings class.

So each setting is an option, an environment variable and a line of help, all of one name. A setting that may hold a
secret is no option: everybody on a machine sees the command lines of its processes.
"""

import importlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from voicebus.errors import UsageError
from voicebus.runtime.lifecycle import run
from voicebus_services import settings
from voicebus_services.misspelled import misspelled, variables_of
from voicebus_services.open_files import allow_open_files
from voicebus_services.settings import ENV_PREFIX, ServiceSettings, load
from voicebus_services.settings_errors import MAY_HOLD_SECRETS
from voicebus_services.trace_settings import tracing_of

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET...",
        envvar=f"{ENV_PREFIX}TARGETS",
        help="Modules, or module:attribute, that define your agents, tools and guardrails.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", envvar=f"{ENV_PREFIX}JSON", help="Print JSON lines.")]

# Options that may be given several times.
_REPEATED: Final = frozenset({"mcp"})

_DURATIONS: Final = "A DURATION is such as 30, 30s, 500ms, 2m, 1h or 30d."
_ENDS: Final = (
    "Runs until SIGTERM (exit status 0) or Ctrl-C (130), and finishes what is in hand before. What stops the start is "
    "one sentence: exit status 2 for a setting or a TARGET, 1 for what cannot be reached."
)

_SERVICES: Final[Sequence[tuple[str, type[ServiceSettings], str | None, str, bool]]] = (
    ("gateway", settings.GatewaySettings, "gateway", "Hold conversations with the model.", True),
    ("tool-worker", settings.ToolWorkerSettings, None, "Run function tools.", True),
    ("guardrail-worker", settings.GuardrailWorkerSettings, None, "Judge what agents say.", True),
    ("transcript-archiver", settings.ArchiverSettings, "archiver", "Keep conversations; serve transcripts.", False),
    ("model-simulator", settings.SimulatorSettings, "gateway", "Stand in for the model, offline.", False),
)


def register(app: typer.Typer) -> None:
    """Give `app` the command of every service: its settings, the extra that it needs, and whether it has targets."""
    for name, kind, extra, summary, has_targets in _SERVICES:
        _register(app, name, kind, extra, summary, targets=has_targets)


def misspelled_variables(app: typer.Typer) -> Mapping[str, str]:
    """Variables of the environment that nothing reads, each with the one of `app` or of a service that was meant."""
    known = variables_of(typer.main.get_command(app), [kind for _, kind, _, _, _ in _SERVICES])
    return misspelled(os.environ, known)


def _warn_of_slips(app: typer.Typer) -> None:
    from voicebus.telemetry.logging import get_logger

    for variable, meant in misspelled_variables(app).items():
        get_logger(__name__).warning("nothing reads this variable", variable=variable, did_you_mean=meant)


def export(options: dict[str, Any]) -> None:
    """Options of the command line become variables: one way in for every setting, inherited by child processes."""
    for name, value in options.items():
        if value is not None and value != []:
            text = (
                str(value).lower()
                if isinstance(value, bool)
                else json.dumps(value)
                if name in _REPEATED
                else str(value)
            )
            os.environ[f"{ENV_PREFIX}{name.upper()}"] = text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def begin_logging(read: ServiceSettings, service: str, *, level: str | None = None) -> None:
    """Log as the settings say, or at `level`."""
    from voicebus.telemetry.logging import configure

    configure(level=level or read.log_level, style=read.log_format, service=service)


def begin_tracing(read: ServiceSettings, service: str) -> Callable[[], None]:
    """Send spans where the settings say so; what is returned sends the last ones.

    Raises:
        SettingsError: OpenTelemetry's own variables ask for what is not done here.
        UsageError: the packages are missing.
    """
    from voicebus.telemetry.tracing import configure

    wanted = tracing_of(read)
    if wanted is None:
        return lambda: None
    try:
        return configure(service, endpoint=wanted.endpoint, headers=wanted.headers, ratio=wanted.ratio)
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing; install voicebus[otel]") from error


def _register(
    app: typer.Typer, name: str, kind: type[ServiceSettings], extra: str | None, summary: str, *, targets: bool
) -> None:
    def command(**given: Any) -> None:
        named = given.pop("target", None)
        for secret in MAY_HOLD_SECRETS & {field for field, value in given.items() if value is not None}:
            raise UsageError(_not_here(secret))
        export(given)
        read = load(kind)
        begin_logging(read, name)
        _warn_of_slips(app)
        package = f"voicebus_services.{name.replace('-', '_')}"
        try:
            serve = importlib.import_module(f"{package}.wiring").serve
        except ModuleNotFoundError as error:
            if extra is None or (error.name or "").startswith("voicebus"):
                raise
            raise UsageError(f"the package {error.name} is missing; install voicebus[{extra}]") from error
        flush = begin_tracing(read, name)
        allow_open_files()
        try:
            run(serve(read, named or []) if targets else serve(read))
        finally:
            flush()

    parameters = [] if not targets else [_parameter("target", Targets, None)]
    secrets = []
    for field_name, field in kind.model_fields.items():
        if field.annotation is not None and SecretStr.__name__ in str(field.annotation):
            secrets.append(field_name)
            if field_name not in MAY_HOLD_SECRETS:
                continue
        elif field_name in MAY_HOLD_SECRETS:
            secrets.append(field_name)
        parameters.append(_parameter(field_name, _option(field_name, field), None))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    epilog = f"{_DURATIONS}\n\n{_ENDS}"
    if secrets:
        epilog = f"Only from the environment, since they may hold secrets: {_variables(secrets)}.\n\n{epilog}"
    app.command(name, help=summary, epilog=epilog)(command)


def _option(name: str, field: FieldInfo) -> Any:
    if name in MAY_HOLD_SECRETS:
        return Annotated[str | None, typer.Option(hidden=True)]
    if name in _REPEATED:  # its variable is read with the settings: an option's would be split at spaces
        return Annotated[list[str] | None, typer.Option(help=f"{field.description}", metavar="SOURCE")]
    kind: Any = bool if field.annotation is bool else str
    option = typer.Option(
        envvar=f"{ENV_PREFIX}{name.upper()}",
        help=_help(name, field.description, field.get_default(call_default_factory=True)),
        metavar=None if kind is bool else _metavar(name, field),
        show_default=False,
    )
    return Annotated[kind | None, option]


def _metavar(name: str, field: FieldInfo) -> str:
    """What stands for the value: its kind where that says more than its name does."""
    if get_origin(field.annotation) is Literal:
        return "|".join(str(choice) for choice in get_args(field.annotation))
    if field.annotation is timedelta:
        return "DURATION"
    if field.annotation in (int, float) and not name.endswith("_port"):
        return "NUMBER"
    return name.rpartition("_")[2].upper()


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _help(name: str, description: str | None, default: object) -> str:
    text = description or name.replace("_", " ").capitalize() + "."
    shown = f"{default.total_seconds():g}s" if hasattr(default, "total_seconds") else default
    shown = ",".join(shown) if isinstance(shown, tuple) else shown
    return f"{text} Default: {shown}." if shown not in (None, {}, "") else text


def _variables(names: Sequence[str]) -> str:
    listed = ", ".join(f"{ENV_PREFIX}{name.upper()}" for name in names)
    return f"{listed}; {ENV_PREFIX}X_FILE names a file with the value of {ENV_PREFIX}X"


def _not_here(name: str) -> str:
    variable = f"{ENV_PREFIX}{name.upper()}"
    return (
        f"--{name.replace('_', '-')} may hold secrets, and everybody on this machine sees its command line; "
        f"set {variable}, or {variable}_FILE to a file with the value"
    )
