"""`make chaos`: ten thousand tool calls through workers that are killed and frozen every second, on each kind of Redis.

Prints what came of each storm; exit status 1 where a promise was broken.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.servers import RedisServer
from support.storm import Storm, storm
from support.storm_worker import QUEUES
from support.topologies import guarded_redis, redis_cluster, replicated_cluster
from voicebus.contracts.streams import Keys

Fate = Callable[[], Awaitable[None]] | None

TOPOLOGIES = ("single", "cluster", "replicated", "sentinel")
"""Of the last two a master is killed half way; `replicated` is a cluster, too."""


@contextmanager
def _topology(name: str) -> Iterator[tuple[str, Fate]]:
    with contextlib.ExitStack() as stack:
        if name == "single":
            yield stack.enter_context(RedisServer(persistent=True)).url, None
        elif name == "cluster":
            yield stack.enter_context(redis_cluster()), None
        elif name == "replicated":
            replicated = stack.enter_context(replicated_cluster())

            async def kill_a_master() -> None:
                await asyncio.to_thread(replicated.fail_over, Keys("vb").tools(QUEUES[0]))

            yield replicated.url, kill_a_master
        else:
            guarded = stack.enter_context(guarded_redis())

            async def fail_over() -> None:
                await asyncio.to_thread(guarded.fail_over)

            yield guarded.url, fail_over


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("topologies", nargs="*", metavar="topology", help=", ".join(TOPOLOGIES))
    given = parser.parse_args()
    if odd := set(given.topologies) - set(TOPOLOGIES):
        parser.error(f"there is no topology {', '.join(sorted(odd))}; there are {', '.join(TOPOLOGIES)}")
    broken = False
    for name in given.topologies or TOPOLOGIES:
        with _topology(name) as (url, fate), tempfile.TemporaryDirectory() as folder:
            asked = Storm(
                url, Path(folder), calls=given.calls, seconds=given.seconds, workers=given.workers, seed=given.seed,
                fate=fate,
            )  # fmt: skip
            outcomes = asyncio.run(storm(asked))
            problems = outcomes.problems()
            print(f"{name}: {outcomes}")
            for problem in problems[:20]:
                print(f"  {problem}")
            print(f"{name}: {'kept' if not problems else f'BROKEN, {len(problems)} problems'}", flush=True)
            broken = broken or bool(problems)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
