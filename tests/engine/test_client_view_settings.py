"""What a client of the OpenAI face may set, and what it is shown of the session."""

from typing import Any

import pytest

from support.model_events import Event
from voicebus.engine.client_view import OpenAIClientView
from voicebus.engine.config import AgentSpec, ClientRights, Face, HandoffSpec, HostedToolSpec, SessionConfig, ToolSpec
from voicebus.engine.view import CreateResponse, Reply, UpdateSession

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object"}, "default", 1000)
SERVER_WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object"},
}
REFUND = ToolSpec("refund", "Pays back.", {"type": "object"}, "default", 1000)
BILLING = HandoffSpec("transfer_to_billing", "Hands over.", {"type": "object"}, "billing")
MAP = {"type": "function", "name": "open_map", "parameters": {"type": "object"}, "x-mine": True}
SESSION: Event = {
    "id": "sess_1",
    "object": "realtime.session",
    "type": "realtime",
    "model": "gpt-realtime",
    "instructions": "Keep the secret.",
    "tools": [SERVER_WEATHER],
    "tool_choice": "auto",
    "prompt": {"id": "pmpt_1"},
    "tracing": None,
    "audio": {
        "input": {"transcription": {"model": "whisper-1"}, "turn_detection": None},
        "output": {"voice": "marin", "speed": 1.0},
    },
    "expires_at": 1,
}


def make_view(
    *may_set: str, may_see: tuple[str, ...] = (), ignored: tuple[str, ...] = (), **agent: Any
) -> OpenAIClientView:
    """The view of a client that may set these paths (none: the default ones), see and send in vain these parts."""
    rights = ClientRights(frozenset(may_set) or ClientRights().may_set, frozenset(may_see), frozenset(ignored))
    spec = AgentSpec(
        "helper", instructions="Keep the secret.", tools=(WEATHER,), handoffs=(BILLING,), client=rights, **agent
    )
    view = OpenAIClientView(SessionConfig("s1", Face.OPENAI, spec, "gpt-realtime"))
    view.model_event({"type": "session.created", "event_id": "event_1", "session": SESSION})
    return view


def update(view: OpenAIClientView, event_id: str | None = None, **session: Any) -> UpdateSession:
    (intent,) = view.client_event(
        {"type": "session.update", "event_id": event_id, "session": {"type": "realtime", **session}}
    )
    assert isinstance(intent, UpdateSession), intent
    return intent


def error_of(view: OpenAIClientView, event: Event) -> dict[str, Any]:
    (reply,) = view.client_event(event)
    assert isinstance(reply, Reply), reply
    return dict(reply.event["error"])


def refusal(view: OpenAIClientView, session: Any) -> tuple[str, str]:
    error = error_of(view, {"type": "session.update", "session": session})
    return error["code"], error["param"]


def test_a_client_is_shown_its_own_view_of_the_session() -> None:
    view = make_view()
    (created,) = view.model_event({"type": "session.created", "event_id": "event_1", "session": SESSION})
    expected = {**SESSION, "model": "helper", "instructions": "", "tools": [], "prompt": None}
    assert created == {"type": "session.created", "session": expected}


def test_how_the_agent_is_traced_is_no_clients_business() -> None:
    view = make_view()
    (created,) = view.model_event({"type": "session.created", "session": {**SESSION, "tracing": {"group_id": "g"}}})
    assert created["session"]["tracing"] is None


def test_tracing_that_a_client_asks_for_shows_to_it_alone() -> None:
    view = make_view()
    intent = update(view, tracing={"workflow_name": "mine"}, tool_choice="none")
    assert intent.patch == {"type": "realtime", "tool_choice": "none"}
    traced = {**SESSION, "tracing": {"workflow_name": "the server's"}}
    (updated,) = view.settings_changed(traced)
    assert updated["session"]["tracing"] == {"workflow_name": "mine"}
    update(view, tracing=None)
    (updated,) = view.settings_changed(traced)
    assert updated["session"]["tracing"] is None


def test_tracing_that_a_client_may_set_passes() -> None:
    view = make_view("tracing")
    assert update(view, tracing="auto").patch == {"type": "realtime", "tracing": "auto"}


def test_the_sessions_own_updates_do_not_show() -> None:
    assert make_view().model_event({"type": "session.updated", "session": SESSION}) == []


def test_an_allowed_update_passes_as_a_patch() -> None:
    view = make_view()
    audio = {"output": {"voice": "cedar"}, "input": {"turn_detection": {"type": "semantic_vad"}}}
    intent = update(view, "e1", audio=audio, max_output_tokens=100)
    assert intent == UpdateSession({"type": "realtime", "audio": audio, "max_output_tokens": 100}, None, "e1")


def test_the_clients_tools_are_shown_as_it_declared_them() -> None:
    view = make_view()
    intent = update(view, tools=[MAP])
    assert (intent.patch, intent.tools) == ({"type": "realtime"}, [MAP])
    as_the_model_keeps_it = {key: value for key, value in MAP.items() if key != "x-mine"}
    (updated,) = view.settings_changed({**SESSION, "tools": [SERVER_WEATHER, as_the_model_keeps_it]})
    assert updated["session"]["tools"] == [MAP]
    assert updated["session"]["instructions"] == ""


def test_a_handoff_changes_the_model_name_that_a_client_is_shown() -> None:
    view = make_view()
    view.agent_changed(AgentSpec("billing", tools=(REFUND,)))
    (updated,) = view.settings_changed({**SESSION, "tools": [{"type": "function", "name": "refund"}]})
    assert (updated["session"]["model"], updated["session"]["tools"]) == ("billing", [])


@pytest.mark.parametrize(
    ("session", "refused"),
    [
        ({}, ("missing_required_parameter", "session.type")),
        ({"type": "transcription"}, ("invalid_value", "session.type")),
        ({"type": "realtime", "voice": "ash"}, ("unknown_parameter", "session.voice")),
        (
            {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad", "silence": 1}}}},
            ("unknown_parameter", "session.audio.input.turn_detection.silence"),
        ),
        ({"type": "realtime", "instructions": "Obey me."}, ("forbidden_parameter", "session.instructions")),
        ({"type": "realtime", "prompt": {"id": "mine"}}, ("forbidden_parameter", "session.prompt")),
        ({"type": "realtime", "model": "billing"}, ("forbidden_parameter", "session.model")),
        ({"type": "realtime", "model": 5}, ("invalid_type", "session.model")),
        ({"type": "realtime", "reasoning": {"effort": "low"}}, ("forbidden_parameter", "session.reasoning")),
        ({"type": "realtime", "tools": {}}, ("invalid_type", "session.tools")),
        ({"type": "realtime", "tools": [MAP, 7]}, ("invalid_type", "session.tools[1]")),
        ({"type": "realtime", "tools": [MAP, {"name": "weather"}]}, ("invalid_value", "session.tools[1].name")),
        (
            {"type": "realtime", "tool_choice": {"type": "function", "name": "transfer_to_billing"}},
            ("invalid_value", "session.tool_choice"),
        ),
        (None, ("missing_required_parameter", "session")),
        ([], ("invalid_type", "session")),
    ],
)
def test_a_refused_update_says_why(session: Any, refused: tuple[str, str]) -> None:
    assert refusal(make_view(), session) == refused


def test_what_changes_nothing_is_not_refused() -> None:
    view = make_view()
    intent = update(view, model="helper", instructions="", prompt=None, tracing=None, tools=[])
    assert intent == UpdateSession({"type": "realtime"}, [], None, listed=[])


def test_a_client_may_send_back_all_that_it_was_shown() -> None:
    view = make_view()
    (created,) = view.model_event({"type": "session.created", "session": {**SESSION, "vendor": {"news": [1]}}})
    intent = update(view, **created["session"])
    assert set(intent.patch) == {"type", "audio", "tool_choice"}
    assert intent.tools == []
    changes: list[dict[str, Any]] = [{"id": "sess_other"}, {"vendor": {}}, {"expires_at": None}, {"novelty": 1}]
    for changed in changes:
        (name,) = changed
        assert refusal(view, {**created["session"], **changed}) == ("unknown_parameter", f"session.{name}")


@pytest.mark.parametrize(
    "audio",
    [
        {},
        {"input": {}},
        {"output": {"voice": "marin"}},
        {"input": {"turn_detection": None}, "output": {"speed": 1.0, "voice": "marin"}},
    ],
)
def test_parts_that_change_nothing_pass_where_a_client_may_set_nothing_of_the_whole(audio: Event) -> None:
    view = make_view("tools")
    assert update(view, audio=audio).patch == {"type": "realtime"}


def test_a_part_that_a_client_may_not_set_is_named() -> None:
    view = make_view("tools")
    assert refusal(view, {"type": "realtime", "audio": {"output": {"speed": 1.0, "voice": "ash"}}}) == (
        "forbidden_parameter",
        "session.audio.output.voice",
    )


def test_tracing_as_it_is_shown_is_not_sent_to_a_model_that_takes_it_once() -> None:
    view = make_view("tracing")
    assert update(view, tracing=None).patch == {"type": "realtime"}
    assert update(view, tracing="auto").patch == {"type": "realtime", "tracing": "auto"}


def test_the_update_of_an_unmodified_openai_agents_client_applies() -> None:
    view = make_view()
    audio = {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "gpt-4o-mini-transcribe"},
            "turn_detection": {"type": "semantic_vad", "interrupt_response": True},
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "ash"},
    }
    intent = update(view, model="gpt-realtime-2.1", instructions="", tools=[], output_modalities=["audio"], audio=audio)
    assert intent.patch == {"type": "realtime", "output_modalities": ["audio"], "audio": audio}


def test_prefixes_count_as_allowed() -> None:
    view = make_view("audio.output.voice", "instructions")
    assert update(view, audio={"output": {"voice": "ash"}}).patch["audio"] == {"output": {"voice": "ash"}}
    unchanged = update(view, audio={"output": {"voice": "ash", "speed": 1.0}})
    assert unchanged.patch["audio"] == {"output": {"voice": "ash"}}
    faster = {"type": "realtime", "audio": {"output": {"voice": "ash", "speed": 1.5}}}
    assert refusal(view, faster) == ("forbidden_parameter", "session.audio.output.speed")
    assert refusal(view, {"type": "realtime", "audio": 3}) == ("forbidden_parameter", "session.audio")
    assert refusal(view, {"type": "realtime", "tools": [MAP]}) == ("forbidden_parameter", "session.tools")


def test_instructions_that_a_client_may_set_are_shown_once_confirmed() -> None:
    view = make_view("instructions")
    assert update(view, instructions="Be brief.").patch["instructions"] == "Be brief."
    (updated,) = view.settings_changed({**SESSION, "instructions": "Be brief."})
    assert updated["session"]["instructions"] == "Be brief."


def test_an_agents_instructions_and_tools_show_where_its_policy_says_so() -> None:
    files = HostedToolSpec(
        "files",
        {"type": "mcp", "server_label": "files", "server_url": "u", "authorization": "tok", "headers": {"k": "v"}},
    )
    view = make_view(may_see=("instructions", "tools"), hosted_tools=(files,))
    (created,) = view.model_event({"type": "session.created", "session": SESSION})
    shown = created["session"]
    assert shown["instructions"] == "Keep the secret."
    assert [tool.get("name") or tool["server_label"] for tool in shown["tools"]] == [
        "weather", "transfer_to_billing", "files",
    ]  # fmt: skip
    assert shown["tools"][2] == {"type": "mcp", "server_label": "files", "server_url": "u"}
    # Such a client sends back what it was shown, with a tool of its own.
    intent = update(view, instructions=shown["instructions"], tools=[*shown["tools"], MAP])
    assert (intent.patch, intent.tools, intent.server_tools) == ({"type": "realtime"}, [MAP], None)
    assert refusal(view, {"type": "realtime", "instructions": "Tell it."}) == (
        "forbidden_parameter", "session.instructions",
    )  # fmt: skip
    (updated,) = view.settings_changed(SESSION)
    assert [tool.get("name") for tool in updated["session"]["tools"][:2]] == ["weather", "transfer_to_billing"]


def test_what_a_policy_ignores_is_accepted_and_has_no_effect() -> None:
    view = make_view(ignored=("instructions", "audio.output.voice"))
    sent: dict[str, Any] = {
        "instructions": "Mine.",
        "output_modalities": ["text"],
        "audio": {"output": {"voice": "ash", "speed": 1.5}},
    }
    assert update(view, **sent).patch == {
        "type": "realtime", "output_modalities": ["text"], "audio": {"output": {"speed": 1.5}},
    }  # fmt: skip
    (updated,) = view.settings_changed(SESSION)
    assert updated["session"]["instructions"] == ""
    assert updated["session"]["audio"]["output"]["voice"] == "marin", "the session is shown as it is"
    (intent,) = view.client_event(
        {"type": "response.create", "response": {"instructions": "Mine.", "output_modalities": ["text"]}}
    )
    assert isinstance(intent, CreateResponse)
    assert intent.response == {"output_modalities": ["text"]}
    beside = {"conversation": "none", "instructions": "Sum it up.", "input": []}
    (intent,) = view.client_event({"type": "response.create", "response": beside})
    assert isinstance(intent, CreateResponse)
    assert intent.response["instructions"] == "Sum it up.", "a response beside the conversation has its own"


def test_a_client_may_choose_among_the_servers_tools_where_it_is_let() -> None:
    view = make_view("tools", "server_tools", may_see=("tools",))
    intent = update(view, tools=[{"type": "function", "name": "weather", "description": "Mine."}, MAP])
    assert (intent.tools, intent.server_tools) == ([MAP], frozenset({"weather"}))
    (updated,) = view.settings_changed({**SESSION, "tools": [SERVER_WEATHER, MAP]})
    assert updated["session"]["tools"] == [SERVER_WEATHER, MAP], "the server's definition is the one that counts"
    assert update(view, tools=[]).server_tools == frozenset()
    assert update(view, tool_choice="auto").server_tools is None
    back = update(view, tools=[SERVER_WEATHER, {"type": "function", "name": "transfer_to_billing"}])
    assert back.server_tools == frozenset({"weather", "transfer_to_billing"})


def test_what_a_client_may_do_follows_the_agent_in_charge() -> None:
    view = make_view("instructions", may_see=("tools",))
    update(view, instructions="Be brief.")
    view.settings_changed({**SESSION, "instructions": "Be brief."})
    view.agent_changed(AgentSpec("billing", tools=(REFUND,)))
    assert refusal(view, {"type": "realtime", "instructions": "Be rude."}) == (
        "forbidden_parameter", "session.instructions",
    )  # fmt: skip
    (updated,) = view.settings_changed({**SESSION, "instructions": "Billing."})
    assert (updated["session"]["instructions"], updated["session"]["tools"]) == ("", [])


def test_parts_of_a_responses_audio_are_judged_one_by_one() -> None:
    view = make_view("audio.output.voice")
    allowed = {"audio": {"output": {"voice": "ash"}}}
    (intent,) = view.client_event({"type": "response.create", "response": allowed})
    assert isinstance(intent, CreateResponse)
    assert intent.response == allowed
    other = {"audio": {"output": {"voice": "ash", "format": {"type": "audio/pcmu"}}}}
    error = error_of(view, {"type": "response.create", "response": other})
    assert (error["code"], error["param"]) == ("forbidden_parameter", "response.audio.output.format")


TRANSCRIPT: Event = {
    "type": "conversation.item.input_audio_transcription.completed",
    "item_id": "item_u",
    "content_index": 0,
    "transcript": "hello",
}


def test_a_transcription_turned_off_stays_on_for_the_archive() -> None:
    view = make_view()
    intent = update(view, audio={"input": {"transcription": None, "turn_detection": None}})
    assert intent.patch["audio"] == {"input": {"turn_detection": None}}
    assert view.model_event(TRANSCRIPT) == [TRANSCRIPT]
    (updated,) = view.settings_changed(SESSION)
    assert updated["session"]["audio"]["input"] == {"transcription": None, "turn_detection": None}
    assert view.model_event(TRANSCRIPT) == []
    again = {"model": "gpt-4o-transcribe"}
    assert update(view, audio={"input": {"transcription": again}}).patch["audio"]["input"]["transcription"] == again
    view.settings_changed(SESSION)
    assert view.model_event(TRANSCRIPT) == [TRANSCRIPT]


@pytest.mark.parametrize(
    "error",
    [
        {"code": "invalid_value", "event_id": "e1"},
        {"code": "invalid_value", "event_id": None, "param": "session.audio"},
        {"code": "cannot_update_voice", "event_id": None},
    ],
)
def test_an_update_that_the_model_refused_changes_no_view(error: Event) -> None:
    view = make_view()
    update(view, "e1", audio={"input": {"transcription": None}})
    view.model_event({"type": "error", "error": error})
    update(view, "e2", max_output_tokens=10)
    view.settings_changed(SESSION)
    assert view.model_event(TRANSCRIPT) == [TRANSCRIPT]


def test_an_update_waits_for_its_own_answer() -> None:
    view = make_view()
    update(view, "e1", audio={"input": {"transcription": None}})
    view.model_event({"type": "error", "error": {"code": "invalid_value", "event_id": "e0", "message": ""}})
    view.settings_changed(SESSION)
    assert view.model_event(TRANSCRIPT) == []


def create(view: OpenAIClientView, **response: Any) -> CreateResponse:
    (intent,) = view.client_event({"type": "response.create", "event_id": "e1", "response": response})
    assert isinstance(intent, CreateResponse), intent
    return intent


def test_a_responses_tools_join_the_servers() -> None:
    assert create(make_view(), tools=[MAP], metadata={"a": "b"}) == CreateResponse(
        {
            "tools": [
                MAP,
                SERVER_WEATHER,
                {
                    "type": "function",
                    "name": "transfer_to_billing",
                    "description": "Hands over.",
                    "parameters": {"type": "object"},
                },
            ],
            "metadata": {"a": "b"},
        },
        "e1",
    )


def test_a_response_without_tools_leaves_those_of_the_session() -> None:
    assert create(make_view(), output_modalities=["text"]).response == {"output_modalities": ["text"]}


def test_an_out_of_band_response_has_the_clients_tools_alone() -> None:
    view = make_view()
    assert create(view, conversation="none", tools=[MAP]).response["tools"] == [MAP]
    assert create(view, conversation="none").response == {"conversation": "none", "tools": [], "tool_choice": "auto"}
    update(view, tools=[MAP])
    view.settings_changed({**SESSION, "tools": [SERVER_WEATHER, MAP]})
    assert create(view, conversation="none", instructions="Sum up.").response["tools"] == [MAP]


@pytest.mark.parametrize(
    ("response", "code", "param"),
    [
        ({"tools": [{"type": "function", "name": "weather"}]}, "invalid_value", "response.tools[0].name"),
        ({"conversation": "none", "tools": [{"name": "weather"}]}, "invalid_value", "response.tools[0].name"),
        ({"tools": "all"}, "invalid_type", "response.tools"),
        ({"tool_choice": {"type": "function", "name": "weather"}}, "invalid_value", "response.tool_choice"),
        ({"instructions": "Obey me."}, "forbidden_parameter", "response.instructions"),
        ({"prompt": {"id": "mine"}}, "forbidden_parameter", "response.prompt"),
        ({"temperature": 1}, "unknown_parameter", "response.temperature"),
        ({"metadata": {"voicebus": "x"}}, "invalid_value", "response.metadata"),
        ({"input": [{"type": "item_reference", "id": "item_h"}]}, "invalid_value", "response.input[0].id"),
        ({"input": [7, {"type": "message", "id": "vb_1"}]}, "invalid_value", "response.input[1].id"),
    ],
)
def test_a_response_that_a_client_may_not_have_is_refused(response: Event, code: str, param: str) -> None:
    view = make_view()
    view.hide_item("item_h")
    error = error_of(view, {"type": "response.create", "event_id": "e1", "response": response})
    assert (error["code"], error["param"], error["event_id"]) == (code, param, "e1")


def test_a_tool_choice_of_the_agent_that_names_a_server_tool_is_not_shown() -> None:
    view = make_view()
    (updated,) = view.settings_changed({**SESSION, "tool_choice": {"type": "function", "name": "weather"}})
    assert updated["session"]["tool_choice"] == "auto"


def test_a_tool_of_an_agent_before_may_be_declared_by_the_client_later() -> None:
    view = make_view()
    view.agent_changed(AgentSpec("billing"))
    late = {"type": "response.output_item.added", "item": {"id": "item_1", "type": "function_call", "name": "weather"}}
    assert view.model_event(late) == []
    assert refusal(view, {"type": "realtime", "tools": [SERVER_WEATHER]}) == ("invalid_value", "session.tools[0].name")


def test_a_client_that_sees_the_servers_tools_may_choose_one() -> None:
    view = make_view("tool_choice", may_see=("tools",))
    choice = {"type": "function", "name": "weather"}
    assert update(view, tool_choice=choice).patch["tool_choice"] == choice


def test_a_tool_without_a_name_is_the_models_to_refuse() -> None:
    view = make_view("tools")
    assert update(view, tools=[{"type": "function"}]).tools == [{"type": "function"}]
