"""The published contract: an AsyncAPI document of the specification's own schema, in step with the code."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from support import node
from support.commands import voicebus as run_command
from voicebus.contracts.asyncapi import asyncapi
from voicebus.contracts.envelope import Entry, Message
from voicebus.contracts.journal import EVENTS
from voicebus.contracts.streams import Keys
from voicebus.contracts.tools import ToolCall, ToolRegistration
from voicebus_services.contract_command import files

PUBLISHED = Path(__file__).parents[2] / "docs" / "contract"


def models() -> set[type[Message]]:
    def below(kind: type[Message]) -> set[type[Message]]:
        return {kind}.union(*(below(sub) for sub in kind.__subclasses__()))

    return {model for model in below(Message) if model.__module__.startswith("voicebus.contracts.")} - {Message}


def resolved(reference: str, document: dict[str, Any]) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


@pytest.mark.timeout(120)  # the first one in a checkout installs npm packages
def test_the_document_is_one_of_asyncapi_3() -> None:
    schemas = node.packages("asyncapi", "@asyncapi/specs") / "node_modules" / "@asyncapi" / "specs" / "schemas"
    schema = json.loads((schemas / "3.0.0.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(asyncapi())] == []
    broken = {**asyncapi(), "channels": {"toolCalls": {"address": 5}}}
    assert list(validator.iter_errors(broken)), "the validator sees a wrong one"


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert references
    for reference in references:
        assert resolved(reference, document)


def test_what_is_published_is_in_step_with_the_code() -> None:
    """`make contract` writes it anew."""
    published = {path.name: path.read_text(encoding="utf-8") for path in PUBLISHED.iterdir()}
    assert published == files()


def test_every_message_and_every_stream_of_the_contract_is_in_it() -> None:
    document = asyncapi()
    assert {model.__name__ for model in models()} <= set(document["components"]["schemas"])
    names = {message["name"] for message in document["components"]["messages"].values()}
    assert {kind.value for kind in EVENTS} < names
    keys = Keys()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {
        keys.tools("{queue}"), "vb:guardrails:{{shard}}", keys.inbox("{gateway}"), keys.control("{worker}"),
        "vb:events:{{shard}}",
    }  # fmt: skip


def test_an_entry_of_ours_fits_its_message() -> None:
    document = asyncapi()
    call = ToolCall(call_id="c", tool="t", arguments="{}", agent="a", reply_to="vb:inbox:{g}")
    entry = Entry(
        id="01J", type="tool.call", session="s", epoch=1, at=5, deadline=9, data=call.model_dump(mode="json")
    ).fields()
    message = document["components"]["messages"]["toolCall"]
    schemas = {"components": document["components"]}
    jsonschema.validate({name: text for name, text in entry.items() if name != "data"}, message["headers"])
    jsonschema.validate(json.loads(entry["data"]), {**message["payload"], **schemas})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**entry, "v": "2"}, message["headers"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"call_id": "c"}, {**message["payload"], **schemas})


def test_a_registration_by_hand_needs_no_more_than_the_document_says() -> None:
    needed = asyncapi()["components"]["schemas"][ToolRegistration.__name__]["required"]
    assert sorted(needed) == ["at", "description", "name", "parameters", "queue", "timeout_ms"]


async def test_the_commands_print_what_is_published(tmp_path: Path) -> None:
    assert json.loads((await run_command("contract", "asyncapi")).out) == asyncapi()
    assert (await run_command("contract", "scripts", "claim")).out == files()["claim.lua"]
    everything = (await run_command("contract", "scripts")).out
    assert all(files()[name] in everything for name in ("claim.lua", "renew.lua", "finish.lua", "register.lua"))
    refused = await run_command("contract", "scripts", "nope")
    assert refused.status == 2
    assert "there is no script 'nope'; there are claim, claim_new, release, renew, finish" in refused.err
    assert (await run_command("contract", "write", str(tmp_path / "out"))).status == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(files())
    (tmp_path / "file").write_text("")
    assert (await run_command("contract", "write", str(tmp_path / "file"))).status == 2
