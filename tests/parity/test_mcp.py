"""Tools of MCP servers in a conversation: real server processes, over stdio and over streamable HTTP."""

from pathlib import Path
from typing import Any, Final

from support.mcp_servers import http_server, stdio_program
from support.stages import Stage
from voicebus import (
    MCPServerSse,
    MCPServerStdio,
    MCPServerStreamableHttp,
    RealtimeAgent,
    create_static_tool_filter,
    realtime_handoff,
)
from voicebus.testing import ScriptedRealtimeServer, ServerStep, function_call, text_turn

CREATE: Final = "response.create"

ASK_RATE: Final = [
    ServerStep(CREATE, function_call("rate", '{"currency": "EUR"}', call_id="call_1")),
    ServerStep(CREATE, text_turn("It is 1.25.")),
]


def told(server: ScriptedRealtimeServer) -> list[str]:
    """The names of the tools of each session.update, in one list."""
    updates = server.received("session.update")
    return [tool["name"] for event in updates for tool in event["session"].get("tools", ())]


async def test_a_server_that_is_a_process_of_ours_answers_calls(stage: Stage, tmp_path: Path) -> None:
    rates = MCPServerStdio(stdio_program(tmp_path), tool_filter={"allowed_tool_names": ["rate"]}, name="rates")
    agent = RealtimeAgent[Any]("clerk", mcp_servers=[rates])
    async with ScriptedRealtimeServer(ASK_RATE) as server, stage.conversation(agent, server) as talk:
        await talk.say("the rate?")
        ended = await talk.until("tool_end")
        assert (ended["tool"], ended["output"]) == ("rate", "EUR: 1.25")
        await talk.until("agent_end", output="It is 1.25.")
        assert told(server)[:1] == ["rate"]
    assert rates._connection is None, "the session opened it, and closed it"


async def test_a_server_over_http_answers_calls(stage: Stage, tmp_path: Path) -> None:
    async with http_server(tmp_path) as process:
        rates = MCPServerStreamableHttp({"url": process.url}, cache_tools_list=True, use_structured_content=True)
        agent = RealtimeAgent[Any]("clerk", mcp_servers=[rates])
        async with rates:
            async with ScriptedRealtimeServer(ASK_RATE) as server, stage.conversation(agent, server) as talk:
                await talk.say("the rate?")
                assert (await talk.until("tool_end"))["output"] == '{"rate": 1.25}'
            assert await rates.list_tools(), "the program opened it, and only the program closes it"


async def test_a_server_that_dies_fails_the_call_and_serves_the_next_one(stage: Stage, tmp_path: Path) -> None:
    rates = MCPServerStdio(stdio_program(tmp_path), name="rates")
    agent = RealtimeAgent[Any]("clerk", mcp_servers=[rates])
    script = [ServerStep(CREATE, function_call("die", "{}", call_id="call_1")), *ASK_RATE[:1], *ASK_RATE[1:]]
    script[1] = ServerStep(CREATE, function_call("rate", '{"currency": "EUR"}', call_id="call_2"))
    async with ScriptedRealtimeServer(script) as server, stage.conversation(agent, server) as talk:
        await talk.say("the rate?")
        lost = await talk.until("tool_end", tool="die")
        assert "the connection was lost" in lost["output"]
        assert (await talk.until("tool_end", tool="rate"))["output"] == "EUR: 1.25"


async def test_tools_are_listed_again_for_the_agent_that_a_call_is_handed_to(stage: Stage, tmp_path: Path) -> None:
    only = create_static_tool_filter(blocked_tool_names=["die", "slow", "process", "broken", "open_ended", "chart"])
    rates = MCPServerStdio(stdio_program(tmp_path), tool_filter=only, name="rates")
    expert = RealtimeAgent[Any]("expert", mcp_servers=[rates], mcp_config={"include_server_in_tool_names": True})
    agent = RealtimeAgent[Any]("clerk", handoffs=[realtime_handoff(expert)])
    script = [
        ServerStep(CREATE, function_call("transfer_to_expert", "{}", call_id="call_1")),
        ServerStep(CREATE, function_call("mcp_rates__rate", '{"currency": "EUR"}', call_id="call_2")),
        ServerStep(CREATE, text_turn("It is 1.25.")),
    ]
    async with ScriptedRealtimeServer(script) as server, stage.conversation(agent, server) as talk:
        await talk.say("the rate?")
        await talk.until("handoff")
        assert (await talk.until("tool_end", tool="mcp_rates__rate"))["output"] == "EUR: 1.25"


async def test_a_function_may_say_which_calls_of_a_server_wait_for_a_person(stage: Stage, tmp_path: Path) -> None:
    def policy(_: Any, agent: Any, tool: Any) -> bool:
        return bool(agent.name == "clerk" and tool.name == "rate")

    rates = MCPServerStdio(stdio_program(tmp_path), require_approval=policy, name="rates")
    agent = RealtimeAgent[Any]("clerk", mcp_servers=[rates])
    script = [ServerStep(CREATE, function_call("chart", "{}", call_id="call_0")), *ASK_RATE]
    async with ScriptedRealtimeServer(script) as server, stage.conversation(agent, server) as talk:
        await talk.say("the chart, then the rate?")
        assert (await talk.until("tool_end"))["tool"] == "chart"
        asked = await talk.until("tool_approval_required")
        assert asked["tool"] == "rate"
        await talk.reject(asked["call_id"], message="Not today.")
        assert (await talk.until("tool_end"))["output"] == "Not today."


async def test_a_server_over_sse_answers_calls(stage: Stage, tmp_path: Path) -> None:
    async with http_server(tmp_path, transport="sse") as process:
        agent = RealtimeAgent[Any]("clerk", mcp_servers=[MCPServerSse({"url": process.url}, name="rates")])
        async with ScriptedRealtimeServer(ASK_RATE) as server, stage.conversation(agent, server) as talk:
            await talk.say("the rate?")
            assert (await talk.until("tool_end"))["output"] == "EUR: 1.25"


async def test_a_call_of_a_server_may_wait_for_a_person(stage: Stage, tmp_path: Path) -> None:
    rates = MCPServerStdio(stdio_program(tmp_path), require_approval={"always": {"tool_names": ["rate"]}}, name="rates")
    agent = RealtimeAgent[Any]("clerk", mcp_servers=[rates])
    async with ScriptedRealtimeServer(ASK_RATE) as server, stage.conversation(agent, server) as talk:
        await talk.say("the rate?")
        asked = await talk.until("tool_approval_required")
        await talk.approve(asked["call_id"])
        assert (await talk.until("tool_end"))["output"] == "EUR: 1.25"
