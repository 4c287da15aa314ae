"""Where recordings lie: a folder (`file://`) or a bucket (`s3://`), one place for each session of a tenant.

`TENANT/SESSION/EPOCH.BEGINS/PART` while the call lasts: a segment, named after the owner's epoch and where on the
call's clock (ms) it begins, in parts that follow each other byte by byte. `TENANT/SESSION/recording.ogg` is the whole,
once it has been put together; the parts are deleted then.
"""

import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from voicebus.errors import SettingsError, StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

WHOLE: Final = "recording.ogg"
_SEGMENT: Final = re.compile(r"(\d{10})\.(\d{10})/(\d{8})$")
_CHUNK: Final = 256 * 1024
# Bytes of a folder's name that every file system takes. What is longer keeps its beginning, and is told by its digest.
_LONGEST: Final = 255
# Whoever writes tries again by itself, with what has come meanwhile.
_PATIENCE: Final["ClientConfig"] = {"timeout": timedelta(seconds=10), "connect_timeout": timedelta(seconds=5)}
_RETRIES: Final["RetryConfig"] = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


@dataclass(frozen=True, slots=True)
class Object:
    """`version` is another one where the bytes are; `modified` is when they were written."""

    path: str
    size: int
    version: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Segment:
    """An uninterrupted stretch of a recording; `parts` in order."""

    epoch: int
    begins_ms: int
    parts: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What there is of one session: the whole, or segments in the order of the call, or both for a moment."""

    whole: Object | None
    segments: tuple[Segment, ...]

    @property
    def pieces(self) -> tuple[Object, ...] | None:
        """Objects that make the recording, one behind the other; None where segments have to be put together first."""
        if self.whole is not None:
            return (self.whole,)
        if len(self.segments) == 1 and self.segments[0].begins_ms == 0:
            return self.segments[0].parts
        return None


class RecordingStorage:
    """Every method raises `StoreError` where the storage cannot be reached or refuses: trying again may work."""

    def __init__(self, store: ObjectStore, where: str) -> None:
        self._store = store
        self._where = where

    @classmethod
    def at(cls, url: str) -> Self:
        """The storage at `file:///FOLDER` or `s3://BUCKET/PREFIX`; credentials as AWS's tools read them.

        Raises:
            SettingsError: there is no such storage.
        """
        try:
            if urlsplit(url).scheme == "file":
                # A folder goes with the last that is in it: it has a session's name.
                return cls(from_url(url, mkdir=True, automatic_cleanup=True), url)
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
            # Whoever writes such an address has a storage of their own beside the cluster.
            options: ClientConfig = {**_PATIENCE, "allow_http": endpoint.startswith("http://")}
            return cls(from_url(url, client_options=options, retry_config=_RETRIES), url)
        except (BaseError, OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            allowed = "file:///FOLDER or s3://BUCKET/PREFIX is allowed"
            raise SettingsError(f"VOICEBUS_RECORDINGS_URL: {url!r} cannot be used ({why}); {allowed}") from error

    async def put(self, path: str, data: bytes) -> None:
        with self._mapped(missing=False):
            await obstore.put_async(self._store, path, data)

    async def read(self, path: str) -> bytes:
        """Raises `FileNotFoundError` too: there is no such object any more."""
        with self._mapped():
            return bytes(await (await obstore.get_async(self._store, path)).bytes_async())

    async def stream(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` up to `end`. Raises `FileNotFoundError` too, before the first ones."""
        while start < end:
            upto = min(end, start + _CHUNK)
            with self._mapped():
                data = bytes(await obstore.get_range_async(self._store, path, start=start, end=upto))
            yield data
            start = upto

    async def find(self, tenant: str, session: str) -> Stored:
        """What there is of a session."""
        whole, parts = None, dict[tuple[int, int], list[Object]]()
        for entry in await self._list(folder(tenant, session)):
            segment = _SEGMENT.search(entry.path)
            if segment is not None:
                parts.setdefault((int(segment[1]), int(segment[2])), []).append(entry)
            elif entry.path.endswith(f"/{WHOLE}"):
                whole = entry
        segments = [
            Segment(epoch, begins, tuple(sorted(objects, key=lambda one: one.path)))
            for (epoch, begins), objects in parts.items()
        ]
        return Stored(whole, tuple(sorted(segments, key=lambda one: (one.begins_ms, one.epoch))))

    async def complete(self, tenant: str, session: str, stored: Stored, data: bytes) -> None:
        """Put the whole in the place of its parts."""
        await self.put(f"{folder(tenant, session)}/{WHOLE}", data)
        await self._delete([part.path for segment in stored.segments for part in segment.parts])

    async def size(self, tenant: str, session: str) -> int:
        """How many bytes there are of a session."""
        return sum(entry.size for entry in await self._list(folder(tenant, session)))

    async def erase(self, tenant: str, session: str) -> int:
        """Delete everything of a session, and make sure of it; returns how many bytes that was."""
        place = folder(tenant, session)
        found = await self._list(place)
        await self._delete([entry.path for entry in found])
        if found and await self._list(place):
            raise StoreError(f"{self._where}: the recording of session {session!r} is still there after it was deleted")
        return sum(entry.size for entry in found)

    async def _list(self, prefix: str) -> list[Object]:
        found: list[Object] = []
        with self._mapped(missing=False):
            async for batch in self._store.list(prefix):
                found += [
                    Object(entry["path"], entry["size"], entry["e_tag"] or "", entry["last_modified"])
                    for entry in batch
                ]
        return found

    async def _delete(self, paths: list[str]) -> None:
        if paths:
            with self._mapped():
                await obstore.delete_async(self._store, paths)

    @contextmanager
    def _mapped(self, *, missing: bool = True) -> Iterator[None]:
        """`missing`: there may be no such object, which is no failure of the storage's. Else the bucket is missing."""
        try:
            yield
        except (BaseError, OSError) as error:
            if missing and isinstance(error, FileNotFoundError):
                raise
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreError(f"{self._where}: {why}") from error


def folder(tenant: str, session: str) -> str:
    """Where the recording of a session lies; no name of either can lead out of it."""
    return f"{_segment(tenant)}/{_segment(session)}"


def segment_folder(tenant: str, session: str, epoch: int, begins_ms: int) -> str:
    """Where the parts of a segment lie."""
    return f"{folder(tenant, session)}/{epoch:010d}.{begins_ms:010d}"


def _segment(name: str) -> str:
    quoted = quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(quoted) <= _LONGEST:
        return quoted
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{quoted[: _LONGEST - 1 - len(digest)]}~{digest}"
