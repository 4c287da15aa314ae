"""`voicebus.connect` against a real gateway, its connections cut."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import voicebus
from services.gateway import contextual
from services.gateway.conftest import Gateways
from support.cutting_proxy import CuttingProxy, cutting_proxy
from support.simulator import SimulatorHandle
from support.waiting import wait_until
from voicebus.agents import events
from voicebus.agents.models.playback import RealtimePlaybackTracker
from voicebus.client import dialling, link
from voicebus.contracts.tools import ToolCall
from voicebus.errors import RemoteError, UserError
from voicebus_services.gateway.wiring import Gateway


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def until(session: voicebus.GatewaySession, wanted: Callable[[Any], bool]) -> list[Any]:
    """Events up to the first one that is wanted."""
    seen = []
    async for event in session:
        seen.append(event)
        if wanted(event):
            return seen
    raise AssertionError(f"the events ended; saw {[event.type for event in seen]}")


def ends(event: Any) -> bool:
    return isinstance(event, events.RealtimeAgentEndEvent)


@asynccontextmanager
async def cut_session(gateway: Gateway, **options: Any) -> AsyncIterator[tuple[voicebus.GatewaySession, CuttingProxy]]:
    async with cutting_proxy(gateway.port) as proxy, voicebus.connect(url(proxy.port), **options) as session:
        yield session, proxy


async def test_a_text_turn_gives_the_events_of_the_programming_model(gateway: Gateway) -> None:
    async with voicebus.connect(url(gateway.port)) as session:
        assert session.current_agent.name == "reception"
        assert len(session.id) == 26
        await session.send_message("[[say: Good morning]]")
        seen = await until(session, ends)
        audio = b"".join(event.audio.data for event in seen if isinstance(event, events.RealtimeAudio))
        assert len(audio) > 0
        assert {"history_updated", "agent_start", "audio_start", "audio", "transcript_delta"} <= {e.type for e in seen}
        assert seen[-1].output == "Good morning"
        said = [item for item in session.history if item.type == "message"]
        assert [item.role for item in said] == ["user", "assistant"]
        assert [event.seq for event in seen] == sorted(event.seq for event in seen)
    await session.interrupt()
    assert session.closed
    assert session.end_reason == "ended"
    await wait_until(lambda: not list(gateway.sessions), description="the session's end")


async def test_half_a_surrogate_pair_in_what_a_program_says_becomes_a_mark_and_ends_nothing(gateway: Gateway) -> None:
    half = "men\udce9"
    before = {"item_id": "a", "type": "message", "role": "user", "content": [{"type": "input_text", "text": half}]}
    async with voicebus.connect(url(gateway.port), history=[before], context={"name": half}) as session:
        await session.send_message(half)
        await session.reject_tool_call("nobody's", rejection_message=half)
        await until(session, ends)
        said = [item.content[0] for item in session.history if item.type == "message" and item.role == "user"]
        assert said == [voicebus.InputText(text="men?")] * 2


async def test_tools_handoffs_and_agents_are_known_by_name(gateway: Gateway, tool_worker: list[ToolCall]) -> None:
    async with voicebus.connect(url(gateway.port), agent="porter") as session:
        await session.send_message("[[call: transfer_to_reception {}]][[next]][[say: Welcome]]")
        seen = await until(session, ends)
        seen += await until(session, ends)
        (handoff,) = [event for event in seen if isinstance(event, events.RealtimeHandoffEvent)]
        assert (handoff.from_agent.name, handoff.to_agent.name) == ("porter", "reception")
        assert session.current_agent.name == "reception"
        await session.send_message('[[call: get_weather {"city": "Paris"}]][[next]][[say: so]]')
        end = (await until(session, lambda event: isinstance(event, events.RealtimeToolEnd)))[-1]
        assert (end.tool.name, end.outcome, end.output) == ("get_weather", "ok", 'get_weather got {"city": "Paris"}')
        await session.update_agent("porter")
        assert session.current_agent.name == "porter"
        with pytest.raises(UserError, match="nobody"):
            await session.update_agent("nobody")


async def test_speech_goes_out_and_interruptions_come_back(gateway: Gateway) -> None:
    async with voicebus.connect(url(gateway.port)) as session:
        await session.send_audio(b"\1\0" * 12_000)
        session.mute()
        await session.send_audio(b"\1\0" * 12_000)
        session.mute(False)
        await session.send_audio(b"\1\0" * 12_000, commit=True)
        await until(session, ends)
        await session.send_message(f"[[say: {'word ' * 200}]]")
        await until(session, lambda event: isinstance(event, events.RealtimeAudioStart))
        await session.interrupt()
        await until(session, lambda event: isinstance(event, events.RealtimeAudioInterrupted))


async def test_playback_that_is_reported_decides_what_was_heard(gateway: Gateway) -> None:
    tracker = RealtimePlaybackTracker()
    async with voicebus.connect(url(gateway.port), playback_tracker=tracker) as session:
        await session.send_message(f"[[say: {'word ' * 50}]]")
        start = (await until(session, lambda event: isinstance(event, events.RealtimeAudioStart)))[-1]
        await until(session, lambda event: isinstance(event, events.RealtimeAudioEnd))
        tracker.on_play_ms(start.item_id, start.content_index, 300)
        face = gateway.sessions.find(session.id)
        assert face is not None
        engine: Any = face.live()._engine
        await wait_until(lambda: engine._p.playback._reports, description="the report to arrive")
        await session.interrupt()

        def line() -> dict[str, Any] | None:
            told = [json.loads(event.frame) for event in face.recorded.after(0) if event.type == "item_recorded"]
            return next((one for one in told if one["role"] == "assistant"), None)

        spoken = await wait_until(line, description="the line to be recorded")
        assert spoken is not None
        assert spoken["truncated"] is True
        assert 0 < len(spoken["heard_text"]) < len(spoken["text"]) / 2
        assert tracker.get_state()["current_item_id"] is None, "it was told of the interruption"
        tracker.on_play_ms("next", 0, 5)
    assert tracker.get_state()["current_item_id"] is None, "and that its session has ended"


async def test_a_tracker_counts_in_the_format_that_the_session_is_spoken_in(gateway: Gateway) -> None:
    tracker = RealtimePlaybackTracker()
    tracker.set_audio_format("g711_ulaw")
    async with voicebus.connect(url(gateway.port), playback_tracker=tracker):
        tracker.on_play_bytes("item", 0, bytes(4800))
        assert tracker.get_state()["elapsed_ms"] == 100


@pytest.mark.parametrize("tracked", [False, True])
async def test_a_cut_connection_is_opened_again_and_nothing_is_missing(
    gateway: Gateway, tool_worker: list[ToolCall], tracked: bool
) -> None:
    tracker = RealtimePlaybackTracker() if tracked else None
    async with cut_session(gateway, playback_tracker=tracker) as (session, proxy):
        await session.send_message('[[call: get_weather {"city": "Paris"}]][[next]][[say: It says {outputs}]]')
        proxy.cut()
        seen = await until(session, lambda event: ends(event) and event.output)
        codes = [event.error.code for event in seen if isinstance(event, events.RealtimeError)]
        assert codes == ["connection_lost", "connection_resumed"]
        kinds = [event.type for event in seen]
        assert (kinds.count("tool_start"), kinds.count("tool_end")) == (1, 1)
        assert len(tool_worker) == 1
        await session.send_message("[[say: still here]]")
        assert (await until(session, ends))[-1].output == "still here"
    assert proxy.accepted == 2


def tried_again(proxy: CuttingProxy, tries: int) -> bool:
    return proxy.accepted > tries


async def test_what_is_said_while_there_is_no_connection_is_said_once_after_it(gateway: Gateway) -> None:
    async with cut_session(gateway) as (session, proxy):
        for number in range(3):
            proxy.refuses = True
            proxy.cut()
            await until(session, lambda event: event.type == "error" and event.error.code == "connection_lost")
            tries = proxy.accepted
            saying = asyncio.create_task(session.send_message(f"[[say: number {number}]]"))
            await session.send_audio(b"\0\0" * 2400)
            await wait_until(functools.partial(tried_again, proxy, tries), description="a try that fails")
            proxy.refuses = False
            await saying
            assert (await until(session, ends))[-1].output == f"number {number}"
        asked = [item for item in session.history if item.type == "message" and item.role == "user"]
    assert len(asked) == 3


async def test_a_command_whose_answer_was_lost_is_carried_out_once(gateway: Gateway) -> None:
    async with cut_session(gateway) as (session, proxy):
        face = gateway.sessions.find(session.id)
        assert face is not None
        proxy.deafen()  # what the gateway says does not reach the client any more
        await session.send_message("[[say: hello]]")
        await wait_until(lambda: b"turn_ended" in face.recorded.newest.frame, description="the turn")
        proxy.cut()
        await until(session, lambda event: event.type == "error" and event.error.code == "connection_resumed")
        await session.send_message("[[say: and more]]")
        await until(session, lambda event: ends(event) and event.output == "and more")
        asked = [item for item in session.history if item.type == "message" and item.role == "user"]
    assert len(asked) == 2


async def test_an_error_is_of_the_kind_that_it_is_in_process(gateway: Gateway) -> None:
    async with voicebus.connect(url(gateway.port)) as session:
        await session.send_message("[[fault: failed invalid_prompt]]")
        seen = await until(session, lambda event: event.type == "error")
    error = seen[-1].error
    assert (error.code, error.type, error.message != "") == ("invalid_prompt", "model_error", True)
    shown = {name: value for name, value in seen[-1].to_json().items() if name in ("type", "code", "source")}
    assert shown == {"type": "error", "code": "invalid_prompt", "source": "model"}


async def test_a_gateway_that_stays_away_ends_the_session_with_an_error(gateway: Gateway) -> None:
    async with cut_session(gateway, resume_for=0.5) as (session, proxy):
        proxy.refuses = True
        proxy.cut()
        with pytest.raises(RemoteError, match="was lost"):
            await until(session, lambda _: False)
        with pytest.raises(RemoteError):
            await session.send_message("anybody?")


async def test_somebody_who_takes_over_ends_it_for_the_one_before(gateway: Gateway) -> None:
    async with voicebus.connect(url(gateway.port)) as first:
        async with voicebus.connect(url(gateway.port), session=first.id, token=first.token) as second:
            assert second.id == first.id
            with pytest.raises(RemoteError, match="4409"):
                await until(first, lambda _: False)
            await second.send_message("[[say: mine now]]")
            await until(second, ends)


async def test_who_comes_in_another_process_goes_on_behind_the_last_event_that_was_handled(
    gateway: Gateway, tool_worker: list[ToolCall]
) -> None:
    async with voicebus.connect(url(gateway.port)) as first:
        for city in ("Paris", "Oslo"):
            await first.send_message(f'[[call: get_weather {{"city": "{city}"}}]][[next]][[say: It says {{outputs}}]]')
            seen = await until(first, lambda event: ends(event) and event.output)
            if city == "Paris":
                handled = seen[-1].seq
        assert 0 < handled < seen[-1].seq <= first.seq
        async with voicebus.connect(url(gateway.port), session=first.id, token=first.token, seq=handled) as second:
            again = await until(second, lambda event: event.type == "tool_end")
            assert [json.loads(event.arguments) for event in again if event.type == "tool_end"] == [{"city": "Oslo"}]
            assert second.seq >= first.seq
            await second.send_message("[[say: mine now]]")
            await until(second, ends)
    assert len(tool_worker) == 2


async def test_an_observer_sees_what_is_said_commands_nothing_and_leaves_without_ending_it(gateway: Gateway) -> None:
    async with voicebus.connect(url(gateway.port)) as talk:
        async with voicebus.connect(url(gateway.port), session=talk.id, token=talk.token, observe=True) as seen:
            await talk.send_message("[[say: Good morning]]")
            shown = await until(seen, ends)
            assert shown[-1].output == "Good morning"
            assert [item.type for item in seen.history] == ["message", "message"]
            assert not [event for event in shown if isinstance(event, events.RealtimeAudio)], "it has not asked for any"
            said = (seen.send_message("hi"), seen.send_audio(b"\0\0"), seen.interrupt(), seen.update_agent("porter"))
            for command in said:
                with pytest.raises(UserError, match="only observed"):
                    await command
            with pytest.raises(UserError, match="only observed"):
                seen.report_playback("item", 0, 100)
        assert seen.end_reason is None
        await talk.send_message("[[say: still here]]")
        await until(talk, lambda event: ends(event) and event.output == "still here")


async def test_an_observer_may_listen_and_is_told_of_the_end(gateway: Gateway) -> None:
    async with voicebus.connect(url(gateway.port)) as talk:
        observing = voicebus.connect(url(gateway.port), session=talk.id, token=talk.token, observe=True, audio="binary")
        async with observing as heard:
            await talk.send_message("[[say: Good morning]]")
            shown = await until(heard, ends)
            assert b"".join(event.audio.data for event in shown if isinstance(event, events.RealtimeAudio))
            await talk.close()
            async for _ in heard:
                pass
            assert heard.end_reason == "ended"


async def test_an_observer_needs_no_token_with_a_key_and_comes_back_where_its_connection_is_cut(
    gateways: Gateways, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\nother:elsewhere\n")
    async with gateways(api_keys_file=keys) as gateway, cutting_proxy(gateway.port) as proxy:
        async with voicebus.connect(url(gateway.port), api_key="front-desk") as talk:
            observe = functools.partial(voicebus.connect, session=talk.id, observe=True)
            async with observe(url(proxy.port), api_key="front-desk") as seen:
                proxy.cut()
                await until(seen, lambda event: event.type == "error" and event.error.code == "connection_resumed")
                await talk.send_message("[[say: Good morning]]")
                assert (await until(seen, ends))[-1].output == "Good morning"
            with pytest.raises(RemoteError):
                async with observe(url(gateway.port), api_key="elsewhere"):
                    pass


async def test_context_and_history_come_with_the_session(gateways: Gateways) -> None:
    contextual.FOUND.clear()
    said = [
        {"item_id": "i1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "I am Ada"}]}
    ]
    async with gateways("services.gateway.contextual") as gateway:
        async with voicebus.connect(url(gateway.port), context={"guest": "Ada"}, history=said) as session:
            (item,) = session.history
            assert item.type == "message"
            assert item.role == "user"
    assert contextual.FOUND == [{"guest": "Ada"}]


async def test_a_key_is_shown_and_a_wrong_one_is_told(gateways: Gateways, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("hotel:front-desk\n")
    async with gateways(api_keys_file=keys) as gateway:
        for context in (None, {"a": 1}):
            # As a file or a mounted secret gives it: the line's end is none of the key.
            async with voicebus.connect(url(gateway.port), api_key="front-desk\n", context=context) as session:
                assert session.id
            with pytest.raises(RemoteError) as refused:
                async with voicebus.connect(url(gateway.port), api_key="wrong", context=context):
                    pass
            assert "credential" in str(refused.value)
            assert "wrong" not in str(refused.value)


async def test_what_cannot_be_is_said_before_anything_is_dialled() -> None:
    with pytest.raises(UserError, match="is no gateway's address"):
        voicebus.connect("ftp://x")
    with pytest.raises(UserError, match="belong together"):
        voicebus.connect("ws://x", session="01S")
    with pytest.raises(UserError, match="for a new session"):
        voicebus.connect("ws://x", session="01S", token="t", context=1)
    for wrong in ({"observe": True}, {"seq": 4}):
        with pytest.raises(UserError, match="of a session that there is"):
            voicebus.connect("ws://x", **wrong)
    with pytest.raises(UserError, match="exclude each other"):
        voicebus.connect("ws://x", session="01S", observe=True, playback_tracker=RealtimePlaybackTracker())
    for new in ({"context": 1}, {"record": True}, {"agent": "porter"}):
        with pytest.raises(UserError, match="for a new session"):
            voicebus.connect("ws://x?session=01S&token=t", **new)
    with pytest.raises(RemoteError, match=r"no gateway answers at ws://127\.0\.0\.1:1/v1/sessions/connect"):
        async with voicebus.connect("http://127.0.0.1:1"):
            pass
    with pytest.raises(UserError, match="not open"):
        await voicebus.connect("http://127.0.0.1:1").send_message("hi")
    await voicebus.connect("http://127.0.0.1:1").interrupt()
    with pytest.raises(UserError, match="must be JSON"):
        async with voicebus.connect("http://127.0.0.1:1", context=object()):
            pass


async def test_the_model_that_is_away_and_the_end_that_comes_are_told(
    gateways: Gateways, simulator: SimulatorHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicebus_services.gateway.bounds.WARNING_S", 3600)
    async with gateways(max_session_length=3600.2) as gateway, voicebus.connect(url(gateway.port)) as session:
        (ending,) = (await until(session, lambda event: isinstance(event, events.RealtimeSessionExpiring)))[-1:]
        assert ending.ends_in_ms > 0
        assert simulator.cut() == 1
        seen = await until(session, lambda event: isinstance(event, events.RealtimeModelReconnected))
        (lost,) = (event for event in seen if isinstance(event, events.RealtimeModelReconnecting))
        assert (lost.cause, lost.attempt) == ("dropped", 1)


async def test_an_unknown_agent_is_told(gateway: Gateway) -> None:
    with pytest.raises(RemoteError, match="nobody"):
        async with voicebus.connect(url(gateway.port), agent="nobody"):
            pass


def test_waits_between_tries_are_bounded() -> None:
    assert link.RESUME_S == 60
    assert dialling.FIRST_DELAY_S < dialling.LONGEST_DELAY_S < link.RESUME_S
