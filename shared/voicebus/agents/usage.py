"""What a conversation has used of its model: tokens, summed over responses, and each response by itself.

All of these count on, so they are not frozen; what they begin with is checked, and a field that is no count is refused
by its name (`UserError`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from voicebus.agents import checking

MAX_ENTRIES: Final = 4096
"""Responses that are kept one by one; beyond that the oldest go. The sums count all."""


@dataclass
class InputTokensDetails:
    """`cached_tokens` are part of the input tokens."""

    cached_tokens: int = 0
    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0

    def __post_init__(self) -> None:
        _count("InputTokensDetails", vars(self))


@dataclass
class OutputTokensDetails:
    """Tokens that came out, by what they were."""

    reasoning_tokens: int = 0
    text_tokens: int = 0
    audio_tokens: int = 0

    def __post_init__(self) -> None:
        _count("OutputTokensDetails", vars(self))


@dataclass
class RequestUsage:
    """One response's tokens."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens_details: OutputTokensDetails

    def __post_init__(self) -> None:
        _tokens("RequestUsage", self)


@dataclass
class Usage:
    """Tokens of one or several responses. `requests` counts the responses that reported usage;
    `request_usage_entries` are the newest `MAX_ENTRIES` of them.
    """

    requests: int = 0
    input_tokens: int = 0
    input_tokens_details: InputTokensDetails = field(default_factory=InputTokensDetails)
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = field(default_factory=OutputTokensDetails)
    total_tokens: int = 0
    request_usage_entries: list[RequestUsage] = field(default_factory=list)

    def __post_init__(self) -> None:
        _tokens("Usage", self)
        checking.whole("Usage", "requests", self.requests)
        if type(self.request_usage_entries) is not list or self.request_usage_entries:
            checking.listed("Usage", "request_usage_entries", self.request_usage_entries, RequestUsage)

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> "Usage":
        """The `usage` object of a `response.done` (protocol 3.2), leniently: what is missing or odd counts as 0."""

        def count(source: Mapping[str, Any], key: str) -> int:
            value = source.get(key)
            return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

        def part(key: str) -> Mapping[str, Any]:
            value = wire.get(key)
            return value if isinstance(value, Mapping) else {}

        given, made = part("input_token_details"), part("output_token_details")
        input_details = InputTokensDetails(
            count(given, "cached_tokens"),
            count(given, "text_tokens"),
            count(given, "audio_tokens"),
            count(given, "image_tokens"),
        )
        output_details = OutputTokensDetails(
            count(made, "reasoning_tokens"), count(made, "text_tokens"), count(made, "audio_tokens")
        )
        entry = RequestUsage(
            count(wire, "input_tokens"),
            count(wire, "output_tokens"),
            count(wire, "total_tokens") or count(wire, "input_tokens") + count(wire, "output_tokens"),
            input_details,
            output_details,
        )
        usage = cls()
        usage.add(
            cls(1, entry.input_tokens, input_details, entry.output_tokens, output_details, entry.total_tokens, [entry])
        )
        return usage

    def add(self, other: "Usage") -> None:
        """Count `other` in; its entries are taken over, and that of one response that has none is made."""
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.total_tokens += other.total_tokens
        _add_details(self.input_tokens_details, self.output_tokens_details, other)
        entries = other.request_usage_entries
        if other.requests == 1 and other.total_tokens and not entries:
            given, made = InputTokensDetails(), OutputTokensDetails()
            _add_details(given, made, other)
            entries = [RequestUsage(other.input_tokens, other.output_tokens, other.total_tokens, given, made)]
        self.request_usage_entries.extend(entries)
        del self.request_usage_entries[:-MAX_ENTRIES]


def _count(where: str, counts: Mapping[str, Any]) -> None:
    for name, value in counts.items():
        if type(value) is not int or value < 0:
            checking.whole(where, name, value)


def _tokens(where: str, usage: RequestUsage | Usage) -> None:
    for name, value in (
        ("input_tokens", usage.input_tokens), ("output_tokens", usage.output_tokens),
        ("total_tokens", usage.total_tokens),
    ):  # fmt: skip
        if type(value) is not int or value < 0:
            checking.whole(where, name, value)
    checking.instance(where, "input_tokens_details", usage.input_tokens_details, InputTokensDetails)
    checking.instance(where, "output_tokens_details", usage.output_tokens_details, OutputTokensDetails)


def _add_details(given: InputTokensDetails, made: OutputTokensDetails, usage: Usage) -> None:
    for name in ("cached_tokens", "text_tokens", "audio_tokens", "image_tokens"):
        _add(given, usage.input_tokens_details, name)
    for name in ("reasoning_tokens", "text_tokens", "audio_tokens"):
        _add(made, usage.output_tokens_details, name)


def _add(to: object, what: object, name: str) -> None:
    # An adopted tool counts in another library's usage, which tells fewer details apart.
    setattr(to, name, getattr(to, name) + (getattr(what, name, 0) or 0))
