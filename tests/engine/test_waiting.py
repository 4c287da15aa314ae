"""The creates that wait for the conversation to be idle."""

from voicebus.engine.config import AgentSpec
from voicebus.engine.responses import Create, Response
from voicebus.engine.waiting import Waiting


def following(create_id: str, response_id: str) -> Create:
    return Create(create_id, create_id, follows=Response(response_id, AgentSpec("a"), 0.0))


def test_what_waits_first_and_continues_a_response_speaks_for_the_one_that_is_put_before_it() -> None:
    waiting = Waiting()
    first = following("1", "resp_1")
    waiting.put_first(first)
    waiting.put_first(following("2", "resp_2"))
    assert [*waiting] == [first]
    assert first.follows is not None
    assert first.follows.id == "resp_1"


def test_what_is_put_first_passes_its_response_on_to_one_that_continues_none() -> None:
    waiting = Waiting()
    waiting.add(Create("1", "1", optional=True, commit="commit"))
    waiting.put_first(following("2", "resp_2"))
    (first,) = waiting
    assert (first.id, first.optional, first.commit) == ("1", False, None)
    assert first.follows is not None
