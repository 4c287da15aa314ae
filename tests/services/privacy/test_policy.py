"""The file of privacy rules: what it may say, whose it is, and how a wrong one is told."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from voicebus.errors import SettingsError
from voicebus_services.privacy.policy import NO_POLICIES, read_policies


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "privacy.yaml"
    file.write_text(text)
    return file


def test_a_tenant_has_what_it_says_and_the_rest_of_the_default(tmp_path: Path) -> None:
    policies = read_policies(
        written(
            tmp_path,
            """
default:
  redact: [email, card]
  keep: 90d
tenants:
  acme:
    keep: 30d
    keep_recordings: 7d
    record: false
  open: {redact: [], keep: null}
""",
        )
    )
    acme, other = policies.of("acme"), policies.of("other")
    assert (acme.keep, acme.keep_recordings, acme.record) == (timedelta(days=30), timedelta(days=7), False)
    assert [rule.name for rule in acme.redaction.rules] == ["email", "card"]
    assert (other.keep, other.keep_recordings, other.record) == (timedelta(days=90), None, True)
    assert not policies.of("open").redaction
    assert policies.of("open").keep is None
    assert policies.of(None) is policies.of("local")
    assert policies.expires


def test_a_record_whose_tenant_nobody_knows_has_the_rules_of_all(tmp_path: Path) -> None:
    one = {"name": "order", "pattern": r"ORD-\d+"}
    file = written(tmp_path, json.dumps({"default": {"redact": ["email"]}, "tenants": {"acme": {"redact": [one]}}}))
    rules = read_policies(file).redaction(None)
    assert [rule.name for rule in rules.rules] == ["email", "order"]


def test_without_a_file_nothing_is_redacted_or_erased() -> None:
    assert not NO_POLICIES.redaction(None)
    assert not NO_POLICIES.expires


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert not read_policies(written(tmp_path, "")).redaction("acme")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"default": {"redact": ["shoe size"]}}, r"default\.redact\[0\]: kind 'shoe size' was read, but email, phone"),
        (
            {"tenants": {"acme": {"redact": ["email", {"name": "order", "pattern": "(a"}]}}},
            r"tenants\.acme\.redact\[1\], rule 'order': '\(a' is no regular expression of RE2 \(missing \)",
        ),
        ({"default": {"redact": [{"pattern": "a"}]}}, r"default\.redact\[0\]: a pattern needs a name"),
        ({"default": {"redact": [{"name": "a"}]}}, r"redact\[0\]: a kind or a pattern is allowed, and one is needed"),
        ({"default": {"redact": ["email", "email"]}}, r"default\.redact: the name 'email' stands twice"),
        (
            {"default": {"redact": [{"kind": "phone", "region": "UK"}]}},
            r"default\.redact\[0\]: region 'UK' was read; two capital letters of ISO 3166, such as US or GB, are",
        ),
        (
            {"default": {"keep": True}},
            r"default\.keep: True was read; a duration with its unit, such as 30d, is allowed",
        ),
        ({"default": {"keep": 30}}, r"default\.keep: 30 was read; a duration with its unit"),
        ({"default": {"keep": "30"}}, r"default\.keep: '30' was read; a duration with its unit"),
        ({"default": {"keep_recordings": 0.5}}, r"default\.keep_recordings: 0\.5 was read; a duration with its unit"),
        ({"default": {"redact": [{"kind": "email", "region": "US"}]}}, "a region is of kind phone alone"),
        ({"default": {"keep": "soon"}}, r"default\.keep: a duration such as .* 30d is allowed"),
        ({"default": {"keep": "0d"}}, r"default\.keep: a duration above 0, such as 30d, is allowed"),
        ({"default": {"keep": "1d", "keep_recordings": "2d"}}, "keep_recordings: it is longer than keep"),
        ({"defaults": {}}, "defaults: there is no such setting"),
        ({"default": {"record": "perhaps"}}, r"default\.record: 'perhaps' was read"),
        (
            {"tenants": {"acme": {"redact": None}}},
            r"tenants\.acme\.redact: None was read: Input should be a valid list",
        ),
        (
            {"tenants": {"acme": {"record": None}}},
            r"tenants\.acme\.record: None was read: Input should be a valid bool",
        ),
        (["email"], "the file: "),
        ([], "the file: "),
        (False, "the file: "),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_file_and_the_place(tmp_path: Path, content: Any, told: str) -> None:
    file = written(tmp_path, json.dumps(content))
    with pytest.raises(SettingsError, match=told) as refused:
        read_policies(file)
    assert str(refused.value).startswith(f"VOICEBUS_PRIVACY_FILE: {str(file)!r} was read, but ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "default: {keep: 2026-13-45}",
        "default: {keep: !!timestamp soon}",
        "[" * 5_000,
        "default: {keep: 90d}\ndefault: {redact: [email]}",
        "tenants:\n  acme: {keep: 1d}\n  acme: {record: false}",
    ],
)
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="neither YAML nor JSON"):
        read_policies(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_policies(tmp_path / "none.yaml")
