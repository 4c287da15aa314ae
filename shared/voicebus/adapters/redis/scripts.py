"""The Lua scripts: loaded from `lua/`, which is package data and is published for workers in other languages.

Each names all its keys in KEYS, and those share a hash tag, so that it runs on Redis Cluster. `CONCLUDE` alone has keys
of several tags, and is for where no cluster is; `CLAIM_NEW` alone names its keys (records, in the slot of the stream)
itself, as it learns of the calls there, and is done without where a server refuses that. They need Redis 7.0 and
nothing newer.
"""

from dataclasses import dataclass, replace
from hashlib import sha1
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest under which the server knows it; made by `script`.

    One that may run `together` takes the keys and arguments of several runs, and gives their replies, behind each
    other; all runs have equally many. One that only `reads` can be run by a user of Redis who may not write its keys.
    """

    name: str
    text: str
    sha: str
    together: bool = False
    reads: bool = False

    @property
    def by_digest(self) -> str:
        """The command that runs it where the server knows it."""
        return "EVALSHA_RO" if self.reads else "EVALSHA"

    @property
    def in_full(self) -> str:
        """The command that runs it anywhere."""
        return "EVAL_RO" if self.reads else "EVAL"


def script(name: str, text: str) -> Script:
    """A script of a service's own, which nobody else runs."""
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def _load(name: str, *, together: bool = False, reads: bool = False) -> Script:
    text = files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return replace(script(name, text), together=together, reads=reads)


OPEN: Final = _load("open")
TAKE: Final = _load("take")
FLUSH: Final = _load("flush")
RESEND: Final = _load("resend")
CLAIM: Final = _load("claim", together=True)
CLAIM_NEW: Final = _load("claim_new")
RELEASE: Final = _load("release")
RENEW: Final = _load("renew")
FINISH: Final = _load("finish", together=True)
CONCLUDE: Final = _load("conclude", together=True)
CANCEL: Final = _load("cancel")
HANDBACK: Final = _load("handback")
HANDOVER: Final = _load("handover")
REGISTER: Final = _load("register")
REAP: Final = _load("reap")
OVERDUE: Final = _load("overdue")
BEAT: Final = _load("beat")
LATER: Final = _load("later", reads=True)
REPLAY: Final = _load("replay")
SETTLE: Final = _load("settle")
APPEND: Final = _load("append")
ENDED: Final = _load("ended", together=True, reads=True)

PUBLISHED: Final = (CLAIM, CLAIM_NEW, RELEASE, RENEW, FINISH, HANDBACK, HANDOVER, BEAT, REGISTER)
"""What a worker of another language runs at the full level of the contract."""
