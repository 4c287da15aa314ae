"""The order of a conversation in a client's eyes."""

import pytest

from voicebus.engine.client_conversation import Conversation


@pytest.mark.timeout(5)
@pytest.mark.parametrize("known", [False, True])
def test_a_hidden_item_that_is_said_to_follow_itself_is_the_last(known: bool) -> None:
    conversation = Conversation()
    conversation.add("a", behind=None)
    conversation.hide("h")
    if known:
        conversation.add("h", behind=None)
    conversation.add("h", behind="h")
    assert conversation.last_visible("h") == "a"
    assert conversation.last_hidden_follower("a") == "h"
