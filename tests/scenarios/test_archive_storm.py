"""Calls keep their transcripts while the cluster's processes are killed under them: `make chaos-archive`, in small."""

import pytest

from chaos.transcripts import KINDS, ArchiveStorm, storm

pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("cluster")]


async def test_the_archive_equals_what_was_said_though_everything_was_killed_meanwhile() -> None:
    asked = ArchiveStorm(calls=12, at_once=12, every_s=1.5, grace_s=12, fates=KINDS)
    outcomes = await storm(asked)
    assert outcomes.problems() == [], str(outcomes)
    assert set(outcomes.kills) == {"gateway", "transcript-archiver", "postgresql", "redis", "tool-worker"}
    assert sum(call.vanishes for call in outcomes.calls) == 2
    assert len(outcomes.found) == 12
    # And what is looked at would show that a line is missing, or there twice.
    archived = next(outcomes.found[call.session] for call in outcomes.calls if not call.vanishes)
    lost = archived["items"].pop()
    assert outcomes.problems() != []
    archived["items"] += [lost, lost]
    assert outcomes.problems() != []
