"""What a connection said at once: a share in each turn of the event loop, in order, and nothing once it closes."""

import asyncio

from voicebus.adapters.sockets.backlog import SHARE, Backlog
from voicebus.adapters.sockets.large import AT_ONCE, LARGE_MESSAGE


class Connection:
    """Keeps what is delivered, and whether it is read from; closed at the message `last`."""

    def __init__(self, backlog: Backlog, *, last: bytes | None = None) -> None:
        self._backlog = backlog
        self._last = last
        self.heard: list[bytes] = []
        self.pauses = 0

    def deliver(self, message: bytes, binary: bool) -> None:
        assert binary == message.startswith(b"binary")
        self.heard.append(message)
        if message == self._last:
            self._backlog.drop()

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1


def texts(count: int) -> list[bytes]:
    return [b"text %d" % number for number in range(count)]


async def test_what_waits_is_delivered_a_share_in_each_turn_and_read_on_behind_it() -> None:
    backlog = Backlog()
    connection = Connection(backlog)
    said = texts(2 * SHARE + 1)
    for message in said:
        backlog.wait(connection, message, binary=False)
    assert backlog
    assert (connection.heard, connection.pauses) == ([], 1)
    for delivered in (SHARE, 2 * SHARE):
        await asyncio.sleep(0)
        assert (connection.heard, connection.pauses, backlog.taken) == (said[:delivered], 1, SHARE)
    await asyncio.sleep(0)
    assert (connection.heard, connection.pauses, backlog.taken) == (said, 0, 0)
    assert not backlog


async def test_texts_and_binary_messages_keep_their_order() -> None:
    backlog = Backlog()
    connection = Connection(backlog)
    backlog.wait(connection, b"binary 1", binary=True)
    backlog.wait(connection, b"text 2", binary=False)
    backlog.wait(connection, b"binary 3", binary=True)
    await asyncio.sleep(0)
    assert connection.heard == [b"binary 1", b"text 2", b"binary 3"]


async def test_a_large_message_waits_for_the_turns_of_others() -> None:
    backlog, others = Backlog(), Backlog()
    connection = Connection(backlog)
    large = bytes(LARGE_MESSAGE + 1)
    assert others.is_its_turn(AT_ONCE)
    assert backlog.is_its_turn(LARGE_MESSAGE)
    assert not backlog.is_its_turn(len(large))
    backlog.wait(connection, large, binary=False)
    backlog.wait(connection, b"text", binary=False)
    await asyncio.sleep(0)
    assert connection.heard == [large, b"text"]


async def test_all_that_waits_comes_before_an_end() -> None:
    backlog = Backlog()
    connection = Connection(backlog)
    for message in texts(2 * SHARE):
        backlog.wait(connection, message, binary=False)
    backlog.deliver_all(connection)
    assert connection.heard == texts(2 * SHARE)
    await asyncio.sleep(0)
    assert (connection.heard, connection.pauses) == (texts(2 * SHARE), 0)


async def test_nothing_comes_of_a_connection_that_is_closed_meanwhile_nor_is_it_read_on() -> None:
    backlog = Backlog()
    connection = Connection(backlog, last=b"text 3")
    for message in texts(2 * SHARE):
        backlog.wait(connection, message, binary=False)
    for _ in range(4):
        await asyncio.sleep(0)
    assert (connection.heard, connection.pauses) == (texts(4), 1)
