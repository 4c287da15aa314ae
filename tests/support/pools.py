"""A pool of processes without any: what a job does in a process is done, and seen by coverage, in this one."""

import asyncio
import pickle
from typing import Any

from voicebus.runtime.processes import Job, ProcessPool, Said


class Here(ProcessPool):
    """The pool's side of a process, in this one: what a job does there is done here, after a copy as on the way."""

    async def run(self, job: Job, argument: Any, said: Said) -> Any:
        done = await asyncio.to_thread(job, pickle.loads(pickle.dumps(argument)), said)
        return pickle.loads(pickle.dumps(done))
