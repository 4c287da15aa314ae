"""What the author's side answers. Its callbacks may raise anything or take for ever: there is always an answer."""

import asyncio
from typing import Final

from voicebus.engine.inputs import AgentResolved, AgentUnresolved, CallVetted, ToolErrorWorded, UpdateAgent
from voicebus.engine.outputs import ResolveAgent, VetCall, WordToolError
from voicebus.errors import CommandRefusedError, ModelBehaviorError, UsageError, VoicebusError
from voicebus.runtime.surroundings import Author
from voicebus.telemetry.logging import get_logger, raised

log: Final = get_logger(__name__)

RESOLVE_TIMEOUT_S: Final = 30.0
"""How long an agent's dynamic instructions and `on_handoff` may take."""

VET_TIMEOUT_S: Final = 30.0
"""How long an approval policy and a tool's input guardrails may take together."""

WORD_TIMEOUT_S: Final = 5.0
"""How long a `tool_error_formatter` may take."""

_MAX_DETAIL_CHARS: Final = 2_000

UNCHECKED: Final = "The call could not be checked and was not made."


async def resolve(author: Author, ask: ResolveAgent) -> AgentResolved | AgentUnresolved:
    """The agent that takes over, or one sentence for the model on why it does not."""
    detail = ""
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            return AgentResolved(ask.call_id, await author.resolve(ask))
    except TimeoutError:
        why = f"The handoff to {ask.to_agent} took longer than {RESOLVE_TIMEOUT_S:g} seconds."
    except (UsageError, ModelBehaviorError) as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - an author's function may raise anything
        log.warning("handoff failed", to_agent=ask.to_agent, **raised(error))
        why = f"The handoff to {ask.to_agent} failed: {type(error).__name__}."
        if not isinstance(error, VoicebusError):  # ours may name addresses, which are nobody's business
            detail = f"{why.removesuffix('.')}: {_text(error)}"
    return AgentUnresolved(ask.call_id, why, detail)


async def take_over(author: Author, name: str) -> UpdateAgent:
    """The agent that a command names, ready to take over.

    Raises:
        CommandRefusedError: `unknown_agent`, or `agent_failed` with the reason.
    """
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            return UpdateAgent(await author.take_over(name))
    except CommandRefusedError:
        raise
    except TimeoutError as error:
        why = f"took longer than {RESOLVE_TIMEOUT_S:g} s"
        raise CommandRefusedError("agent_failed", f"agent {name!r} cannot take over: it {why}") from error
    except UsageError as error:
        raise CommandRefusedError("agent_failed", f"agent {name!r} cannot take over: {error}") from error
    except Exception as error:  # the author's instructions may raise anything, and Redis may be away
        log.warning("agent cannot take over", to_agent=name, **raised(error))
        why = f"agent {name!r} cannot take over ({type(error).__name__})"
        raise CommandRefusedError("agent_failed", why) from error


async def vet(author: Author, ask: VetCall) -> CallVetted:
    """Whether a call may run. Fails closed: a call that could not be checked is refused."""
    try:
        async with asyncio.timeout(VET_TIMEOUT_S):
            return await author.vet(ask)
    except Exception as error:  # noqa: BLE001 - an author's function may raise anything
        log.warning("a call could not be checked", call_id=ask.call_id, tool=ask.tool, **raised(error))
    return CallVetted(ask.call_id, "reject", UNCHECKED, "guardrail")


async def word_error(author: Author, ask: WordToolError) -> ToolErrorWorded:
    """What the model is told of a tool's error; the default where the author's function fails."""
    try:
        async with asyncio.timeout(WORD_TIMEOUT_S):
            return ToolErrorWorded(ask.call_id, await author.word_error(ask))
    except Exception as error:  # noqa: BLE001 - an author's function may raise anything
        log.warning("an error could not be put into words", call_id=ask.call_id, tool=ask.tool, **raised(error))
    return ToolErrorWorded(ask.call_id, ask.message)


def _text(error: Exception) -> str:
    try:
        return str(error)[:_MAX_DETAIL_CHARS]
    except Exception:  # noqa: BLE001 - an author's exception may do anything
        return "it does not say of what"
