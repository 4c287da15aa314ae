"""A session as HTTP and the command line show it."""

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel

from voicebus.adapters.redis.directory import SessionSeen, Status


class SessionShown(BaseModel):
    """One session. Times are RFC 3339, UTC. `seq` is that of its last recorded event.

    `idle`: nobody talks, and it may be resumed; `interrupted`: its gateway is gone, and nobody resumed it in time.
    """

    id: str
    agent: str
    status: Status
    gateway: str | None
    started_at: datetime
    ended_at: datetime | None
    end_reason: str | None
    seq: int

    @classmethod
    def of(cls, seen: SessionSeen) -> Self:
        return cls(
            id=seen.id,
            agent=seen.agent,
            status=seen.status,
            gateway=seen.gateway,
            started_at=_time(seen.started_at),
            ended_at=None if seen.ended_at is None else _time(seen.ended_at),
            end_reason=seen.end_reason,
            seq=seen.seq,
        )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
