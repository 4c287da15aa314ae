"""Guardrail functions that are ready to use, each a few lines on top of a library (`pip install voicebus[guardrails]`).

They judge what agents say as well as what users say: `OutputGuardrail(forbidden_words("vault"), mode="hold")`,
`InputGuardrail(personal_data())`. None of them loads anything from a network. What they find goes into `output_info` by
its kind and place; personal data and secrets themselves do not, as events and records must not have them either.
"""

import functools
import importlib
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

from voicebus.agents import checking
from voicebus.agents.context import RunContextWrapper
from voicebus.agents.guardrails import GuardrailFunctionOutput, text_is_final
from voicebus.detection import INVISIBLE, KINDS, Usual, compiled, detector, secret_detectors
from voicebus.engine.window import goes_on
from voicebus.errors import UserError

Rule = Callable[[RunContextWrapper[Any], Any, str], GuardrailFunctionOutput]
AsyncRule = Callable[[RunContextWrapper[Any], Any, str], Awaitable[GuardrailFunctionOutput]]

PersonalData = Literal["email", "phone", "card", "iban", "ssn", "ip"]

# Of a language's guess in less text than that nothing is to be held (characters).
_LEAST_TEXT: Final = 20
# A line of instructions that is shorter is said by anybody (characters).
_LEAST_LINE: Final = 20
# Signs at which a word may begin or end in the midst of others: no space is between words, or before an ending.
_UNSPACED: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
# Between words of all others, which may stand in the midst of those as well.
_BEHIND_FOR_SURE: Final = rf"(?:[^\pL\pN_]|{_UNSPACED})"
_BEFORE, _BEHIND = rf"(?:^|{_BEHIND_FOR_SURE})", rf"(?:$|{_BEHIND_FOR_SURE})"


def forbidden_words(*words: str) -> AsyncRule:
    """Trips over any of `words`, or of phrases, as whole words, in capitals or not. Scripts that put no space between
    words (Chinese, Japanese, Thai, …), or none before endings (Korean), have no whole words: anywhere, there.

    The last word of what was said so far is judged once it has come to its end: with the sign behind it, or with the
    answer.

    Raises:
        UserError: no words, or one that is empty.
    """
    if not words or not all(isinstance(word, str) and _folded(word).strip() for word in words):
        raise UserError(f"forbidden_words needs words, each a non-empty string, not {words!r}")
    re2 = _library("re2")
    found, ended = (
        _compiled("|".join(_phrase(_folded(word).split(), re2.escape, behind) for word in words))
        for behind in (_BEHIND, _BEHIND_FOR_SURE)
    )

    async def forbidden_words(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        goes_on_maybe = not text_is_final.get() and goes_on(text[-1:])
        match = (ended if goes_on_maybe else found).search(_folded(text))
        word = None if match is None else next(filter(None, match.groups()))
        return GuardrailFunctionOutput(None if word is None else {"word": word}, match is not None)

    return forbidden_words


def forbidden_patterns(*patterns: str) -> AsyncRule:
    """Trips over a match of any of `patterns`: regular expressions of RE2, whose time grows with the text alone.

    RE2 has no look-around and no back-references; `(?i)` ignores case.

    Raises:
        UserError: no patterns, or one that RE2 does not take.
    """
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(f"forbidden_patterns needs patterns, each a string, not {patterns!r}")
    compiled = [(pattern, _compiled(pattern)) for pattern in patterns]

    async def forbidden_patterns(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        plain = _plain(text)
        found = next((pattern for pattern, one in compiled if one.search(plain)), None)
        return GuardrailFunctionOutput(None if found is None else {"pattern": found}, found is not None)

    return forbidden_patterns


def personal_data(
    kinds: Iterable[PersonalData] = ("email", "phone", "card", "iban", "ssn", "ip"), *, region: str | None = None
) -> Rule:
    """Trips over personal data of these `kinds`: card numbers and IBANs by their check digits, phone numbers as they
    are dialled (`region`, such as "US", has national ones found, too; without it only those with `+`).

    Raises:
        UserError: a kind or a region that does not exist.
    """
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        checking.refuse("personal_data", "kinds", "a list of kinds", kinds)
    checking.text("personal_data", "region", region, optional=True, empty=False)
    wanted = tuple(kinds)
    if not wanted or (unknown := [kind for kind in wanted if kind not in KINDS]):
        known = ", ".join(KINDS)
        raise UserError(f"personal_data: kinds must be some of {known}, not {unknown if wanted else wanted}")
    try:
        with _libraries():
            detectors = {kind: detector(kind, region=region) for kind in wanted}
    except ValueError as error:
        raise UserError(f"personal_data: {error}") from error

    def personal_data(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        usual = Usual(text)
        found = [
            {"kind": kind, "at": place.start}
            for kind, detect in detectors.items()
            for place in usual.within(detect(usual.text))
        ]
        return GuardrailFunctionOutput(found or None, bool(found))

    return personal_data


def leaked_secrets() -> Rule:
    """Trips over keys and tokens of known services, JSON web tokens and private keys (detect-secrets)."""
    with _libraries():
        detectors = secret_detectors()

    def leaked_secrets(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        found = [kind for kind, detect in detectors.items() if any(True for _ in detect(text))]
        return GuardrailFunctionOutput(found or None, bool(found))

    return leaked_secrets


def only_languages(*languages: str, confidence: float = 0.9) -> Rule:
    """Trips over text in any other language than `languages` (ISO 639-1, such as "en"), where it is as sure as
    `confidence` (0 to 1) that it is none of these, whichever other it is. Words of less than 20 characters together say
    too little, and numbers say nothing.

    Raises:
        UserError: no language, or one that is not known; or a confidence beyond 0 to 1.
    """
    checking.number("only_languages", "confidence", confidence, most=1)
    known = set(_identifier().labels)
    if not languages or (unknown := [one for one in languages if one not in known]):
        raise UserError(f"only_languages needs languages such as 'en' and 'de', not {unknown if languages else ()}")

    def only_languages(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        words = " ".join(word for word in text.split() if any(map(str.isalpha, word)))
        if len(words) < _LEAST_TEXT:
            return GuardrailFunctionOutput(None, tripwire_triggered=False)
        ranked = [(str(language), float(sure)) for language, sure in _identifier().rank(words)]
        language, sure = ranked[0]
        # Sister languages share what is sure of them all.
        other = 1 - sum(share for name, share in ranked if name in languages)
        info = {"language": language, "confidence": round(sure, 3)}
        return GuardrailFunctionOutput(info, tripwire_triggered=language not in languages and other >= confidence)

    return only_languages


def prompt_leak(*protected: str, likeness: float = 85.0) -> Rule:
    """Trips where a line of the agent's instructions is said, word for word or nearly (`likeness` in percent).

    `protected` are texts to keep instead; they are needed for agents whose instructions are a function. Lines and
    sentences of less than 20 characters are said by anybody, and do not count.

    Raises:
        UserError: a text that is none, or a likeness beyond 0 to 100.
    """
    checking.texts("prompt_leak", "protected", protected)
    checking.number("prompt_leak", "likeness", likeness, most=100)
    fuzz = _library("rapidfuzz.fuzz")

    def prompt_leak(context: RunContextWrapper[Any], agent: Any, text: str) -> GuardrailFunctionOutput:
        instructions = getattr(agent, "instructions", None)
        texts = protected or ((instructions,) if isinstance(instructions, str) else ())
        said = _plain(text).casefold()
        for line in _lines(texts):
            if len(said) >= len(line) * likeness / 100:
                like = fuzz.partial_ratio(line, said, score_cutoff=likeness)
                if like:
                    return GuardrailFunctionOutput({"likeness": round(like)}, tripwire_triggered=True)
        return GuardrailFunctionOutput(None, tripwire_triggered=False)

    return prompt_leak


def _lines(texts: tuple[str, ...]) -> Iterator[str]:
    for text in texts:
        for sentence in _plain(text).casefold().replace(". ", "\n").splitlines():
            line = sentence.strip()
            if len(line) >= _LEAST_LINE:
                yield line


def _plain(text: str) -> str:
    """`text` in its usual signs, so that a word is found however it is written."""
    return unicodedata.normalize("NFKC", text).translate(INVISIBLE)


def _folded(text: str) -> str:
    """`text` in its usual signs, in capitals or not: a capital may be written in two ("STRASSE")."""
    return unicodedata.normalize("NFKC", _plain(text).casefold())


def _phrase(words: Sequence[str], escape: Callable[[str], str], behind: str) -> str:
    """What finds these words one behind the other, as a group."""
    begins, ends = (_compiled(_UNSPACED).fullmatch(sign) for sign in (words[0][0], words[-1][-1]))
    phrase = r"\s+".join(map(escape, words))
    return f"{'' if begins else _BEFORE}({phrase}){'' if ends else behind}"


def _compiled(pattern: str) -> Any:
    """Raises `UserError` for what RE2 does not take."""
    try:
        with _libraries():
            return compiled(pattern)
    except ValueError as error:
        raise UserError(f"forbidden_patterns: {pattern!r} is no regular expression of RE2: {error}") from error


@functools.cache
def _identifier() -> Any:
    """The languages' model, which takes its time to load."""
    langid = _library("py3langid.langid")
    return langid.LanguageIdentifier.from_modelpath(langid.MODEL_DIR / langid.MODEL_FILE, norm_probs=True)


def _library(name: str) -> Any:
    with _libraries():
        return importlib.import_module(name)


@contextmanager
def _libraries() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        name = (error.name or "a library").split(".")[0]
        raise UserError(f"this guardrail needs {name}: pip install 'voicebus[guardrails]'") from error
