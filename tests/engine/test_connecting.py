"""From the open socket to a configured session, and the settings afterwards."""

import pytest

from support.talk import Talk, agent, tool
from voicebus.contracts.journal import EventType
from voicebus.engine.config import AgentSpec, ClientRights, Face, Recovering, SessionConfig
from voicebus.engine.inputs import CommitAudio, Interrupt, LinkLost, SendMessage, SendRaw, UpdateAgent
from voicebus.engine.outputs import Close, Emit, Observe, Record, SendModel, ToClient
from voicebus.engine.session import Session
from voicebus.engine.settings import merge
from voicebus.engine.state import State
from voicebus.errors import UserError


def test_the_first_outputs_are_the_session_started_record_and_an_empty_history() -> None:
    talk = Talk()
    first, second = talk.last[:2]
    assert isinstance(first, Record)
    assert (first.seq, first.type) == (1, EventType.SESSION_STARTED)
    assert first.data.model_dump()["audio"]["output"] == {"type": "audio/pcm", "rate": 24000}
    assert second == Emit("history_updated", {"history": []})


def test_one_full_session_update_goes_out_at_once() -> None:
    talk = Talk(agent(tools=[tool("weather")]))
    (update,) = talk.sent("session.update", talk.last)
    talk.model("session.created", session={})
    assert len(talk.sent("session.update")) == 1
    session = update["session"]
    assert session["type"] == "realtime"
    assert session["model"] == "gpt-realtime"
    assert session["instructions"] == "Be brief."
    assert session["audio"]["output"]["voice"] == "ash"
    assert session["tools"] == [
        {"type": "function", "name": "weather", "description": "Does weather.", "parameters": {"type": "object"}}
    ]


def test_an_agent_without_instructions_leaves_the_models_own() -> None:
    talk = Talk(agent(instructions=None))
    assert "instructions" not in talk.sent("session.update")[0]["session"]


def test_what_a_client_says_at_once_follows_the_settings() -> None:
    talk = Talk()
    talk.asks("first")
    talk.put(CommitAudio())
    talk.put(Interrupt())
    talk.model("session.created")
    assert talk.sent_types([*talk.all]) == [
        "session.update",
        "conversation.item.create",
        "response.create",
        "input_audio_buffer.commit",
    ]
    assert talk.session.state is State.CONFIGURING


def test_the_first_frame_is_the_settings_of_an_agent_with_defaults() -> None:
    pcm = {"type": "audio/pcm", "rate": 24000}
    heard = {
        "format": pcm,
        "transcription": {"model": "gpt-4o-mini-transcribe"},
        "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
    }
    audio = {"input": heard, "output": {"format": pcm, "voice": "ash"}}
    settings = {"output_modalities": ["audio"], "audio": audio, "tracing": "auto"}
    talk = Talk(AgentSpec("a", "hi", session=settings))
    (update,) = talk.of(SendModel)
    assert update.event["type"] == "session.update"
    assert update.event["session"] == {
        "type": "realtime",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "instructions": "hi",
        "tools": [],
        "audio": audio,
    }


def test_a_model_that_is_never_ready_is_given_up() -> None:
    talk = Talk(recovering=Recovering.NEVER)
    talk.timer("setup")
    assert talk.errors() == ["model_silent"]
    assert talk.last[-1] == Close("model_lost", 1011)


def test_a_model_that_does_not_confirm_is_taken_as_it_is() -> None:
    talk = Talk(face=Face.OPENAI)
    talk.model("session.created")
    talk.timer("confirm")
    assert talk.session.state is State.LIVE
    assert talk.shown("session.created", talk.last)


@pytest.mark.parametrize("live", [False, True])
def test_a_refused_first_configuration_ends_the_session(live: bool) -> None:
    talk = Talk()
    if live:
        talk.model("conversation.created")
    talk.fails("invalid_value", "Unknown voice.", talk.sent("session.update")[0]["event_id"])
    assert talk.errors() == ["invalid_value"]
    assert talk.last[-1] == Close("error", 1011)
    assert talk.session.state is State.CLOSED


def test_an_error_without_event_id_about_the_session_is_the_updates() -> None:
    talk = Talk()
    talk.fails("unknown_parameter", "Unknown parameter: 'session.foo'.", param="session.foo")
    assert talk.session.state is State.CLOSED


def test_a_socket_lost_while_connecting_ends_the_session_with_its_code() -> None:
    talk = Talk()
    talk.put(LinkLost("401", code="invalid_api_key", close_code=3000))
    assert talk.errors() == ["invalid_api_key"]
    assert talk.of(Observe)[-1].labels == {"code": "invalid_api_key"}
    assert talk.last[-1] == Close("model_lost", 1011)


def test_a_code_that_is_not_known_counts_as_other() -> None:
    talk = Talk().live()
    talk.fails("something_new")
    assert [observed.labels for observed in talk.observed("model_error")] == [{"code": "other"}]


def test_another_agent_before_the_confirmation_is_told_at_once() -> None:
    talk = Talk()
    talk.put(UpdateAgent(agent("other", instructions="Other.")))
    assert [update["session"]["instructions"] for update in talk.sent("session.update")] == ["Be brief.", "Other."]
    assert talk.session.agent.name == "other"
    talk.fails("invalid_value", "No.", talk.sent("session.update")[1]["event_id"])
    assert talk.session.state is State.CONFIGURING, "only the first configuration is what a session cannot do without"


def test_another_agent_later_gets_a_session_update_and_no_handoff_event() -> None:
    talk = Talk(agent(tools=[tool("weather")])).live()
    talk.put(UpdateAgent(agent("other", tools=[tool("news")], instructions=None)))
    session = talk.sent("session.update", talk.last)[0]["session"]
    assert [entry["name"] for entry in session["tools"]] == ["news"]
    assert session["instructions"] == "", "the last agent's instructions must not outlive it"
    assert not talk.records(EventType.HANDOFF)


def test_the_last_agents_instructions_do_not_stand_beside_the_next_ones_prompt() -> None:
    talk = Talk().live()
    talk.put(UpdateAgent(AgentSpec("other", session={"prompt": {"id": "pmpt_1"}})))
    session = talk.sent("session.update", talk.last)[0]["session"]
    assert (session["instructions"], session["prompt"]) == ("", {"id": "pmpt_1"})


def test_tracing_goes_by_itself_once_the_session_is_there_and_again_only_if_it_changes() -> None:
    talk = Talk(AgentSpec("a", session={"tracing": "auto"}))
    assert "tracing" not in talk.sent("session.update")[0]["session"]
    talk.live()
    assert [update["session"] for update in talk.sent("session.update")[1:]] == [
        {"type": "realtime", "model": "gpt-realtime", "tracing": "auto"}
    ]
    talk.put(UpdateAgent(AgentSpec("b", session={"tracing": "auto"})))
    assert "tracing" not in talk.sent("session.update", talk.last)[0]["session"]
    talk.model("session.created")
    assert not talk.sent("session.update", talk.last)
    talk.put(UpdateAgent(AgentSpec("c", session={"tracing": {"group_id": "g"}})))
    assert talk.sent("session.update", talk.last)[1]["session"]["tracing"] == {"group_id": "g"}


def test_no_tracing_is_never_sent() -> None:
    talk = Talk(AgentSpec("a", session={"tracing": None})).live()
    assert len(talk.sent("session.update")) == 1


def test_refused_tracing_costs_nothing_else() -> None:
    talk = Talk(AgentSpec("a", session={"tracing": "auto"}))
    talk.model("session.created")
    talk.fails("unknown_parameter", "Unknown parameter: 'session.tracing'.", param="session.tracing")
    assert talk.session.state.value == "configuring"
    talk.model("session.updated", session={})
    assert talk.session.state.value == "live"


def test_settings_that_are_refused_for_the_models_name_are_sent_again_without_it() -> None:
    talk = Talk(AgentSpec("a", "Be brief.", session={"tracing": "auto"}))
    talk.model("session.created")
    settings, tracing = talk.sent("session.update")
    for update in (settings, tracing):
        talk.fails("invalid_value", "It is another model.", update["event_id"], param="session.model")
    again = talk.sent("session.update")[2:]
    assert [one["session"] for one in again] == [
        {key: value for key, value in one["session"].items() if key != "model"} for one in (settings, tracing)
    ]
    assert talk.errors() == []
    talk.model("session.updated", session=again[0]["session"])
    assert talk.session.state is State.LIVE
    talk.put(UpdateAgent(agent("other")))
    assert "model" not in talk.sent("session.update", talk.last)[0]["session"]


def test_settings_that_a_session_has_answered_before_are_sent_again_without_their_voice() -> None:
    talk = Talk(agent(voice="coral"))
    talk.model("session.created")
    (settings,) = talk.sent("session.update")
    talk.asks()  # and what is said first overtakes them
    talk.begins()
    talk.speaks("Hello", 500)
    talk.fails("cannot_update_voice", "It has spoken.", settings["event_id"])
    (again,) = talk.sent("session.update", talk.last)
    wanted = settings["session"]
    assert again["session"] == {**wanted, "audio": {**wanted["audio"], "output": {}}}
    assert talk.errors() == []
    talk.fails("cannot_update_voice", "Still.", again["event_id"])
    assert talk.session.state is State.CLOSED


def test_settings_that_are_refused_without_the_models_name_end_the_session() -> None:
    talk = Talk()
    talk.fails("invalid_value", "It is another model.", param="session.model")
    talk.fails("invalid_value", "Still.", param="session.model")
    assert talk.session.state is State.CLOSED


def test_a_model_that_the_program_names_itself_is_its_own_mistake() -> None:
    talk = Talk().live()
    talk.put(SendRaw({"type": "session.update", "event_id": "mine", "session": {"model": "another"}}))
    talk.fails("invalid_value", "It is another model.", "mine", param="session.model")
    assert talk.errors() == ["invalid_value"]
    assert len(talk.sent("session.update")) == 2


def test_a_voice_stays_once_audio_was_spoken() -> None:
    talk = Talk(agent(voice="ash")).asked()
    talk.speaks("Hello", 500)
    talk.ends()
    talk.put(UpdateAgent(agent("other", voice="coral")))
    assert talk.sent("session.update", talk.last)[0]["session"]["audio"]["output"]["voice"] == "ash"


def test_a_voice_may_change_before_audio_was_spoken() -> None:
    talk = Talk(agent(voice="ash")).live()
    talk.put(UpdateAgent(agent("other", voice="coral")))
    assert talk.sent("session.update", talk.last)[0]["session"]["audio"]["output"]["voice"] == "coral"


def test_objects_under_audio_merge_and_turn_detection_is_replaced_whole() -> None:
    base = {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.3}, "format": {"a": 1}}}}
    patch = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}, "output": {"voice": "ash"}}}
    assert merge(base, patch) == {
        "audio": {
            "input": {"turn_detection": {"type": "semantic_vad"}, "format": {"a": 1}},
            "output": {"voice": "ash"},
        }
    }


def test_a_session_has_a_view_exactly_on_the_openai_face() -> None:
    with pytest.raises(UserError, match="view"):
        Session(SessionConfig("s", Face.OPENAI, agent(), "m"), now=0.0)


def test_raw_events_come_first_where_they_are_asked_for() -> None:
    talk = Talk(raw_events=True).live()
    talk.asks()
    outputs = talk.begins()
    assert [output.type for output in talk.of(Emit, outputs)] == ["raw_model_event", "agent_start"]
    assert not Talk().asked().emitted("raw_model_event")


def test_the_native_face_has_no_client_events_and_the_openai_face_no_emits() -> None:
    assert not Talk().asked().of(ToClient)
    assert not Talk(face=Face.OPENAI).live().of(Emit)


def test_a_repeated_session_created_means_nothing() -> None:
    talk = Talk().live()
    talk.model("session.created")
    assert talk.sent("session.update", talk.last) == []


def test_ids_are_short_and_the_same_for_the_same_inputs() -> None:
    def ids(session: str) -> list[str]:
        engine = Session(SessionConfig(session, Face.NATIVE, agent(), "m"), now=0.0)
        outputs = [*engine.start()]
        outputs += engine.handle(SendMessage([]), 0.0)
        return [output.event["event_id"] for output in outputs if isinstance(output, SendModel)]

    assert ids("x" * 60) == ids("x" * 60)
    assert len(set(ids("x" * 60))) == 3
    assert all(len(one) <= 32 and one.startswith("vb_") for one in ids("x" * 60))


def test_an_explicit_none_is_sent_as_null() -> None:
    talk = Talk(agent(vad=None, transcription=False))
    heard = talk.sent("session.update")[0]["session"]["audio"]["input"]
    assert heard == {"turn_detection": None, "transcription": None}


def test_an_agents_voice_is_left_out_where_the_model_has_spoken_with_one_of_its_own_choice() -> None:
    talk = Talk(AgentSpec("first")).asked()
    talk.speaks("Hello", 100)
    talk.ends()
    talk.put(UpdateAgent(AgentSpec("other", session={"audio": {"output": {"voice": "verse", "speed": 1.1}}})))
    assert talk.sent("session.update", talk.last)[0]["session"]["audio"] == {"output": {"speed": 1.1}}


def test_of_what_a_client_set_the_next_agent_keeps_what_it_allows() -> None:
    talk = Talk(agent(vad=None), face=Face.OPENAI).live()
    talk.client("session.update", session={"type": "realtime", "audio": {"output": {"speed": 1.5, "voice": "verse"}}})
    allows = ClientRights(may_set=frozenset({"audio.output.speed"}))
    talk.put(UpdateAgent(agent("other", voice="ash", client=allows)))
    output = talk.sent("session.update", talk.last)[0]["session"]["audio"]["output"]
    assert (output["speed"], output["voice"]) == (1.5, "ash")
