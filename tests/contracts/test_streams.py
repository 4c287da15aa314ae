"""Keys: hash tags so that everything runs on Redis Cluster, and an end for every key."""

import inspect
import re
from collections.abc import Iterable
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from voicebus.contracts.streams import RESERVED_QUEUES, Keys
from voicebus.errors import ContractError

KEYS = Keys("vb")

# One example of every key; whole-installation hashes have no tag, as no script names them beside another key.
TAGGED = {
    "events": KEYS.events(3),
    "session_state": KEYS.session_state("s"),
    "session_items": KEYS.session_items("s"),
    "session_calls": KEYS.session_calls("s"),
    "session_end": KEYS.session_end("s"),
    "sessions": KEYS.sessions(3, "acme"),
    "tools": KEYS.tools("q"),
    "call": KEYS.call("q", "s", "c"),
    "dead": KEYS.dead("q"),
    "guardrails": KEYS.guardrails(1),
    "answer": KEYS.answer("0f"),
    "inbox": KEYS.inbox("g"),
    "gateway": KEYS.gateway("g"),
    "gateway_calls": KEYS.gateway_calls("g"),
    "access": KEYS.access("acme", "sessions"),
    "client_secret": KEYS.client_secret("d"),
    "control": KEYS.control("w"),
    "worker": KEYS.worker("w"),
    "archiver_lease": KEYS.archiver_lease(3),
}
UNTAGGED = {"config", "registry_tools", "archivers", "gateways", "circuits"}
NOT_KEYS = {
    "event_shard",
    "guardrail_shard",
    "prefix",
    "event_shards",
    "guardrail_shards",
    "require_reply_to",
    "every_call",
    "calls",
    "inboxes",
    "is_record_of",
    "session_of_call",
}


def slots(keys: Iterable[str]) -> set[int]:
    return {key_slot(key.encode()) for key in keys}


def test_every_key_is_listed_here_and_says_how_it_ends() -> None:
    members = {name: member for name, member in inspect.getmembers(Keys) if not name.startswith("_")}
    assert set(members) - NOT_KEYS == set(TAGGED) | UNTAGGED
    for name in set(members) - NOT_KEYS:
        member = members[name]
        assert inspect.getdoc(member.fget if isinstance(member, property) else member), f"{name} does not say"


@pytest.mark.parametrize(
    ("key", "session"),
    [
        (KEYS.call("desk", "s1", "c1"), "s1"),
        (KEYS.call("desk", "s:1", "c:1"), "s:1"),
        (KEYS.call("desk", "s2", "s1"), None),
        (KEYS.session_state("s1"), None),
    ],
)
def test_the_record_of_a_call_tells_its_session(key: str, session: str | None) -> None:
    assert KEYS.session_of_call(key, {"s1", "s:1"}) == session


def test_every_key_has_one_hash_tag() -> None:
    for name, key in TAGGED.items():
        assert re.fullmatch(r"vb:[^{}]+\{[^{}]+\}[^{}]*", key), name


def test_keys_are_those_of_the_contract() -> None:
    shard = crc32(b"s") % 16
    assert KEYS.session_state("s") == f"vb:session:{{{shard}}}:s:state"
    assert KEYS.events(shard) == f"vb:events:{{{shard}}}"
    assert KEYS.tools("default") == "vb:tools:{default}"
    assert KEYS.call("default", "s", "c") == "vb:call:{default}:s:c"
    assert KEYS.inbox("g") == "vb:inbox:{g}"
    assert KEYS.registry_tools == "vb:registry:tools"


@given(session=st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1), shards=st.integers(1, 1024))
def test_what_a_flush_touches_shares_a_slot(session: str, shards: int) -> None:
    keys = Keys("vb", event_shards=shards)
    touched = [
        keys.session_state(session),
        keys.session_items(session),
        keys.session_calls(session),
        keys.session_end(session),
    ]
    shard = keys.event_shard(session)
    assert len(slots([*touched, keys.events(shard), keys.sessions(shard, "a{b}c")])) == 1


@given(queue=st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True))
def test_what_a_claim_touches_shares_a_slot(queue: str) -> None:
    assert len(slots([KEYS.tools(queue), KEYS.call(queue, "s", "c"), KEYS.dead(queue)])) == 1


def test_dead_letters_of_the_services_have_queues_that_no_tool_may_take() -> None:
    assert frozenset({"guardrails", "events", "inbox"}) == RESERVED_QUEUES


def test_answers_go_to_inboxes_and_foreign_keys_alone() -> None:
    keys = Keys("vb")
    for allowed in (keys.inbox("g1"), "answers", "vbx:events:{1}", "other:inbox:{g1}"):
        keys.require_reply_to(allowed)
    for refused in (keys.events(1), keys.config, keys.tools("default"), "vb:inboxes", "vb:"):
        with pytest.raises(ContractError, match="no inbox"):
            keys.require_reply_to(refused)
