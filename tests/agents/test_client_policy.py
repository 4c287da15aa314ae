"""`ClientPolicy`: what it allows, and what it refuses to be."""

from typing import Any

import pytest

from voicebus import ClientPolicy, RealtimeAgent, RealtimeRunner, UserError
from voicebus.agents.client_policy import ALLOWED_BY_DEFAULT
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.resolve import Resolver
from voicebus.engine.config import ClientRights


def test_the_default_is_what_the_engine_takes_for_granted() -> None:
    rights = ClientPolicy().rights
    assert rights.may_see == ClientRights().may_see == frozenset()
    everything = {
        *("audio.output.voice", "audio.output.speed", "audio.output.format", "audio.input.format"),
        *("audio.input.turn_detection", "audio.input.noise_reduction", "audio.input.transcription"),
        *("output_modalities", "tools", "tool_choice", "max_output_tokens", "truncation", "include"),
    }
    assert rights.may_set == everything
    assert all(ClientRights().allows(path) for path in everything)
    for kept in ("instructions", "prompt", "reasoning", "parallel_tool_calls", "tracing", "server_tools", "model"):
        assert not rights.allows(kept)
        assert not ClientRights().allows(kept)


def test_names_are_added_and_taken_away() -> None:
    rights = ClientPolicy(allow={"instructions", "model"}, refuse=["voice", "formats"], show=["tools"]).rights
    assert rights.allows("instructions")
    assert rights.allows("model")
    assert not rights.allows("audio.output.voice")
    assert not rights.allows("audio.input.format.type")
    assert rights.allows("audio.input.turn_detection.threshold")
    assert rights.may_see == {"tools"}
    assert len(ALLOWED_BY_DEFAULT) == 12


def test_what_is_ignored_is_taken_from_what_a_client_sends() -> None:
    rights = ClientPolicy(ignore={"instructions", "voice", "formats"}).rights
    assert not rights.allows("audio.output.voice")
    sent = {
        "instructions": "Mine.",
        "audio": {"output": {"voice": "ash", "speed": 1.5, "format": {"type": "audio/pcm"}}},
    }
    assert rights.heeded(sent) == {"audio": {"output": {"speed": 1.5}}}
    assert ClientPolicy().rights.heeded(sent) == sent


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"allow": "voice"}, "ClientPolicy allow must be a collection of names, such as {'voice'}, not 'voice'"),
        ({"refuse": 3}, "ClientPolicy refuse must be a collection of names"),
        ({"allow": {"voic"}}, "ClientPolicy allow names 'voic'; known are voice, speed"),
        ({"show": {"prompt"}}, "ClientPolicy show names 'prompt'; known are instructions, tools"),
        ({"allow": {"voice"}, "refuse": {"voice"}}, "ClientPolicy allow and refuse both name 'voice'; choose one"),
        ({"allow": {"voice"}, "ignore": {"voice"}}, "ClientPolicy allow and ignore both name 'voice'; choose one"),
        ({"ignore": {"model"}}, "ClientPolicy ignore names 'model'; known are voice, speed"),
        ({"ignore": "voice"}, "ClientPolicy ignore must be a collection of names"),
    ],
)
def test_what_it_cannot_say_is_refused_where_it_is_made(arguments: Any, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        ClientPolicy(**arguments)
    assert str(refused.value).startswith(sentence)


def test_an_agent_and_a_run_config_take_policies_alone() -> None:
    wrong: Any = {"allow": ["voice"]}
    with pytest.raises(UserError, match="RealtimeAgent 'a': client_policy must be a ClientPolicy or None"):
        RealtimeAgent("a", client_policy=wrong)
    with pytest.raises(UserError, match="run config client_policy must be a ClientPolicy or None"):
        RealtimeRunner(RealtimeAgent("a"), config={"client_policy": wrong})


async def test_an_agents_own_policy_beats_the_run_configs() -> None:
    resolver = Resolver(
        context=RunContextWrapper(None),
        run_config={"client_policy": ClientPolicy(allow={"prompt"})},
        model_config={},
        tool_timeout_s=1,
        in_process=True,
        custom_model=False,
    )
    plain = await resolver.resolve(RealtimeAgent("a"), snapshot=1, first=True)
    own = RealtimeAgent("b", client_policy=ClientPolicy(show={"instructions"}))
    special = await resolver.resolve(own, snapshot=2, first=False)
    assert plain.spec.client.allows("prompt")
    assert not special.spec.client.allows("prompt")
    assert special.spec.client.may_see == {"instructions"}
