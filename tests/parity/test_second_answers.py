"""A create that is answered twice: what the second answer does is not done a second time (0.3, 2.11, 2.12)."""

from support.gates import Gates
from support.queued_model import queued_model
from support.simulator import running_simulator
from support.stages import Stage
from support.waiting import wait_until
from voicebus import RealtimeAgent, function_tool


async def test_a_call_of_a_second_answer_is_answered_and_takes_no_effect(stage: Stage) -> None:
    gates, paid = Gates(), []

    @function_tool
    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        await gates.passed("till")
        return f"paid {amount}"

    async with (
        running_simulator() as simulator,
        queued_model(simulator.url) as model,
        stage.conversation(RealtimeAgent("Ada", tools=[pay]), model) as talk,
    ):
        await talk.say('[[call: pay {"amount": 5}]] [[next]] [[say: {outputs}]]')
        second = await talk.until("tool_end")
        told = "The call was not run, as the response that made it was cancelled."
        assert (second["outcome"], second["output"]) == ("cancelled", told)
        gates.open("till")
        first = await talk.until("tool_end")
        assert (first["outcome"], first["output"]) == ("ok", "paid 5")
        await wait_until(
            lambda: any("paid 5" in end["output"] for end in talk.of("agent_end")), description="an answer"
        )
        assert len(talk.of("tool_start")) == 1
        assert paid == [5]
        (session,) = simulator.ledger()
        assert [line["text"] for line in session["lines"] if line["speaker"] == "tool"] == [told, "paid 5"]
