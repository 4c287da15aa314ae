"""What is about one key goes one way at a time."""

from voicebus.adapters.redis.lanes import Lanes


class Worker:
    """Holds what it is told to."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    async def run(self) -> None:
        """Nothing."""

    def holds(self, key: str) -> bool:
        return key in self.held


def test_what_comes_next_goes_another_way_once_nothing_before_it_is_under_way() -> None:
    lanes = Lanes(Worker, name="test")
    former = lanes.of("m1", "a")
    former.held.add("a")
    assert lanes.of("m2", "a") is former
    assert lanes.of("m2", "b") is not former
    former.held.clear()
    assert lanes.of("m2", "a") is lanes.of("m2", "b") is not former
    assert lanes.of("m1", "a") is former
