"""The trace that a session's entries carry (W3C trace context)."""

import re
import secrets

from opentelemetry import trace

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def session_traceparent(given: str | None) -> str:
    """A new span in the client's trace, else in the current one of this process, else in a trace of its own."""
    span = secrets.token_hex(8)
    match = _TRACEPARENT.fullmatch(given or "")
    if match is not None:
        return f"00-{match[1]}-{span}-{match[2]}"
    current = trace.get_current_span().get_span_context()
    if current.is_valid:
        return f"00-{current.trace_id:032x}-{span}-{current.trace_flags:02x}"
    return f"00-{secrets.token_hex(16)}-{span}-01"
