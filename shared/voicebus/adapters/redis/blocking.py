"""Blocking reads: each has a connection for itself while it waits, kept for the next one."""

from typing import Any

import hiredis
import redis.asyncio as aioredis
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import ResponseError


class BlockingReads:
    """Runs `XREAD` and `XREADGROUP` on connections of `client`, as many as are waited for at once."""

    def __init__(self, client: "aioredis.Redis") -> None:
        self._pool: Any = client.connection_pool
        self._callbacks: Any = client.response_callbacks
        self._idle: list[Any] = []

    async def read(self, *command: str | int) -> Any:
        """Send one command and wait for its reply.

        Raises:
            RedisError, OSError: refused, or the connection broke.
        """
        packed = hiredis.pack_command(command)  # type: ignore[arg-type] # of any length
        connection = self._idle.pop() if self._idle else await self._pool.get_connection()
        try:
            await _mend(connection)
            await connection.send_packed_command(packed, check_health=False)
            reply = await connection.read_response(disconnect_on_error=False)
        except ResponseError:
            raise
        except BaseException:
            # To its end, so that the server gives no entry to a reader that has gone.
            await connection.disconnect()
            raise
        finally:
            self._idle.append(connection)
        return self._callbacks[str(command[0])](reply)


async def _mend(connection: Any) -> None:
    """Open a connection anew that the server has closed meanwhile."""
    try:
        usable = not await connection.can_read()
    except (NoConnectionError, OSError):
        usable = False
    if not usable:
        await connection.disconnect(nowait=True)
    # Not left to the sending, which would go to the address of before: behind sentinels the master may be another.
    await connection.connect()
