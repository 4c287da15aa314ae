"""Which turns a client says again to a session's next owner (`detected.py`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from voicebus.engine.keeping import Kept

Said = tuple[str, int]
"""A turn's item, and how many ms of sound there are of it."""


def comes_again(kept: Kept, held: Sequence[Said]) -> tuple[Kept, list[str]]:
    """What a session goes on from whose client has sound, and which of the turns that it has named it is to say again.

    `held` are the turns of which the client has the sound still, oldest first; the last of them, without a name, is the
    sound behind them, which is said again in any case. A turn is said again where it was not safe and there is enough
    of it, or where nobody knows it; and only with all that was said after it.
    """
    needed: Mapping[str, int] = dict(kept.work.get("turns", ()))
    known = {item["item_id"] for item in kept.items} | kept.recorded.keys()
    named = [(item_id, ms) for item_id, ms in held if item_id]
    again: list[str] = []
    for item_id, ms in reversed(named):
        if item_id in known and ms < needed.get(item_id, ms + 1):
            break
        again.insert(0, item_id)
    # The news of the last ones may not have reached it: then they are among the sound behind.
    rest = sum(ms for item_id, ms in held if not item_id)
    unheard = [(item_id, ms) for item_id, ms in needed.items() if item_id not in dict(named)]
    missed = [item_id for item_id, _ in unheard] if held and sum(ms for _, ms in unheard) <= rest else []
    return replace(kept, again=frozenset((*again, *missed)) & needed.keys()), again
