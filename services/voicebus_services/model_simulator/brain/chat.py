"""Small talk: what the brain says when no tool is wanted. The single home of it."""

import re
from collections.abc import Sequence
from typing import Final

from voicebus_services.model_simulator.brain.schema import Tool
from voicebus_services.model_simulator.brain.tokens import spoken_name, stem
from voicebus_services.model_simulator.brain.verbs import actions

_MOST_NAMED: Final = 6
_ABILITIES: Final = re.compile(
    r"\bwhat (?:else )?(?:can|could|do) you (?:do|help)|\bwhat (?:can|could) (?:i|we) (?:ask|do)|\bhow (?:can"
    r"|could) you help|\bwhat are you able|\bwhat (?:are )?your (?:abilities|capabilities|skills)|^help"
    r"(?: me)?[.!?]*$|\bwhat do you know how to",
    re.IGNORECASE,
)
_REPLIES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), reply)
    for pattern, reply in (
        (
            r"\b(?:bye|goodbye|good bye|see you|talk to you later|have a (?:nice|good|great) (?:day|one|evening"
            r"|weekend)|good ?night)\b",
            "Goodbye! Have a good day.",
        ),
        (
            r"^\W*(?:no|nope|no thanks|nothing|that is all|that's all|nothing else)\b[^a-z]*(?:thanks|thank you)?\W*$",
            "All right. Goodbye!",
        ),
        (
            r"\b(?:thank you|thanks|thank|cheers|much appreciated|appreciate it)\b",
            "You're welcome! Is there anything else?",
        ),
        (
            r"\bhow are you\b|\bhow(?: is|'s) it going\b|\bhow do you do\b",
            "I'm fine, thank you. How can I help you?",
        ),
        (
            r"\bwho are you\b|\bwhat are you\b|\bwhat is your name\b|\bare you (?:a )?(?:robot|human|real|bot)\b",
            "I'm a simulated voice assistant. How can I help you?",
        ),
        (
            r"^\W*(?:hello|hi|hey|good (?:morning|afternoon|evening)|greetings|howdy)\b",
            "Hello! How can I help you?",
        ),
        (
            r"^\W*(?:yes|yeah|yep|sure|ok|okay|great|cool|perfect|fine|good|nice|wonderful|awesome)\W*$",
            "Okay. What can I do for you?",
        ),
        (
            r"^\W*(?:never ?mind|forget it|cancel that|stop|nothing)\W*$",
            "Okay, never mind.",
        ),
    )
)
_NEVER_MIND: Final = re.compile(
    r"^\W*(?:never ?mind|forget (?:it|about it)|cancel(?: that| it)?|stop|nothing|leave it|don't bother"
    r"|do not bother|no,? thanks?(?: you)?)\b\W*$",
    re.IGNORECASE,
)


def gives_up(text: str) -> bool:
    """Whether somebody takes back what they asked for."""
    return _NEVER_MIND.match(text) is not None


def asks_for_abilities(text: str) -> bool:
    """Whether somebody asks what can be asked."""
    return _ABILITIES.search(text) is not None


def small_talk(text: str) -> str | None:
    """The reply to a greeting, thanks, a goodbye and the like; None when it is none of these."""
    for pattern, reply in _REPLIES:
        if pattern.search(text):
            return reply
    return None


def abilities(tools: Sequence[Tool]) -> str:
    """What the tools do, in a sentence."""
    if not tools:
        return "I can chat with you; I have no tools in this session."
    doings = [_doing(tool) for tool in tools[:_MOST_NAMED]]
    if len(tools) > _MOST_NAMED:
        doings.append("more")
    listed = doings[0] if len(doings) == 1 else f"{', '.join(doings[:-1])} and {doings[-1]}"
    return f"I can {listed}."


def not_understood(tools: Sequence[Tool]) -> str:
    """The reply to a request that fits no tool."""
    return "I'm afraid I can't help with that. " + abilities(tools)


def _doing(tool: Tool) -> str:
    """A tool's description as something that "I can" do: "Gets the weather for a city." -> "get the weather for a
    city".
    """
    handoff = re.match(r"^transfer_to_(.+)$", tool.name)
    if handoff:
        return f"connect you with the {spoken_name(handoff[1]).removesuffix(' agent')} agent"
    sentence = re.split(r"[.!?:;(\n]|, (?:by|such as|for example|including)", tool.description.strip(), maxsplit=1)[
        0
    ].strip()
    words = sentence.split()
    if words and actions(stem(words[0].lower())) and len(words) <= 14:
        first = words[0].lower()
        if first.endswith("s") and not first.endswith("ss"):
            first = first[:-2] if first.endswith(("shes", "ches", "sses")) else first[:-1]
        return " ".join([first, *words[1:]])
    name = spoken_name(tool.name)
    return name if actions(stem(name.split()[0])) else f"help with {name}"
