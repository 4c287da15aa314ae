"""What agents that hand conversations over may be told of it."""

from typing import Any

import pytest

from voicebus import RECOMMENDED_PROMPT_PREFIX, RealtimeAgent, UserError, prompt_with_handoff_instructions


def test_a_prompt_stands_behind_what_agents_are_told_of_handoffs() -> None:
    told = prompt_with_handoff_instructions("You sell tickets.")
    assert told.startswith(RECOMMENDED_PROMPT_PREFIX)
    assert told.endswith("You sell tickets.")
    assert "transfer_to_" in RECOMMENDED_PROMPT_PREFIX
    assert RealtimeAgent[Any]("Ada", instructions=told).instructions == told


def test_what_is_no_text_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(UserError, match="prompt"):
        prompt_with_handoff_instructions(wrong)
