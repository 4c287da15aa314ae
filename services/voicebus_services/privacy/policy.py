"""What a tenant has kept of its conversations, as a file says it: `default`, and `tenants` by name.

What a tenant leaves out is as in `default`; a file that is wrong is refused whole, with the place and what is allowed.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from voicebus.contracts.journal import LOCAL_TENANT, MAX_TENANT_CHARS
from voicebus.detection import KINDS, SECRETS, Detector, Place, compiled, detector, every_secret, unfinished
from voicebus.durations import duration
from voicebus.errors import SettingsError
from voicebus_services.privacy.redaction import Redaction, Rule

PRIVACY_SETTING: Final = "VOICEBUS_PRIVACY_FILE"
MAX_BYTES: Final = 1024 * 1024

_REDACTED: Final = "redact"
"""The group of a pattern that alone is taken out, where there is one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`keep` and `keep_recordings`: how long after its end a session is erased, None for never; `record`: whether
    its calls may be recorded at all.
    """

    redaction: Redaction
    keep: timedelta | None = None
    keep_recordings: timedelta | None = None
    record: bool = True


class Policies:
    """The policy of every tenant."""

    def __init__(self, default: Policy, tenants: Mapping[str, Policy]) -> None:
        self.default = default
        self.tenants = dict(tenants)
        rules = {rule: None for policy in (default, *tenants.values()) for rule in policy.redaction.rules}
        self._all = Redaction(list(rules))

    def of(self, tenant: str | None) -> Policy:
        """A tenant's; None counts as the tenant of one's own machine."""
        return self.tenants.get(tenant or LOCAL_TENANT, self.default)

    def redaction(self, tenant: str | None) -> Redaction:
        """The rules for a record of this tenant; for None, where nobody knows whose it is, all that there are."""
        return self._all if tenant is None else self.of(tenant).redaction

    @property
    def expires(self) -> bool:
        """Whether anything is ever erased."""
        policies = (self.default, *self.tenants.values())
        return any(policy.keep is not None or policy.keep_recordings is not None for policy in policies)


NO_POLICIES: Final = Policies(Policy(Redaction(())), {})
"""Nothing is redacted, and nothing erased."""


def read_policies(path: Path) -> Policies:
    """The policies of a file of YAML or JSON.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong; names the file and the place.
    """
    where = f"{PRIVACY_SETTING}: {str(path)!r}"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise SettingsError(f"{where} has more than {MAX_BYTES} bytes; name a file of privacy rules")
        written = _File.model_validate(_parsed(raw, where))
        default = written.default.policy("default", None)
        tenants = {name: one.policy(f"tenants.{name}", written.default) for name, one in written.tenants.items()}
    except ImportError as error:
        raise SettingsError(f"{where} needs {error.name}: pip install 'voicebus[privacy]'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where} cannot be read ({error}); name a readable file") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(f"{where} was read, but {_place(first['loc'])}: {_problem(first)}") from error
    except _WrongRuleError as error:
        raise SettingsError(f"{where} was read, but {error}") from error
    return Policies(default, tenants)


def _parsed(raw: bytes, where: str) -> object:
    """What a file says, which is nothing where it is empty.

    Raises:
        ImportError: there is nothing to read YAML with.
        SettingsError: it cannot be read as YAML, of which JSON is a part.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses what stands twice, of which YAML keeps the last: a tenant's rules would be gone without a word."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            # Before what is merged into it, whose names it may have itself.
            names = [key.value for key, _ in node.value]
            twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{twice!r} stands twice", node.start_mark)
            return dict(super().construct_mapping(node, deep))

    try:
        read = yaml.load(raw, Loader)  # noqa: S506 - it is a safe one
    except Exception as error:  # a date that is none, an odd tag, too many brackets: each raises something else
        why = " ".join(str(error).split()) or type(error).__name__
        raise SettingsError(f"{where} is neither YAML nor JSON: {why}") from error
    return {} if read is None else read


class _WrongRuleError(Exception):
    """A rule that cannot be; the text names it."""


def _lasting(value: object) -> object:
    # Who writes 30 means days, and would have everything erased that is older than 30 s.
    if isinstance(value, int | float) or (isinstance(value, str) and not value.strip()[-1:].isalpha()):
        raise ValueError(f"{value!r} was read; a duration with its unit, such as 30d, is allowed")
    value = duration(value)
    if isinstance(value, timedelta) and value <= timedelta(0):
        raise ValueError("a duration above 0, such as 30d, is allowed")
    return value


_Kept = Annotated[timedelta | None, BeforeValidator(_lasting)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RuleText(_Strict):
    """As it is written: `email`, or a mapping with a `kind` or a `pattern`."""

    kind: str | None = None
    pattern: str | None = Field(None, min_length=1, max_length=2000)
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    replacement: str | None = Field(None, max_length=200)
    region: str | None = Field(None, pattern=r"^[A-Z]{2}$")

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> "_RuleText":
        if (self.kind is None) == (self.pattern is None):
            raise ValueError("a kind or a pattern is allowed, and one is needed")
        if self.kind is not None and self.kind not in (*KINDS, SECRETS):
            raise ValueError(f"kind {self.kind!r} was read, but {', '.join((*KINDS, SECRETS))} are allowed")
        if self.pattern is not None and self.name is None:
            raise ValueError("a pattern needs a name")
        if self.region is not None and self.kind != "phone":
            raise ValueError("a region is of kind phone alone")
        return self

    def rule(self, place: str) -> Rule:
        name = self.name or str(self.kind)
        replacement = f"[{name}]" if self.replacement is None else self.replacement
        if self.pattern is not None:
            try:
                return Rule(name, _matching(self.pattern), replacement)
            except ValueError as error:
                why = f"{self.pattern!r} is no regular expression of RE2 ({error})"
                raise _WrongRuleError(f"{place}, rule {name!r}: {why}") from error
        if self.kind == SECRETS:
            return Rule(name, _every_secret(), replacement)
        try:
            return Rule(name, _detector(str(self.kind), self.region), replacement, _unfinished(str(self.kind)))
        except ValueError as error:
            raise _WrongRuleError(f"{place}: {error}") from error


class _PolicyText(_Strict):
    # Of these two nothing (`redact:` with all its lines commented out) is no word: it would switch the default's off.
    redact: list[_RuleText] = Field([], max_length=100)
    keep: _Kept = None
    keep_recordings: _Kept = None
    record: bool = True

    def policy(self, place: str, default: "_PolicyText | None") -> Policy:
        given = self if default is None else default.model_copy(update=self._set)
        rules = [rule.rule(f"{place}.redact[{index}]") for index, rule in enumerate(given.redact)]
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise _WrongRuleError(f"{place}.redact: the name {twice!r} stands twice; give one of them another name")
        keep, recordings = given.keep, given.keep_recordings
        if keep is not None and recordings is not None and recordings > keep:
            raise _WrongRuleError(f"{place}.keep_recordings: it is longer than keep, which erases recordings, too")
        return Policy(Redaction(rules), keep, recordings, given.record)

    @property
    def _set(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields_set}


class _File(_Strict):
    default: _PolicyText = _PolicyText()
    tenants: dict[Annotated[str, Field(min_length=1, max_length=MAX_TENANT_CHARS)], _PolicyText] = {}


def _matching(pattern: str) -> Detector:
    expression: Any = compiled(pattern)
    group = int(expression.groupindex.get(_REDACTED, 0))
    return lambda text: (Place(*match.span(group)) for match in expression.finditer(text) if match.start(group) >= 0)


# One for all tenants that name it: what they hold takes its memory.
_every_secret: Final[Callable[[], Detector]] = functools.cache(every_secret)
_unfinished: Final[Callable[[str], Detector]] = functools.cache(unfinished)


@functools.cache
def _detector(kind: str, region: str | None) -> Detector:
    return detector(kind, region=region)


def _place(loc: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".") or "the file"


def _problem(report: Any) -> str:
    match report["type"]:
        case "value_error":
            return str(report["ctx"]["error"])
        case "extra_forbidden":
            return "there is no such setting"
        case _:
            return f"{report['input']!r} was read: {report['msg']}"
