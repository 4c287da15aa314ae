"""Counts the tokens of a response, by what they were and which of them were cached."""

from collections.abc import Mapping
from typing import Any

from voicebus.engine import wire
from voicebus.engine.outbox import Outbox


def observe_tokens(out: Outbox, usage: Mapping[str, Any]) -> None:
    """As the `usage` of a response has them; nothing where it has none."""
    if not usage:
        return
    given = wire.mapping(usage, "input_token_details")
    cached = wire.mapping(given, "cached_tokens_details")
    made = wire.mapping(usage, "output_token_details")
    for modality in ("text", "audio", "image"):
        key = f"{modality}_tokens"
        counts = (
            ("input", "true", wire.number(cached, key)),
            ("input", "false", wire.number(given, key) - wire.number(cached, key)),
            ("output", "false", wire.number(made, key)),
        )
        for direction, from_cache, count in counts:
            if count > 0:
                out.observe("tokens", count, direction=direction, modality=modality, cached=from_cache)
