"""`voicebus call`: one conversation on the terminal, with a live transcript."""

import asyncio
import io
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from voicebus.client.address import native_address
from voicebus.client.credentials import authorization
from voicebus.client.trust import trusting
from voicebus.errors import RemoteError, UsageError, UserError
from voicebus_services.call import wav
from voicebus_services.call.conversation import Conversation, Recorder, open_conversation
from voicebus_services.call.microphone import Microphone, open_microphone
from voicebus_services.printable import printable

_QUIET_S: Final = 1.0
"""After the last word and with nothing under way, this much quiet means that the answer is over."""

_HINTS: Final = {
    "unknown_agent": "; GET /v1/agents of the gateway lists them",
    "credentials": "; --api-key-file names the file with the key",
}
"""What to do about a refusal, by its code, behind what the gateway says."""

_END_OF_INPUT: Final = "\x04"


@dataclass
class CallOptions:
    url: str
    agent: str | None = None
    wav: Path | None = None
    text: str | None = None
    mic: bool = False
    out: Path | None = None
    as_json: bool = False
    api_key: str | None = None
    ca_file: Path | None = None
    timeout_s: float = 120.0


@dataclass
class Progress:
    """What is under way in a call; `settled` is when an answer is complete and nothing else is running."""

    answered: bool = False
    pending_tools: set[str] = field(default_factory=set)
    speaking: bool = False
    ended: str | None = None
    failure: str | None = None
    activity: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, event: dict[str, Any]) -> None:
        """Take in one event of the native face."""
        kind = event["type"]
        if kind == "tool_start":
            self.pending_tools.add(event["call_id"])
            self.answered = False
        elif kind == "tool_end":
            self.pending_tools.discard(event["call_id"])
        elif kind == "handoff" or (kind == "item_recorded" and event["role"] == "user"):
            self.answered = False
        elif kind == "agent_start":
            self.speaking = True
        elif kind == "turn_ended":
            self.speaking = False
        elif kind == "item_recorded" and event["role"] == "assistant":
            self.answered = True
        elif kind == "error":
            self.failure = str(event.get("message", event.get("code", "unknown")))
            self.failure += _HINTS.get(str(event.get("code")), "")
        elif kind == "session_ended":
            self.ended = str(event.get("reason", ""))
        if kind != "audio.samples":
            self.activity.set()

    @property
    def settled(self) -> bool:
        return self.answered and not self.pending_tools and not self.speaking


async def run_call(options: CallOptions, *, out: Callable[[str], None] = print) -> None:
    """Hold the conversation that `options` describe and print it; returns when it ended well.

    Raises:
        UsageError: the options do not fit together, or the WAV cannot be used.
        RemoteError: the gateway cannot be reached, gave no answer in time, or ended the call with an error.
    """
    if sum((options.wav is not None, options.text is not None, options.mic)) > 1:
        raise UsageError("call: --wav, --text and --mic exclude each other; give one")
    if options.text is not None and not options.text.strip():
        raise UsageError("call: --text is empty; give what is to be said")
    if options.out is not None:
        wav.check_writable(options.out)
    try:
        native_address(options.url, {})
    except UserError as error:
        raise UsageError(f"--url: {error}") from error
    samples = wav.read(options.wav) if options.wav is not None else None
    microphone = open_microphone() if options.mic else None
    headers = authorization(options.api_key)
    progress = Progress()
    heard = bytearray()
    recorder = Recorder()
    tls = trusting(options.ca_file, options.url, option="--ca-file")
    async with open_conversation(options.url, agent=options.agent, headers=headers, tls=tls) as conversation:
        speaking = _speak(conversation, options, samples, microphone, progress)
        speaker = asyncio.create_task(_to_the_end(conversation, speaking), name="call-speaker")
        try:
            async with asyncio.timeout(options.timeout_s if samples is not None or options.text else None):
                async for event in conversation.events():
                    if event["type"] == "audio.samples":
                        if options.out is not None:
                            heard += event["data"]
                        recorder.took(event["data"])
                        if microphone is not None:
                            microphone.play(event["data"])
                        continue
                    if microphone is None and (played := recorder.played(event)) is not None:
                        await conversation.command("playback", **played)
                    if event["type"] == "session_started" and (options.wav or options.mic or options.out):
                        _require_pcm(event["audio"])
                    progress.note(event)
                    if conversation.session or options.as_json:  # else it is refused, which is told below
                        _show(event, options.as_json, out)
        except TimeoutError:
            raise _unanswered(options, conversation) from None
        finally:
            speaker.cancel()
            (fault,) = await asyncio.gather(speaker, return_exceptions=True)
            if microphone is not None:
                microphone.close()
            if options.out is not None and heard:  # all of the call, in memory until its end
                wav.write(options.out, bytes(heard))
            elif options.out is not None:
                _aside(f"nothing was spoken, so {options.out} was not written")
    if isinstance(fault, TimeoutError):
        raise _unanswered(options, conversation)
    # A session that ended under the speaker is told of below, by its code.
    if isinstance(fault, Exception) and not isinstance(fault, RemoteError):
        raise fault
    if not conversation.session:
        raise RemoteError(f"the gateway refused the call: {progress.failure or conversation.close_reason}")
    if not options.as_json:
        out(f"session {conversation.session} ended {progress.ended or conversation.close_reason or 'closed'}")
    if conversation.close_code not in (1000, 1005) or progress.ended is None:
        why = conversation.close_reason or progress.failure or "no reason given"
        raise RemoteError(f"the gateway closed the call with {conversation.close_code}: {why}")
    if (samples is not None or options.text) and not progress.answered:
        raise RemoteError(f"the call ended without an answer: {progress.failure or 'the agent said nothing'}")


def _require_pcm(audio: dict[str, Any]) -> None:
    for direction, sound in audio.items():
        if sound["type"] != "audio/pcm":
            raise UsageError(
                f"call: this agent's {direction} is {sound['type']}; --wav, --mic and --out need audio/pcm"
            )


def _unanswered(options: CallOptions, conversation: Conversation) -> RemoteError:
    return RemoteError(f"no complete answer within {options.timeout_s:g} s (session {conversation.session})")


async def _to_the_end(conversation: Conversation, speaking: Coroutine[Any, Any, None]) -> None:
    """Hang up behind what is to be said, also where that fails: nobody would speak any more."""
    try:
        await speaking
    except Exception:  # whatever it is, it is raised behind the hanging up
        await conversation.hang_up()
        raise
    await conversation.hang_up()


async def _speak(
    conversation: Conversation,
    options: CallOptions,
    samples: bytes | None,
    microphone: Microphone | None,
    progress: Progress,
) -> None:
    """The caller's side: say what there is to say, and wait until it is answered.

    Raises:
        TimeoutError: a line that no human has typed was not answered in time.
    """
    if samples is not None:
        await conversation.speak(samples, keep_line_open=False)
        silence = asyncio.create_task(conversation.speak(b""), name="call-silence")
        try:
            await _until_settled(progress)
        finally:
            silence.cancel()
            await asyncio.gather(silence, return_exceptions=True)
    elif options.text is not None:
        await conversation.say(options.text)
        await _until_settled(progress)
    elif microphone is not None:
        async for chunk in microphone.chunks():
            await conversation.send_audio(chunk)
    else:
        limit_s = None if sys.stdin.isatty() else options.timeout_s
        async for line in _lines():
            await conversation.say(line)
            progress.answered = False
            async with asyncio.timeout(limit_s):
                await _until_settled(progress)


async def _until_settled(progress: Progress) -> None:
    while True:
        progress.activity.clear()
        if not progress.settled:
            await progress.activity.wait()
            continue
        try:
            async with asyncio.timeout(_QUIET_S):
                await progress.activity.wait()
        except TimeoutError:
            return


async def _lines() -> AsyncIterator[str]:
    """Lines of standard input, until its end."""
    if sys.stdin.isatty():
        _aside("Type what you want to say; Ctrl-D hangs up.")
    if isinstance(sys.stdin, io.TextIOWrapper):  # what is no UTF-8 must not end the reading thread, and nothing else
        sys.stdin.reconfigure(errors="replace")
    loop = asyncio.get_running_loop()
    # bounded by nothing but the human who types, or the file that is read
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, _END_OF_INPUT)

    # a daemon: a thread that waits for a key must not keep the process from ending
    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not _END_OF_INPUT:
        if line:
            yield line


def _show(event: dict[str, Any], as_json: bool, out: Callable[[str], None]) -> None:
    if as_json:
        out(json.dumps(event, ensure_ascii=False))
    elif event["type"] == "item_recorded" and event["role"] in ("user", "assistant"):
        said = event["text"] if event.get("heard_text") is None else f"{event['heard_text']} [interrupted]"
        out(f"{'user' if event['role'] == 'user' else 'agent'}: {printable(said, lines=True)}")
    elif event["type"] == "tool_end":
        out(printable(f"tool: {event['tool']}({event['arguments']}) -> {event['output']}", lines=True))
    elif (aside := _told_aside(event)) is not None:
        _aside(aside)


def _told_aside(event: Mapping[str, Any]) -> str | None:
    """What explains the conversation, such as why it waits; None for all else."""
    match event["type"]:
        case "handoff":
            return f"handoff: {event['from_agent']} -> {event['to_agent']}"
        case "tool_progress":
            return f"progress: {event['tool']}: {event['text']}"
        case "tool_approval_required":
            where = f"/v1/sessions/{event['session']}/tool-calls/{event['call_id']}"
            call = f"{event['tool']}({event['arguments']})"
            return f"approval: {call} waits for POST {where}/approve, or /reject, at the gateway"
        case "guardrail_tripped" | "input_guardrail_tripped" as kind:
            whose = "what the user said" if kind.startswith("input") else "the answer"
            return f"guardrail: {', '.join(event['guardrails'])} forbade {whose}"
        case "connection_lost" | "connection_resumed" | "model_reconnecting" | "model_reconnected" as kind:
            return str(kind).replace("_", " ")
        case "error":
            return f"error: {event.get('code')}: {event.get('message')}"
    return None


def _aside(line: str) -> None:
    """What is not the result goes to stderr."""
    sys.stderr.write(printable(line, lines=True) + "\n")
