"""The `voicebus` command.

Thin: every command builds its settings and hands over. The services' own commands are in `service_commands`.
"""

import asyncio
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

from voicebus.errors import (
    BusError,
    ModelLinkError,
    ScenarioError,
    SettingsError,
    StoreError,
    TargetError,
    UsageError,
    UserError,
    VoicebusError,
)
from voicebus_services import (
    approvals_command,
    contract_command,
    dead_letters_command,
    keys_command,
    service_commands,
    sessions_command,
    tools_command,
    usage_errors,
)
from voicebus_services import settings as settings_module
from voicebus_services.printable import printable
from voicebus_services.service_commands import AsJson, Targets, begin_logging, export
from voicebus_services.settings import DIE_WITH_PARENT, ENV_PREFIX, Service, ServiceSettings, load
from voicebus_services.standard_streams import open_standard_streams
from voicebus_services.top.command import top
from voicebus_services.transcripts import command as transcripts_command

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_WHAT: Final[Sequence[tuple[type[VoicebusError], str]]] = (
    (SettingsError, "settings"),
    (TargetError, "target"),
    (ScenarioError, "test"),
    (UserError, "agent"),
    (BusError, "redis"),
    (StoreError, "database"),
    (ModelLinkError, "model"),
    (UsageError, "usage"),
    (VoicebusError, "failed"),
)

app = typer.Typer(
    name="voicebus",
    help="Realtime voice agents as a cluster: gateway, tool workers, guardrail workers, transcript archiver.",
    epilog="Begin with `voicebus dev MODULE`, the module that defines your agents. Every option is a variable too: "
    "--redis-url is VOICEBUS_REDIS_URL. Exit status: 0 done, 1 failed, 2 usage or settings, 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        _say(f"voicebus {metadata.version('voicebus')} (Python {platform.python_version()})")
        raise typer.Exit(EXIT_DONE)


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before every command."""


CaFile = Annotated[
    Path | None,
    typer.Option(
        envvar="VOICEBUS_CA_FILE",
        help="PEM file of the authorities to trust for https and wss, in place of this machine's (or SSL_CERT_FILE's).",
    ),
]


# --- working with a cluster ------------------------------------------------------------------------


@app.command()
def dev(
    target: Targets = None,
    gateways: Annotated[int, typer.Option(min=1, envvar="VOICEBUS_GATEWAYS", help="Number of gateways.")] = 1,
    tool_workers: Annotated[
        int, typer.Option(min=1, envvar="VOICEBUS_TOOL_WORKERS", help="Number of tool workers.")
    ] = 1,
    guardrail_workers: Annotated[
        int, typer.Option(min=1, envvar="VOICEBUS_GUARDRAIL_WORKERS", help="Number of guardrail workers.")
    ] = 1,
    archivers: Annotated[int, typer.Option(min=1, envvar="VOICEBUS_ARCHIVERS", help="Number of archivers.")] = 1,
    http_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="VOICEBUS_HTTP_PORT", help="Port of the gateway; 0 is any free one.")
    ] = 8080,
    archiver_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="VOICEBUS_ARCHIVER_PORT", help="Port of the archiver.")
    ] = 8081,
    simulator_port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="VOICEBUS_SIMULATOR_PORT", help="Port of the simulator.")
    ] = 8090,
    ops_port: Annotated[
        int,
        typer.Option(min=0, max=65535, envvar="VOICEBUS_OPS_PORT", help="First ops port; 0 takes free ones for all."),
    ] = 9460,
    demo: Annotated[bool, typer.Option(envvar="VOICEBUS_DEMO", help="Hold the demo conversation, then serve.")] = False,
    once: Annotated[
        bool, typer.Option(envvar="VOICEBUS_ONCE", help="Hold the demo conversation and exit 0 or 1.")
    ] = False,
    wav: Annotated[Path | None, typer.Option(envvar="VOICEBUS_WAV", help="The demo's question, spoken.")] = None,
    question: Annotated[
        str | None, typer.Option(envvar="VOICEBUS_QUESTION", help="The demo's question, typed.")
    ] = None,
    speech: Annotated[
        bool | None,
        typer.Option(envvar="VOICEBUS_SPEECH", help="Whether the simulator hears and speaks. Default: if installed."),
    ] = None,
) -> None:
    """Run the whole cluster on this machine.

    Each service is a process of its own; Ctrl-C stops all of them.
    """
    from voicebus_services.dev.cluster import DevOptions, run_dev

    options = DevOptions(
        targets=target or [],
        gateways=gateways,
        tool_workers=tool_workers,
        guardrail_workers=guardrail_workers,
        archivers=archivers,
        http_port=http_port,
        archiver_port=archiver_port,
        simulator_port=simulator_port,
        ops_port=ops_port,
        demo=demo,
        once=once,
        wav=wav,
        question=question,
        speech=speech,
    )
    begin_logging(load(ServiceSettings), "dev")
    if not _run(run_dev(options, report=_say)):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def call(
    agent: Annotated[
        str | None, typer.Option(envvar="VOICEBUS_AGENT", help="Agent to talk to; the default one if not given.")
    ] = None,
    wav: Annotated[
        Path | None, typer.Option(envvar="VOICEBUS_WAV", help="Speak this WAV file and wait for the answer.")
    ] = None,
    text: Annotated[str | None, typer.Option(envvar="VOICEBUS_TEXT", help="Type this and wait for the answer.")] = None,
    mic: Annotated[bool, typer.Option(envvar="VOICEBUS_MIC", help="Talk through this machine's microphone.")] = False,
    out: Annotated[
        Path | None, typer.Option(envvar="VOICEBUS_OUT", help="Write what the agent says to this WAV file.")
    ] = None,
    url: Annotated[str, typer.Option(envvar="VOICEBUS_URL", help="The gateway.")] = "http://127.0.0.1:8080",
    api_key_file: Annotated[
        Path | None, typer.Option(envvar="VOICEBUS_API_KEY_FILE", help="A file with the gateway's API key.")
    ] = None,
    ca_file: CaFile = None,
    timeout: Annotated[
        float,
        typer.Option(min=1, envvar="VOICEBUS_TIMEOUT", help="Longest wait for an answer, in s; none for who types."),
    ] = 120.0,
    json_lines: AsJson = False,
) -> None:
    """Talk to an agent from the terminal.

    Without --wav, --text or --mic, lines of standard input are said one after another.
    """
    from voicebus_services.call.command import CallOptions, run_call

    key = _key(api_key_file)
    options = CallOptions(
        url=url,
        agent=agent,
        wav=wav,
        text=text,
        mic=mic,
        out=out,
        as_json=json_lines,
        api_key=key,
        ca_file=ca_file,
        timeout_s=timeout,
    )
    _run(run_call(options, out=_say))


@app.command("test")
def run_scenarios(
    path: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Scenario files, or folders with *.scenario.yaml.")
    ],
    agent: Annotated[
        str | None,
        typer.Option(
            envvar="VOICEBUS_AGENT",
            help="TARGET instead of the scenarios' own; with --url the agent's name, the default one if not given.",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(envvar="VOICEBUS_URL", help="Talk to this gateway, not to an agent in process.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(envvar="VOICEBUS_API_KEY_FILE", help="A file with the gateway's API key.")
    ] = None,
    ca_file: CaFile = None,
    simulator: Annotated[
        bool, typer.Option(envvar="VOICEBUS_SIMULATOR", help="Let the built-in model-simulator be the model.")
    ] = False,
    model_url: Annotated[
        str | None, typer.Option(envvar="VOICEBUS_MODEL_URL", help="The model of agents in process. Default: OpenAI's.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(envvar="VOICEBUS_JUNIT", help="Write JUnit XML here.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=100, envvar="VOICEBUS_WORKERS", help="Scenarios that run at once.")
    ] = 1,
    json_lines: AsJson = False,
) -> None:
    """Hold the conversations of scenario files.

    With an agent in this process, or with a gateway. Exit status 1 if any step failed, 2 if a file, an agent or an
    option is wrong.
    """
    from voicebus_services.scenario_command import TestOptions, run_tests

    # A setting, as for every service: read with the key and the headers that belong to it.
    export({"model_url": model_url})
    begin_logging(load(ServiceSettings), "test", level=os.environ.get(f"{ENV_PREFIX}LOG_LEVEL") or "warning")
    options = TestOptions(
        paths=path,
        agent=agent,
        url=url,
        api_key=_key(api_key_file),
        ca_file=ca_file,
        simulator=simulator,
        junit=junit,
        as_json=json_lines,
        workers=workers,
    )
    if not _run(run_tests(options, out=_say)):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def doctor(
    target: Targets = None,
    service: Annotated[
        Service | None,
        typer.Option("--for", envvar="VOICEBUS_FOR", help="Check what this service needs, and no more."),
    ] = None,
    json_lines: AsJson = False,
) -> None:
    """Say what is wrong with this installation.

    Configuration, Redis, database, model address and credentials: what is wrong, and how to mend it.
    """
    from voicebus_services.doctor import examine

    begin_logging(load(ServiceSettings), "doctor", level="error")
    findings = _run(examine(target or [], service, slips=service_commands.misspelled_variables(app)))
    for found in findings:
        if json_lines:
            _say(
                json.dumps(
                    {"check": found.check, "ok": found.problem is None, "problem": found.problem, "note": found.note}
                )
            )
        elif found.problem is None:
            _say(f"ok {found.check} {found.milliseconds:.0f} ms  {found.note}")
        else:
            _say(f"FAILED {found.check}: {found.problem}")
    if any(found.problem is not None for found in findings):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def migrate(
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="VOICEBUS_DATABASE_URL",
            metavar="URL",
            help="The archiver's database. Default: sqlite:///voicebus.db.",
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option(envvar="VOICEBUS_MIGRATE_TO", metavar="MIGRATION", help="A number such as 0005, head, or base."),
    ] = "head",
    yes: Annotated[
        bool, typer.Option("--yes", help="Go down, which removes what later migrations added, data included.")
    ] = False,
) -> None:
    """Bring the database up to date.

    Or to another migration. Safe to run again. A database that a newer release has migrated, and that this one can
    use, is left as it is.
    """
    export({"database_url": database_url})
    read = load(settings_module.DatabaseSettings)
    begin_logging(read, "migrate")
    try:
        from voicebus.adapters.database.migrate import move
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing; install voicebus[archiver]") from error
    at = move(read.database_url, revision=to, down=yes)
    _say("database: up to date" if to == "head" else f"database: at {at}")


# In the order of the help: what one begins with, the services, what operates them.
service_commands.register(app)
app.command()(top)
for group in (
    sessions_command, approvals_command, tools_command, transcripts_command, dead_letters_command, keys_command
):  # fmt: skip
    app.add_typer(group.app)
app.add_typer(contract_command.app)


def _key(file: Path | None) -> str | None:
    """The API key for a gateway, from the file of `--api-key-file`."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"--api-key-file: {str(file)!r} cannot be read ({error.strerror})") from error


# --- running ---------------------------------------------------------------------------------------


def _run(main: Any) -> Any:
    from voicebus.runtime.lifecycle import run

    return run(main)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 usage or settings, 130 Ctrl-C."""
    sys.exit(_outcome(lambda: app(arguments, prog_name="voicebus", standalone_mode=False)))


def _outcome(command: Callable[[], Any]) -> int:
    open_standard_streams()
    # A background shell starts its children with these ignored; Python would then never stop on Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.environ.pop(DIE_WITH_PARENT, None):
        from voicebus.runtime.lifecycle import die_with_parent

        die_with_parent()
    try:
        result = command()
    except typer.TyperException as error:
        if (shown := usage_errors.help_instead(error)) is not None:
            sys.stderr.write(shown + "\n")
        else:
            _complain("usage", usage_errors.sentence(error))
        return EXIT_USAGE
    except typer.Exit as error:
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has gone; keep the interpreter from complaining about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (VoicebusError, BaseExceptionGroup) as error:
        ours = _first_of_ours(error) or VoicebusError(f"{error!r}")
        what = next(name for kind, name in _WHAT if isinstance(ours, kind))
        _complain(what, str(ours))
        return EXIT_USAGE if isinstance(ours, UsageError) else EXIT_FAILED
    except Exception as error:
        # A defect of ours: one line for the user, the traceback for whoever asks for it.
        if os.environ.get(f"{ENV_PREFIX}LOG_LEVEL") == "debug":
            raise
        _complain("failed", f"{type(error).__name__}: {error} (VOICEBUS_LOG_LEVEL=debug shows where)")
        return EXIT_FAILED
    return result if isinstance(result, int) else EXIT_DONE


def _first_of_ours(error: BaseException) -> VoicebusError | None:
    """The error to tell the user, out of what a task group gathered."""
    if isinstance(error, VoicebusError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _first_of_ours(inner)) is not None), None)
    return None


def _complain(what: str, message: str) -> None:
    # Others' words may be among them: a gateway's, a database's, a tool's.
    sys.stderr.write(f"voicebus: {what}: {printable(' '.join(message.split()))}\n")


if __name__ == "__main__":
    main()
