"""`ClientPolicy`: what clients of the OpenAI protocol may change of a session with an agent, and see of the agent."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal, TypeAlias, get_args

from voicebus.engine.config import ClientRights
from voicebus.errors import UserError

ClientSetting: TypeAlias = Literal[
    "voice",
    "speed",
    "formats",
    "turn_detection",
    "noise_reduction",
    "transcription",
    "modalities",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "truncation",
    "include",
    "instructions",
    "prompt",
    "reasoning",
    "parallel_tool_calls",
    "tracing",
    "server_tools",
    "model",
]
"""A setting of a session. `tools` are the client's own, `server_tools` which of the agent's are offered, `model` which
model of the provider answers (the `model` of the address)."""

ClientSight: TypeAlias = Literal["instructions", "tools"]
"""What a client is shown of the agent in `session.created` and `session.updated`."""

ALLOWED_BY_DEFAULT: Final[frozenset[ClientSetting]] = frozenset(
    {
        "voice",
        "speed",
        "formats",
        "turn_detection",
        "noise_reduction",
        "transcription",
        "modalities",
        "tools",
        "tool_choice",
        "max_output_tokens",
        "truncation",
        "include",
    }
)

# Where they stand in the protocol's session object; those that are not listed have their own names there.
_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "voice": ("audio.output.voice",),
    "speed": ("audio.output.speed",),
    "formats": ("audio.input.format", "audio.output.format"),
    "turn_detection": ("audio.input.turn_detection",),
    "noise_reduction": ("audio.input.noise_reduction",),
    "transcription": ("audio.input.transcription",),
    "modalities": ("output_modalities",),
}
_SETTINGS: Final = get_args(ClientSetting)
# A model has no effect unless it is allowed; which tools are the server's is no setting that a client sends by itself.
_NOT_IGNORED: Final = ("server_tools", "model")
_SIGHTS: Final = get_args(ClientSight)


@dataclass(frozen=True, kw_only=True)
class ClientPolicy:
    """What clients of `/v1/realtime` may do with an agent.

    By default they choose how they are spoken with (voice, speed, formats, turn detection, noise reduction,
    transcription, modalities), bring tools of their own, and bound an answer; instructions, prompt, reasoning, the
    agent's tools and the model are the server's. `allow` adds to that, `refuse` takes from it: what a client may not
    set is answered with an error. `ignore` is for clients that always send something, as many frameworks send
    instructions of their own: what they send of it is accepted and has no effect. `show` lets them see the agent's
    instructions or the definitions of its tools; calls of those stay invisible all the same.

    Raises:
        UserError: a name is unknown, stands in two of `allow`, `refuse` and `ignore`, or is not in a collection; or
            `ignore` names `model` (which never has an effect unless it is allowed) or `server_tools`.
    """

    allow: Collection[ClientSetting] = ()
    refuse: Collection[ClientSetting] = ()
    ignore: Collection[ClientSetting] = ()
    show: Collection[ClientSight] = ()

    def __post_init__(self) -> None:
        _check("allow", self.allow, _SETTINGS)
        _check("refuse", self.refuse, _SETTINGS)
        _check("ignore", self.ignore, tuple(name for name in _SETTINGS if name not in _NOT_IGNORED))
        _check("show", self.show, _SIGHTS)
        for first, second in combinations(("allow", "refuse", "ignore"), 2):
            if both := sorted(set(getattr(self, first)) & set(getattr(self, second))):
                raise UserError(f"ClientPolicy {first} and {second} both name {', '.join(map(repr, both))}; choose one")

    @property
    def rights(self) -> ClientRights:
        """The same for the engine, as paths of the session object."""
        allowed = (ALLOWED_BY_DEFAULT | set(self.allow)) - set(self.refuse) - set(self.ignore)
        return ClientRights(_paths(allowed), frozenset(self.show), _paths(self.ignore))


def check_client_policy(policy: Any, where: str) -> None:
    """Refuse what is no policy.

    Raises:
        UserError: it names `where` it was given.
    """
    if policy is not None and not isinstance(policy, ClientPolicy):
        raise UserError(f"{where} client_policy must be a ClientPolicy or None, not {policy!r}")


def _paths(settings: Collection[str]) -> frozenset[str]:
    return frozenset(path for name in settings for path in _PATHS.get(name, (name,)))


def _check(argument: str, given: Any, known: tuple[str, ...]) -> None:
    if isinstance(given, str | bytes) or not isinstance(given, Collection):
        raise UserError(
            f"ClientPolicy {argument} must be a collection of names, such as {{{known[0]!r}}}, not {given!r}"
        )
    for name in given:
        if name not in known:
            raise UserError(f"ClientPolicy {argument} names {name!r}; known are {', '.join(known)}")
