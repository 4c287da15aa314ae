"""Forms of a transcript for reading."""

from datetime import UTC, datetime
from typing import Any

from voicebus.adapters.database.transcripts import Item
from voicebus_services.transcript_archiver.forms import captions, text_line


def item(**fields: Any) -> Item:
    missing = dict.fromkeys(Item.model_fields)
    return Item(**{**missing, "seq": 2, "at": datetime.now(UTC), "type": "message", "role": "user", **fields})


def test_captions_have_what_was_heard_by_the_clock_of_the_call() -> None:
    lines = [
        item(text="Tea &\n\nmilk <please>", start_ms=1_500, end_ms=2_250),
        item(type="tool_call", tool="order", text=None, start_ms=2_300),
        item(role="assistant", text="Two teas then.", heard_text="Two teas", start_ms=3_723_004, end_ms=3_724_000),
        item(role="assistant", text="Never heard.", heard_text="", start_ms=3_725_000),
        item(text="Bye.", start_ms=3_726_000, end_ms=None),
    ]
    assert captions(lines) == (
        "WEBVTT\n\n"
        "00:00:01.500 --> 00:00:02.250\n<v user>Tea &amp; milk &lt;please&gt;\n\n"
        "01:02:03.004 --> 01:02:04.000\n<v agent>Two teas\n\n"
        "01:02:06.000 --> 01:02:06.001\n<v user>Bye.\n"
    )


def test_no_caption_begins_before_the_one_above_it_wherever_its_line_stands() -> None:
    lines = [item(text="Tea", start_ms=9_000), item(role="assistant", text="Here", start_ms=3_000)]
    assert [line for line in captions(lines).splitlines() if "-->" not in line and line][1:] == [
        "<v agent>Here",
        "<v user>Tea",
    ]


def test_a_transcript_without_words_has_no_captions() -> None:
    assert captions([]) == "WEBVTT\n"


def test_what_was_said_commands_no_terminal() -> None:
    said = item(text="\x1b]0;root\x07\x1b[2J\x9b31mhi\x7f\nthere", start_ms=61_000)
    assert text_line(said) == "[01:01] user: \ufffd]0;root\ufffd\ufffd[2J\ufffd31mhi\ufffd there"
    assert "\x1b" not in captions([said])
