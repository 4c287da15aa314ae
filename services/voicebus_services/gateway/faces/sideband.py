"""A call that goes past the gateway (WebRTC): the session listens on the call's side, and nobody listens to it."""

import asyncio
from collections.abc import Awaitable, Callable

from voicebus.engine.config import Face
from voicebus.engine.outputs import ForwardAudio
from voicebus.runtime.frames import AudioDelta
from voicebus_services.access.principal import Principal
from voicebus_services.gateway.faces.base import Host, SessionFace


class SidebandFace(SessionFace):
    """The client side of a session whose client is on the call. `hang_up` ends the call, whoever ended the session."""

    kind = Face.SIDEBAND

    def __init__(
        self,
        host: Host,
        principal: Principal,
        *,
        agent: str,
        hang_up: Callable[[], Awaitable[None]],
        traceparent: str | None = None,
    ) -> None:
        super().__init__(host, principal, agent=agent, traceparent=traceparent)
        self._hang_up = hang_up
        self.up = asyncio.Event()

    @property
    def is_attended(self) -> bool:
        return True

    def ready(self) -> None:
        self.live().once_written(self.up.set)

    def audio(self, where: ForwardAudio, delta: AudioDelta, seq: int) -> None:
        """Servers send none on a sideband; what one sends all the same is for the caller, who has it."""

    def close(self, code: int, reason: str) -> None:
        """The call is hung up once the session's last records are written."""

    def inherit(self, session: str, seq: int) -> None:
        """This is the session of a call that another gateway was on, and recorded up to `seq`."""
        self.session = session
        self.began.set()
        self.recorded.inherit(seq)

    async def wait_closed(self) -> None:
        if not self.is_lost:
            await self._hang_up()

    def refuse(self, code: str, message: str, close_code: int) -> None:
        """Whoever made the call waits for `up`, and is told there."""
