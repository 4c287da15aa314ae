"""`connect`: what programs say of a session on a gateway, checked, and the session that comes of it."""

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from voicebus.agents import checking
from voicebus.agents.items import RealtimeItem
from voicebus.agents.models.playback import RealtimePlaybackTracker
from voicebus.bearer import is_sendable
from voicebus.client.address import is_of_a_session
from voicebus.client.credentials import authorization
from voicebus.client.link import RESUME_S, NativeLink
from voicebus.client.session import GatewaySession
from voicebus.client.trust import trusting
from voicebus.errors import UsageError, UserError
from voicebus.telemetry import tracing


def connect(
    url: str,
    *,
    agent: str | None = None,
    api_key: str | None = None,
    context: Any = None,
    history: Sequence[RealtimeItem | Mapping[str, Any]] = (),
    session: str | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    ca_file: str | Path | None = None,
    playback_tracker: RealtimePlaybackTracker | None = None,
    resume_for: float = RESUME_S,
    seq: int = 0,
    observe: bool = False,
    audio: Literal["binary", "none"] | None = None,
    record: bool | None = None,
) -> GatewaySession:
    """A session on the gateway at `url` (`http`, `https`, `ws` or `wss`), to be entered.

        async with voicebus.connect("http://127.0.0.1:8080", agent="reception") as session:
            await session.send_message("Hello")
            async for event in session: ...

    `agent` is the agent's name there (None: the gateway's default one), `api_key` a credential. `context` is JSON,
    which the agent's tools, guardrails, hooks and instructions find; `history` is what was said before. `session` and
    `token` enter a session that there is, as does a `url` that names both. `playback_tracker` is told what was played.
    `resume_for` (s) is how long a lost connection is tried again; 0: not at all. `ca_file` is a PEM file of the
    authorities that verify the gateway in place of those that this machine trusts (or that the variable SSL_CERT_FILE
    names); `tls` is whatever else verifies it.

    Of a session that there is, events above `seq` come: 0 is all of them, else the `seq` of the last event that was
    handled before. `observe` shows its events and commands nothing, with its token or with an API key of its tenant;
    leaving it ends nothing. `audio` is "binary" where samples are to come, which observers get none of by themselves,
    and "none" where not. `record` says whether the caller of a new session agrees to be recorded (None: as the gateway
    is configured); `session.record` says so later.

    Raises:
        UserError: `url` is no gateway's address, `ca_file` cannot be used, arguments exclude each other, or one has
            the wrong type.
    """
    _check(
        url=url, agent=agent, api_key=api_key, history=history, session=session, token=token, headers=headers, tls=tls,
        ca_file=ca_file, playback_tracker=playback_tracker, resume_for=resume_for, seq=seq, observe=observe,
        audio=audio, record=record,
    )  # fmt: skip
    if tls is not None and ca_file is not None:
        raise UserError("tls and ca_file exclude each other; give one of them")
    try:
        tls = tls or trusting(ca_file, url)
    except UsageError as error:
        raise UserError(str(error)) from error
    if (session is None) != (token is None) and not (observe and token is None):
        raise UserError("session and token belong together; give both or none")
    enters = session is not None or is_of_a_session(url)
    if (seq or observe) and not enters:
        raise UserError("seq and observe are of a session that there is; give session, or the url that names it")
    if observe and playback_tracker is not None:
        raise UserError("observe and playback_tracker exclude each other: what its own client plays counts")
    if agent is not None and enters:
        raise UserError("agent is for a new session; `session.current_agent` says who speaks in one that there is")
    if record is not None and enters:
        raise UserError("record is for a new session; `session.record` says so in one that there is")
    wanted: dict[str, Any] = {}
    if context is not None or history:
        if enters:
            raise UserError("context and history are for a new session; leave them out with session and token")
        items = [item if isinstance(item, Mapping) else item.model_dump(mode="json") for item in history]
        wanted = {"agent": agent, "context": context, "history": items, "record": record}
    agreed = None if record is None or wanted else str(int(record))
    named = {"session": session, "token": token, "audio": audio, "agent": agent, "record": agreed}
    asked = {name: value for name, value in named.items() if value is not None}
    traced = {} if (span := tracing.current()) is None else {"traceparent": span}
    credentials = {**traced, **(headers or {}), **authorization(api_key)}
    link = NativeLink(url, asked, headers=credentials, tls=tls, resume_s=resume_for, seq=seq, observes=observe)
    return GatewaySession(link, wanted=wanted, headers=credentials, url=url, tls=tls, playback_tracker=playback_tracker)


def _check(**given: Any) -> None:
    for name in ("url", "agent", "api_key", "session", "token"):
        checking.text("connect", name, given[name], optional=name != "url", empty=False)
    history = given["history"]
    if isinstance(history, str | bytes | Mapping) or not isinstance(history, Sequence):
        checking.refuse("connect", "history", "a list of items", history)
    for index, item in enumerate(history):
        if not isinstance(item, Mapping) and not hasattr(item, "model_dump"):
            checking.refuse("connect", f"history[{index}]", "an item", item)
    headers = given["headers"]
    if headers is not None and not (
        isinstance(headers, Mapping) and all(isinstance(text, str) for pair in headers.items() for text in pair)
    ):
        # Not in words: they may hold a secret.
        raise UserError("connect: headers must map names to values, both of them strings")
    if not all(is_sendable(value) for value in (headers or {}).values()):
        raise UserError("connect: headers holds a value that no header can have, with a line break or the like")
    checking.instance("connect", "tls", given["tls"], ssl.SSLContext, optional=True)
    if given["ca_file"] is not None and not isinstance(given["ca_file"], str | Path):
        checking.refuse("connect", "ca_file", "the path of a file or None", given["ca_file"])
    checking.instance("connect", "playback_tracker", given["playback_tracker"], RealtimePlaybackTracker, optional=True)
    checking.number("connect", "resume_for", given["resume_for"])
    checking.whole("connect", "seq", given["seq"])
    checking.flag("connect", "observe", given["observe"])
    checking.flag("connect", "record", given["record"], optional=True)
    checking.one_of("connect", "audio", given["audio"], ("binary", "none", None))
