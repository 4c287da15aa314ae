"""Retention: what is older than its tenant keeps it is erased, and looked for again.

A month of which everything is due goes with its partitions; the rest goes session by session, in batches. Done twice,
or by two at once, it does no harm.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from voicebus.adapters.database.erasing import RETENTION, Cutoffs, Erasing, Known
from voicebus.adapters.database.schema import month_of
from voicebus.contracts.journal import LOCAL_TENANT
from voicebus.errors import StoreError
from voicebus.telemetry import metrics
from voicebus.telemetry.logging import get_logger
from voicebus_services.privacy.eraser import BATCH, Batch, Erased, Eraser
from voicebus_services.privacy.policy import Policies, Policy

log: Final = get_logger(__name__)

# Erased so lately (ms), a recording may still have been on its way to its storage.
_LATE_MS: Final = 2 * 3600 * 1000
_MOST_LATE: Final = 10_000
# Sessions that cannot be erased one by one; where there are more, it is the storage that fails.
_MOST_STUCK: Final = 100

_Erase = Callable[[dict[str, str]], Awaitable[Batch]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was erased: sessions by tenant, rows and bytes of recordings, months that went whole; `left` is how many
    sessions were due after it, by tenant.
    """

    sessions: Mapping[str, int] = field(default_factory=dict)
    recordings: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    recording_bytes: int = 0
    months: Sequence[int] = ()
    left: Mapping[str, int] = field(default_factory=dict)


class Retention:
    """`run` erases what is due now; `due` only tells it."""

    def __init__(self, erasing: Erasing, eraser: Eraser, policies: Policies, now_ms: Callable[[], int]) -> None:
        self._erasing = erasing
        self._eraser = eraser
        self._now_ms = now_ms
        self._keep = _cutoffs(policies, now_ms(), lambda policy: policy.keep)
        self._recordings = _cutoffs(policies, now_ms(), lambda policy: policy.keep_recordings)

    async def due(self) -> dict[str, int]:
        """How many sessions are due, by tenant."""
        return await self._erasing.count(self._keep)

    async def due_recordings(self) -> dict[str, int]:
        """Of how many other sessions the recordings are due, by tenant; some may have none."""
        if not self._eraser.has_storage:
            return {}
        return await self._erasing.count_recordings(self._recordings, beside=self._keep)

    async def run(self) -> Outcome:
        """Erase what is due.

        A session that alone cannot be erased, as its recording is locked, is logged and left.

        Raises:
            StoreError: database or storage failed; what is left is due the next time, too.
        """
        months = await self._months()
        sessions, recordings = Counter[str](), Counter[str]()
        rows, size = sum(months.values()), 0
        async for erased in _batches(
            lambda limit: self._erasing.due(self._keep, limit=limit),
            lambda names: self._eraser.erase(names, RETENTION, self._now_ms()),
        ):
            sessions += Counter(one.tenant for one in erased)
            rows += sum(one.rows for one in erased)
            size += sum(one.recording_bytes for one in erased)
        if self._eraser.has_storage:
            async for erased in _batches(
                lambda limit: self._erasing.due_recordings(self._recordings, limit=limit),
                lambda names: self._eraser.erase_recordings(names, self._now_ms()),
            ):
                recordings += Counter(one.tenant for one in erased if one.recording_bytes)
                size += sum(one.recording_bytes for one in erased)
        size += sum(one.recording_bytes for one in await self._back_again())
        if sessions:
            await self._erasing.purge()
        left = await self.due()
        metrics.RETENTION_OVERDUE.set(sum(left.values()))
        if not left:
            metrics.RETENTION_LAST_SUCCESS.set(self._now_ms() / 1000)
        return Outcome(dict(sessions), dict(recordings), rows, size, sorted(months), left)

    async def _months(self) -> dict[int, int]:
        """Drop the months of which everything is due; the rows that went, by month."""
        dropped: dict[int, int] = {}
        for month in await self._erasing.months(month_of(self._now_ms())):
            try:
                rows = await self._erasing.drop_month(self._keep, month, self._now_ms())
            except StoreError as error:
                # Somebody reads from it: its sessions go one by one.
                log.info("a month is not dropped whole", month=month, error=str(error))
                continue
            if rows:
                dropped[month] = rows
                metrics.ERASED_ROWS.labels(reason=RETENTION).inc(rows)
        return dropped

    async def _back_again(self) -> list[Erased]:
        """Recordings that were written after they had been erased."""
        if not self._eraser.has_storage:
            return []
        lately = await self._erasing.since(self._now_ms() - _LATE_MS, limit=_MOST_LATE)
        found: list[Erased] = []
        for start in range(0, len(lately), BATCH):
            some = lately[start : start + BATCH]
            for reason in {one.reason for one in some}:
                names = {one.session: one.tenant or LOCAL_TENANT for one in some if one.reason == reason}
                again = await self._eraser.erase_again(names, reason, self._now_ms())
                found += again.erased
                for session, why in again.failed.items():
                    log.warning("a recording that came back is not erased", session=session, error=str(why))
        return found


async def _batches(due: Callable[[int], Awaitable[list[Known]]], erase: _Erase) -> AsyncIterator[Sequence[Erased]]:
    """Erase what is due, some at once; one that cannot be erased does not keep the others."""
    stuck: set[str] = set()
    while batch := [known for known in await due(BATCH + len(stuck)) if known.session not in stuck]:
        try:
            done = await erase(_names(batch))
        except StoreError:
            done = await _singly(batch, erase)
        for session, why in done.failed.items():
            log.warning("a session is not erased", session=session, error=str(why))
        stuck |= done.failed.keys()
        # One alone tells nothing of the storage, also where it is all that is due.
        if (len(done.failed) > 1 and not done.erased) or len(stuck) > _MOST_STUCK:
            error = next(iter(done.failed.values()))
            raise StoreError(f"{error} ({len(stuck)} sessions could not be erased)") from error
        yield done.erased


async def _singly(batch: Sequence[Known], erase: _Erase) -> Batch:
    """The database refused all of them together: perhaps one alone is odd."""
    erased: list[Erased] = []
    failed: dict[str, StoreError] = {}
    for known in batch:
        try:
            done = await erase(_names([known]))
        except StoreError as error:
            failed[known.session] = error
        else:
            erased += done.erased
            failed |= done.failed
    return Batch(erased, failed)


def _names(batch: Sequence[Known]) -> dict[str, str]:
    return {known.session: known.tenant for known in batch}


def _cutoffs(policies: Policies, now_ms: int, of: Callable[[Policy], timedelta | None]) -> Cutoffs:
    def before(policy: Policy) -> int | None:
        kept = of(policy)
        return None if kept is None else now_ms - round(kept.total_seconds() * 1000)

    return Cutoffs({name: before(policy) for name, policy in policies.tenants.items()}, before(policies.default))
