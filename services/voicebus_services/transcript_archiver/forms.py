"""Forms of a transcript for reading: lines of text, and captions."""

from collections.abc import Iterable
from html import escape

from voicebus.adapters.database.transcripts import Item
from voicebus_services.printable import printable


def text_line(item: Item, *, unheard: bool = False) -> str:
    """A line for reading, on a terminal too: what reached the listener, in one line; `unheard`: and what was said and
    did not.
    """
    seconds = (item.start_ms or 0) // 1000
    heard = item.text if item.heard_text is None else item.heard_text
    match item.type:
        case "message":
            who = "agent" if item.role == "assistant" else item.role
            line = f"{who}: {heard}{' [interrupted]' if item.truncated else ''}"
            if unheard and item.text is not None and item.text != heard:
                line += f" [said: {item.text}]"
        case "tool_call":
            end = "" if item.outcome is None else f" -> {item.output}"
            line = f"tool: {item.tool}({item.arguments}){end}"
        case "guardrail":
            line = f"guardrail: {item.outcome} stopped: {item.text}"
        case _:
            line = f"{item.type}: {item.text}"
    return f"[{seconds // 60:02}:{seconds % 60:02}] {printable(' '.join(line.split()))}"


def captions(items: Iterable[Item]) -> str:
    """What reached the listener, as WebVTT: a cue for each message that is in words, by the clock of the call.

    No cue may begin before the one that stands before it, wherever what it says stands in the conversation.
    """
    cues = ["WEBVTT\n"]
    for item in sorted(items, key=lambda item: item.start_ms or 0):
        heard = item.text if item.heard_text is None else item.heard_text
        if item.type != "message" or not heard:
            continue
        start = item.start_ms or 0
        end = max(item.end_ms or 0, start + 1)
        # A line break within a cue may be, an empty line ends it.
        said = escape(printable(" ".join(heard.split())), quote=False)
        who = "agent" if item.role == "assistant" else item.role
        cues.append(f"{_clock(start)} --> {_clock(end)}\n<v {who}>{said}\n")
    return "\n".join(cues)


def _clock(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"
