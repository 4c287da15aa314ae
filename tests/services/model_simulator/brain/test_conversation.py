"""Whole conversations with the brain: questions back, follow-ups, results, handovers, and what it must never do."""

import json
from datetime import date
from typing import Any

import pytest

from voicebus_services.model_simulator.brain import ToolPickingBrain
from voicebus_services.model_simulator.brains import BrainContext, Call, Output, Say

JsonObject = dict[str, Any]


def tool(name: str, description: str, required: tuple[str, ...] = (), **properties: JsonObject) -> JsonObject:
    parameters = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return {"type": "function", "name": name, "description": description, "parameters": parameters}


TOOLS = (
    tool("get_weather", "Get the current weather for a city.", ("city",), city={"type": "string"}),
    tool(
        "book_table", "Book a table at a restaurant.", ("people", "time"),
        people={"type": "integer"}, time={"type": "string"}, outdoors={"type": "boolean"},
    ),
    tool(
        "send_message", "Send a text message to a contact.", ("recipient", "message"),
        recipient={"type": "string"}, message={"type": "string"},
    ),
    tool(
        "transfer_to_billing_agent",
        "Handoff to the Billing agent to handle the request. Handles invoices, refunds and payments.",
    ),
)  # fmt: skip


class Conversation:
    """Holds the items as a server does, and lets a tool's output be given to the last calls."""

    def __init__(self, tools: tuple[JsonObject, ...] = TOOLS, tool_choice: str | JsonObject = "auto") -> None:
        self.brain = ToolPickingBrain(lambda: date(2026, 11, 23))
        self.tools = tools
        self.tool_choice = tool_choice
        self.items: list[JsonObject] = []
        self.open_calls: list[str] = []

    def say(self, text: str) -> list[Any]:
        self.items.append({"type": "message", "role": "user", "content": [{"type": "input_audio", "transcript": text}]})
        return self.answer()

    def give(self, *outputs: str) -> list[Any]:
        for call_id, output in zip(self.open_calls, outputs, strict=True):
            self.items.append({"type": "function_call_output", "call_id": call_id, "output": output})
        return self.answer()

    def answer(self) -> list[Any]:
        outputs = self.brain.decide(BrainContext("", self.tools, self.tool_choice, tuple(self.items)))
        self.open_calls = []
        return [self._record(output) for output in outputs]

    def _record(self, output: Output) -> Any:
        if isinstance(output, Say):
            content = [{"type": "output_audio", "transcript": output.text}]
            self.items.append({"type": "message", "role": "assistant", "content": content})
            return output.text
        self.open_calls.append(f"call_{len(self.items)}")
        self.items.append(
            {
                "type": "function_call",
                "call_id": self.open_calls[-1],
                "name": output.name,
                "arguments": output.arguments,
            }
        )
        return output.name, json.loads(output.arguments)


def test_a_missing_argument_is_asked_for_and_the_bare_value_completes_the_call() -> None:
    talk = Conversation()
    assert talk.say("What's the weather like?") == ["Which city?"]
    assert talk.say("Paris.") == [("get_weather", {"city": "Paris"})]


@pytest.mark.parametrize("answer", ["It's Rome.", "in rome please", "Rome", "The city is Rome."])
def test_an_answer_may_come_with_words_around_it(answer: str) -> None:
    talk = Conversation()
    talk.say("How is the weather?")
    assert talk.say(answer) == [("get_weather", {"city": "Rome"})]


def test_several_missing_arguments_are_asked_for_one_after_the_other() -> None:
    talk = Conversation()
    assert talk.say("Book a table.") == ["How many people?"]
    assert talk.say("Six.") == ["At what time?"]
    assert talk.say("half past eight pm") == [("book_table", {"people": 6, "time": "20:30"})]


def test_an_answer_that_is_none_is_asked_again() -> None:
    talk = Conversation()
    talk.say("Book a table.")
    assert talk.say("Uh, what?") == ["How many people?"]
    assert talk.say("Four people at seven p.m.") == [("book_table", {"people": 4, "time": "19:00"})]


def test_an_answer_fills_no_other_argument_by_guess() -> None:
    talk = Conversation()
    assert talk.say("Send a message.") == ["Who is the recipient?"]
    assert talk.say("to Anna") == ["What should the message say?"]
    assert talk.say("Tell her I will be late.") == [
        ("send_message", {"recipient": "Anna", "message": "I will be late"})
    ]


def test_a_question_that_was_cut_short_by_the_caller_is_still_answered() -> None:
    talk = Conversation()
    talk.say("What's the weather?")
    talk.items[-1]["content"][0]["transcript"] = "Which ci"
    assert talk.say("Oslo") == [("get_weather", {"city": "Oslo"})]


def test_somebody_may_change_their_mind_instead_of_answering() -> None:
    talk = Conversation()
    talk.say("What's the weather?")
    assert talk.say("Actually, book a table for two at 8 pm.") == [("book_table", {"people": 2, "time": "20:00"})]
    other = Conversation()
    other.say("What's the weather?")
    assert other.say("Never mind.") == ["Okay, never mind."]


def test_the_last_call_is_made_again_with_what_is_different() -> None:
    talk = Conversation()
    talk.say("What is the weather in Paris?")
    talk.give('{"temperature": 18}')
    assert talk.say("And in London?") == [("get_weather", {"city": "London"})]


def test_two_values_for_one_argument_are_two_calls_and_each_result_is_told_apart() -> None:
    talk = Conversation()
    assert talk.say("What's the weather in Paris and in London?") == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "London"}),
    ]
    assert talk.give('{"temperature": 18}', '{"temperature": 9}') == [
        "Paris: The temperature is 18. London: The temperature is 9."
    ]


def test_a_handoff_tool_is_picked_and_the_next_agent_takes_the_same_request() -> None:
    talk = Conversation()
    assert talk.say("I want a refund for my invoice.") == [("transfer_to_billing_agent", {})]
    talk.tools = (
        tool("request_refund", "Request a refund for an invoice.", ("invoice",), invoice={"type": "string"}),
        tool("transfer_to_concierge", "Handoff to the concierge agent to handle the request. Refunds and all else."),
    )
    assert talk.give('{"assistant": "Billing agent"}') == ["Which invoice?"]


def test_two_agents_never_hand_the_same_request_to_and_fro() -> None:
    talk = Conversation(tools=(TOOLS[3],))
    talk.say("I want a refund.")
    talk.tools = (tool("transfer_to_other_agent", "Handoff to the other agent. Handles refunds."),)
    assert talk.give('{"assistant": "Billing agent"}') == ["You are connected now. How can I help you?"]


def test_tool_choice_is_obeyed() -> None:
    silent = Conversation(tool_choice="none").say("What is the weather in Paris?")
    assert all(isinstance(said, str) for said in silent)
    assert isinstance(Conversation(tool_choice="required").say("Hello.")[0], tuple)
    named = Conversation(tool_choice={"type": "function", "name": "book_table"}).say("What is the weather in Paris?")
    assert named[0][0] == "book_table"
    assert set(named[0][1]) >= {"people", "time"}


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("Hello!", "Hello! How can I help you?"),
        ("Thank you very much.", "You're welcome! Is there anything else?"),
        ("Goodbye.", "Goodbye! Have a good day."),
    ],
)
def test_small_talk_is_answered_briefly(said: str, answered: str) -> None:
    assert Conversation().say(said) == [answered]


def test_asked_what_it_can_do_it_names_what_the_tools_do() -> None:
    (said,) = Conversation().say("What can you do?")
    assert "get the current weather for a city" in said
    assert "book a table at a restaurant" in said
    assert "connect you with the billing agent" in said


@pytest.mark.parametrize(
    "said",
    [
        "I like turtles.",
        "Who won the world cup in 1998?",
        "My cat is on the couch.",
        "What time is it?",
        "Tell me a joke.",
    ],
)
def test_what_no_tool_is_for_gives_no_call(said: str) -> None:
    assert all(isinstance(output, str) for output in Conversation().say(said))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('{"city": "Paris", "temperature_c": 18, "condition": "sunny"}',
         "In Paris, the temperature is 18 degrees Celsius and the condition is sunny."),
        ('{"temperature": 18, "rain": false, "humidity_percent": 40}',
         "The temperature is 18, without rain and the humidity is 40 percent."),
        ('{"total": 12.5, "currency": "EUR"}', "The total is 12.5 euros."),
        ('{"error": "service unavailable"}', "I'm sorry, that did not work: service unavailable."),
        ('{"success": false, "message": "no free slot"}', "I'm sorry, that did not work: no free slot."),
        ("An error occurred while running the tool. Please try again. Error: city unknown",
         "I'm sorry, that did not work: city unknown."),
        ("sunny, 18 degrees", "Sunny, 18 degrees."),
        ("42", "The weather is 42."),
        ("[]", "I found nothing."),
        ('["red", "blue"]', "I found 2: red and blue."),
        ("", "That is done."),
        ("null", "That is done."),
    ],
)  # fmt: skip
def test_a_result_is_said_in_a_sentence_with_its_values(output: str, said: str) -> None:
    talk = Conversation()
    talk.say("What is the weather in Paris?")
    assert talk.give(output) == [said]


def test_a_long_result_is_cut_to_its_first_sentences() -> None:
    talk = Conversation()
    talk.say("What is the weather in Paris?")
    (said,) = talk.give("It is sunny. It is warm. There is no wind. " + "Nothing else happens here. " * 60)
    assert said == "It is sunny. It is warm. There is no wind."


def test_the_same_conversation_always_gets_the_same_answers() -> None:
    def once() -> list[Any]:
        talk = Conversation()
        return [talk.say("Book a table for three."), talk.say("at nine pm"), talk.give('{"ok": true, "table": 7}')]

    assert once() == once()


HOSTILE = (
    {"type": "function", "name": "broken", "description": None, "parameters": {"type": "object", "properties": [1, 2]}},
    {"type": "function", "name": "loop", "description": "x", "parameters": {"$ref": "#"}},
    {
        "type": "function", "name": "deep", "description": "Deep thoughts.",
        "parameters": {
            "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n",
        },
    },
    {
        "type": "function", "name": "pattern", "description": "Match a thought.",
        "parameters": {
            "type": "object", "properties": {"x": {"type": "string", "pattern": "(["}}, "required": ["x", "y"],
        },
    },
)  # fmt: skip


@pytest.mark.parametrize(
    "said", ["", "thought", "deep thoughts 12 34", "a " * 3000, "?!.,-", "1 2 3 4 5 6 7 8 9", "\0\udcff x"]
)
def test_strange_tools_and_strange_words_break_nothing(said: str) -> None:
    assert Conversation(tools=(*HOSTILE, *TOOLS)).say(said)


async def test_the_brain_fits_its_port() -> None:
    reply = await ToolPickingBrain().respond(BrainContext("", TOOLS, "auto", ()))
    assert isinstance(reply.outputs[0], Say)
    call = await ToolPickingBrain().respond(
        BrainContext("", TOOLS, "auto", ({"type": "message", "role": "user", "content": "weather in Rome"},))
    )
    assert call.outputs == (Call("get_weather", '{"city": "Rome"}'),)
