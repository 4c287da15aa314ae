"""Logs: structlog over the standard library, on stderr, as console lines or JSON.

Session, trace and agent ride in structlog's context variables (`bound_contextvars`), so that every line of a task
carries them.

In a program of somebody else's nothing is set up: lines go to the standard library's loggers under `voicebus`, which
is the program's to configure, and structlog's own settings are left alone.
"""

import logging
import sys
from collections.abc import MutableMapping
from pathlib import PurePath
from typing import Any, Final, Literal

import structlog

_AS_TEXT: Final = structlog.processors.KeyValueRenderer(key_order=["event"], repr_native_str=False)


def _for_the_library(logger: Any, name: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """The line as text; a traceback is left to the standard library, which writes one by itself for `exception`."""
    traceback = {"exc_info": event.pop("exc_info")} if "exc_info" in event else {}
    return (_AS_TEXT(logger, name, event),), traceback


# What every logger of ours runs its lines through: `configure` puts other steps in place.
_STEPS: Final[list[Any]] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    _for_the_library,
]


def configure(*, level: str = "info", style: Literal["console", "json"] = "console", service: str) -> None:
    """Set up the process's logs; call once, first. stdout stays free for results."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    tail: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        # Plain tracebacks: richer ones print local variables, and these hold keys and audio.
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail]
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Access lines of HTTP servers say nothing that the metrics do not, and probes would drown the rest.
    for noisy in ("uvicorn.access", "uvicorn.error", "picows", "griffe", "alembic", "httpx2", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _STEPS[:] = [
        structlog.stdlib.filter_by_level,
        *shared,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ]
    structlog.contextvars.bind_contextvars(service=service)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A module's logger; `name` is the module's."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=_STEPS,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def raised(error: BaseException) -> dict[str, str | None]:
    """What a line may say of an error whose text may be of a conversation, as that of a KeyError is its key: `error`,
    its type, and `at`, where it was raised (`file.py:line`; None for one that never was).
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    at = None if trace is None else f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return {"error": type(error).__name__, "at": at}
