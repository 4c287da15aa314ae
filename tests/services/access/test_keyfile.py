"""The file of API keys."""

import json

import pytest

from voicebus_services.access.keyfile import KeyFileError, StoredKey, digest, new_key, parse
from voicebus_services.access.principal import Kind, Limits

DIGEST = digest("a key").hex()


def test_both_forms_stand_side_by_side() -> None:
    stored = {
        "id": "k1", "tenant": "acme", "sha256": DIGEST, "agents": ["desk"], "expires": "2030-01-01T00:00:00Z",
        "limits": {"sessions": 3, "idle_time": 90},
    }  # fmt: skip
    hashed, first, second = parse(f"# keys\n\n{json.dumps(stored)}\nother: plain-key \nother:second\n")
    assert (hashed.digest.hex(), hashed.principal.tenant, hashed.principal.key_id) == (DIGEST, "acme", "k1")
    assert (hashed.principal.agents, hashed.principal.kind) == (frozenset({"desk"}), Kind.API_KEY)
    assert hashed.principal.limits == Limits(sessions=3, idle_time=90)
    assert hashed.principal.expires_at == 1_893_456_000
    assert (first.digest, first.principal.tenant, first.principal.key_id) == (digest("plain-key"), "other", "other:1")
    assert second.principal.key_id == "other:2"


def test_a_stored_key_reads_back_as_it_was_written() -> None:
    stored = StoredKey(id="k1", tenant="acme", sha256=DIGEST, agents=frozenset({"desk"}), limits=Limits(sessions=1))
    (key,) = parse(stored.line())
    assert (key.principal.agents, key.principal.limits) == (frozenset({"desk"}), Limits(sessions=1))
    assert "expires" not in stored.line()


def test_new_keys_are_long_and_never_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert min(map(len, keys)) > 40


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no key"),
        ("# nothing\n", "no key"),
        ("no-colon\n", "line 1"),
        (":key\n", "line 1"),
        ("tenant:\n", "line 1"),
        ("a:b\ntenant:ключ\n", "line 2"),
        ("{\n", "line 1"),
        ('{"id": "k", "tenant": "t", "sha256": "abc"}', "sha256"),
        (f'{{"id": "k", "tenant": "t", "sha256": "{DIGEST}", "limit": {{}}}}', "limit"),
        (f'{{"id": "k", "tenant": "t", "sha256": "{DIGEST}", "limits": {{"calls": 1}}}}', "limits.calls"),
        (f'{{"id": "k", "tenant": "t", "sha256": "{DIGEST}", "expires": "2030-01-01T00:00:00"}}', "expires"),
        (f'{{"id": "k", "tenant": "t", "sha256": "{DIGEST}", "agents": []}}', "agents"),
        (f'{{"id": "k", "tenant": "t", "sha256": "{DIGEST}"}}\n' * 2, "repeats the id 'k'"),
    ],
)
def test_a_text_that_is_no_keys_file_is_one_sentence(text: str, why: str) -> None:
    with pytest.raises(KeyFileError, match=why):
        parse(text)


def test_neither_the_sentence_nor_a_key_shows_the_secret() -> None:
    with pytest.raises(KeyFileError) as refused:
        parse("just-the-secret\n")
    assert "just-the-secret" not in str(refused.value)
    assert "the-secret" not in repr(parse("acme:the-secret"))
