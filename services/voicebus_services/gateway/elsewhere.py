"""A session that is not held here: passed on to the gateway that holds it, or taken over where that one is dead."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import picows

from voicebus.adapters.redis.takeover import Standing
from voicebus.errors import VoicebusError
from voicebus.telemetry.logging import get_logger
from voicebus_services.gateway.faces.base import SessionFace
from voicebus_services.gateway.faces.native import NativeFace
from voicebus_services.gateway.faces.native_address import wishes
from voicebus_services.gateway.moving import Moving
from voicebus_services.gateway.relaying import Peer, Peers, Relay
from voicebus_services.gateway.sessions import Sessions
from voicebus_services.gateway.takeover import Takeover

log: Final = get_logger(__name__)

ANSWER_S: Final = 1.0
"""How long an owner may take to answer whose heartbeat has ended."""

LIMIT_S: Final = 5.0
"""From the question to the answer: a heartbeat takes half of it to end, and a session a moment to go on."""

# After its last moment, so that one look tells.
_MARGIN_S: Final = 0.02


class NotItsTokenError(VoicebusError):
    """A session of this `tenant` is asked for with another token than its own."""

    def __init__(self, tenant: str) -> None:
        super().__init__("this is not the session's token")
        self.tenant = tenant


class OwnerGoneError(VoicebusError):
    """A session of this `tenant` waits for its client, and is asked for by an observer; `proved`: with its token."""

    def __init__(self, tenant: str, *, proved: bool) -> None:
        super().__init__("the gateway that held the session is gone; it goes on when its client comes back")
        self.tenant = tenant
        self.proved = proved


class NotHereError(VoicebusError):
    """A client was passed on to this gateway, which does not hold the session of this `tenant`; `proved`: as above."""

    def __init__(self, tenant: str, *, proved: bool) -> None:
        super().__init__("this gateway does not hold the session")
        self.tenant = tenant
        self.proved = proved


@dataclass(frozen=True, slots=True)
class Comes:
    """The session comes here from a gateway that stops: its client waits for `arrived`."""

    standing: Standing
    arrived: Callable[[], Awaitable[NativeFace]]


class Elsewhere:
    """Finds out for one client at a time where its session is."""

    def __init__(self, sessions: Sessions, peers: Peers, takeover: Takeover, moving: Moving) -> None:
        self._moving = moving
        self._sessions = sessions
        self._peers = peers
        self._takeover = takeover

    async def find(
        self, session: str, query: Mapping[str, str], credential: str | None, *, relayed: bool = False
    ) -> SessionFace | Relay | Comes | None:
        """The session, which goes on here now or has ended lately, or the way to its owner, who decides about the
        client, or that it comes here; None where there is no such session.

        An owner that answers keeps its session. One that does not may only be slow: it is waited for until its
        heartbeat has ended. A client that another gateway passed on (`relayed`) is passed on no further: it finds a
        session that is this gateway's, also one that is only on its way here. For any other its own gateway has to
        look again: the owner may have died, and this one been started at its address.

        Raises:
            BusError: Redis cannot be reached.
            TimeoutError: the owner lives, and does not answer.
            NotItsTokenError: it is shown another token than its own, or none.
            OwnerGoneError: nobody holds the session, and an observer takes none.
            NotHereError: it was passed on to this gateway, and the session is another one's.
            ProblemError: 503, nobody holds the session, and it cannot be taken now.
        """
        deaf: str | None = None
        async with asyncio.timeout(LIMIT_S):
            while (standing := await self._takeover.look(session)) is not None:
                if (here := self._sessions.find(session)) is not None:
                    return here
                if standing.ended:
                    return await self._ended(standing, query.get("token"))
                if self._takeover.is_ours(standing):  # a session that could not go on here, or does not yet
                    lives_for_s = 0.0
                elif relayed:
                    raise NotHereError(standing.tenant, proved=self._proves(standing, query))
                elif standing.address is None or standing.owner == deaf:
                    lives_for_s = standing.lives_for_ms / 1000
                elif standing.moving and (token := self._speaks(standing, query)) is not None:
                    self._moving.require_room()
                    return Comes(standing, partial(self._moving.fetch, standing, token))
                else:
                    relay = Relay(self._peers, Peer(standing.owner, standing.address), query, credential)
                    if await self._reached(relay, session):
                        return relay
                    deaf = standing.owner
                    continue
                if lives_for_s:
                    await asyncio.sleep(lives_for_s + _MARGIN_S)
                elif not self._takeover.can_take(standing):
                    return None
                elif (face := await self._take(standing, query)) is not None:
                    return face
        return None

    def _speaks(self, standing: Standing, query: Mapping[str, str]) -> str | None:
        """The session's token, where it is shown by one who wants to talk."""
        token = query.get("token")
        if token is None or wishes(query).observes or not self._takeover.opens(standing, token):
            return None
        return token

    async def _ended(self, standing: Standing, token: str | None) -> SessionFace | None:
        return await self._takeover.ended(standing, token) if self._takeover.may_ask(standing) else None

    async def _reached(self, relay: Relay, session: str) -> bool:
        """Whether the owner answers: within `ANSWER_S`, or as long as its heart beats."""
        reaching = asyncio.create_task(relay.reach(), name=f"reach-{session}")
        try:
            await asyncio.wait({reaching}, timeout=ANSWER_S)
            while not reaching.done():
                standing = await self._takeover.look(session)
                if standing is None or standing.owner != relay.peer.gateway or not standing.lives_for_ms:
                    return False
                await asyncio.wait({reaching}, timeout=standing.lives_for_ms / 1000 + _MARGIN_S)
            await reaching
        except (OSError, TimeoutError, picows.WSError, ValueError) as error:
            log.warning("a session's gateway cannot be reached", peer=relay.peer.gateway, error=str(error))
            return False
        finally:
            if not reaching.done():
                reaching.cancel()
                await asyncio.gather(reaching, return_exceptions=True)
        return True

    def _proves(self, standing: Standing, query: Mapping[str, str]) -> bool:
        """Whether the session's token is shown; without any an observer has yet to prove that it may look.

        Raises:
            NotItsTokenError: it is another token, or none, of one who wants to talk.
        """
        token = query.get("token")
        if not (token is None and wishes(query).observes) and not self._takeover.opens(standing, token or ""):
            raise NotItsTokenError(standing.tenant)
        return token is not None

    async def _take(self, standing: Standing, query: Mapping[str, str]) -> SessionFace | None:
        proved, token = self._proves(standing, query), query.get("token")
        if token is None or wishes(query).observes:
            raise OwnerGoneError(standing.tenant, proved=proved)
        return await self._takeover.take(standing, token, turns=wishes(query).turns)
