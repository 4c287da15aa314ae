"""What a guardrail has found (`output_info`), as verdicts carry it and events tell it."""

import json
from typing import Any

from pydantic_core import to_jsonable_python

from voicebus.utf8 import sendable


def told(info: Any) -> Any:
    """`info` as JSON: models and dataclasses by their fields, dates and the like as text, NaN and infinity as null.

    What has no such form is told as its text, or as its type where it has none. JSON that is nested too deeply for
    messages (from 255 levels on) has none, too.
    """
    try:
        found = to_jsonable_python(sendable(info), inf_nan_mode="null", bytes_mode="base64")
        json.dumps(found)
    except Exception:  # noqa: BLE001 - an author's object may do anything, and the verdict is not to be lost for it
        try:
            return str(info)
        except Exception:  # noqa: BLE001 - as above: its own text may fail as well
            return type(info).__name__
    return found
