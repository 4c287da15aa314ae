"""Answers to requests that may be sent again: kept for a day under the key that the client gave, for any gateway.

What is kept may hold a secret (a session's token), so it is encrypted with a key that only who knows the client's key
can make; Redis has neither.
"""

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import pybase64
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voicebus.adapters.redis.client import RedisConnection
from voicebus.adapters.redis.scripts import SETTLE
from voicebus.contracts.streams import ANSWER_TTL_S, Keys
from voicebus.errors import BusError

IN_HAND_S: Final = 60
"""How long a request may be in hand."""

LEASE_S: Final = 5
"""How long a gateway that dies with a request in hand holds its key."""

# So often within a lease is it renewed: a late or lost one or two do no harm.
_RENEWALS: Final = 5
_NONCE: Final = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Ours:
    """The request is this one's to carry out, while it is `held`: `keep` or `release` follows.

    `reserved` is what Redis holds for it.
    """

    reserved: str


@dataclass(frozen=True, slots=True)
class InHand:
    """The same request is being carried out."""


@dataclass(frozen=True, slots=True)
class Other:
    """The key was given to another request."""


class KeptAnswers:
    """`secret` is what the client's key, and whose it is, make: never written anywhere. Methods raise `BusError`."""

    def __init__(self, bus: RedisConnection, keys: Keys, *, lease_s: int = LEASE_S) -> None:
        self._bus = bus
        self._keys = keys
        self._lease_s = lease_s

    async def reserve(self, secret: bytes, request: str) -> Ours | InHand | Other | Answer:
        """Take the request in hand, unless it was before; `request` is a digest of what is asked."""
        reserved = json.dumps({"request": request, "by": secrets.token_hex(8)})
        known = await self._bus.call("SET", self._name(secret), reserved, "NX", "GET", "EX", self._lease_s, get=True)
        if known is None:
            return Ours(reserved)
        kept = json.loads(known)
        if kept["request"] != request:
            return Other()
        if "answer" not in kept:
            return InHand()
        try:
            return _opened(secret, kept["answer"])
        except InvalidTag:  # somebody else wrote this key
            return Other()

    @asynccontextmanager
    async def held(self, secret: bytes, ours: Ours) -> AsyncIterator[None]:
        """The request is being carried out while the block runs, for `IN_HAND_S` at most."""
        renewing = asyncio.create_task(self._renew(secret, ours), name="renew-idempotency-key")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def _renew(self, secret: bytes, ours: Ours) -> None:
        name, pause_s = self._name(secret), self._lease_s / _RENEWALS
        for _ in range(int(IN_HAND_S / pause_s)):
            await asyncio.sleep(pause_s)
            with suppress(BusError):  # the lease outlasts some, and the next one takes the key again if it is free
                await self._bus.script(SETTLE, [name], ours.reserved, ours.reserved, self._lease_s)

    async def keep(self, secret: bytes, request: str, answer: Answer, ours: Ours) -> None:
        """This is the answer from now on, unless the request took so long that another one has its place."""
        kept = {"request": request, "answer": _sealed(secret, answer)}
        await self._bus.script(SETTLE, [self._name(secret)], ours.reserved, json.dumps(kept), ANSWER_TTL_S)

    async def keep_later(self, secret: bytes, request: str, answer: Answer, ours: Ours) -> None:
        """`keep`, where Redis was away for that, as soon as it is back, for as long as a request may be in hand.

        The lease may be over by then, and the key free: the sooner the answer is there, the less likely it is that the
        same request comes before it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(IN_HAND_S):
                while True:
                    await asyncio.sleep(self._lease_s / _RENEWALS)
                    with suppress(BusError):
                        await self.keep(secret, request, answer, ours)
                        return

    async def release(self, secret: bytes, ours: Ours) -> None:
        """The request had no effect, or one that it has once only: it may come again."""
        await self._bus.script(SETTLE, [self._name(secret)], ours.reserved, "", 0)

    def _name(self, secret: bytes) -> str:
        return self._keys.answer(hashlib.sha256(b"name:" + secret).hexdigest())


def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(hashlib.sha256(b"cipher:" + secret).digest())


def _sealed(secret: bytes, answer: Answer) -> str:
    head = json.dumps({"status": answer.status, "headers": dict(answer.headers)}).encode()
    nonce = secrets.token_bytes(_NONCE)
    return pybase64.b64encode_as_string(nonce + _cipher(secret).encrypt(nonce, head + b"\n" + answer.body, None))


def _opened(secret: bytes, sealed: str) -> Answer:
    raw = pybase64.b64decode(sealed)
    head, _, body = _cipher(secret).decrypt(raw[:_NONCE], raw[_NONCE:], None).partition(b"\n")
    about = json.loads(head)
    return Answer(about["status"], about["headers"], body)
