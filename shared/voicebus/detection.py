"""Where personal data and secrets stand in a text: what guardrails trip over, and what the archive is spared.

Needs google-re2, phonenumbers and detect-secrets (`voicebus[guardrails]` or `voicebus[privacy]`); what a kind needs is
imported when it is asked for, and an `ImportError` names it then. Nothing is loaded from a network.
"""

import functools
import importlib
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

KINDS: Final = ("email", "phone", "card", "iban", "ssn", "ip")
SECRETS: Final = "secrets"

Detector = Callable[[str], Iterator["Place"]]
"""Tells every place in a text."""

# Signs that show nothing and would only keep a word from being found: Unicode's Default_Ignorable_Code_Point.
_IGNORABLE: Final = (
    "00ad 034f 061c 115f-1160 17b4-17b5 180b-180f 200b-200f 202a-202e 2060-206f 3164 fe00-fe0f feff ffa0 fff0-fff8"
    " 1bca0-1bca3 1d173-1d17a e0000-e0fff"
)
INVISIBLE: Final = {
    code: None
    for first, _, last in (codes.partition("-") for codes in _IGNORABLE.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
}
_DASHES: Final = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")

_EMAIL: Final = r"[\pL\pM\pN._%+'-]+@[\pL\pM\pN-]+(?:\.[\pL\pM\pN-]+)*\.\pL[\pL\pM]+"
_SSN: Final = r"\b(?:\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4})\b"
_IPV4: Final = r"\b\d{1,3}(?:\.\d{1,3}){3}\b"
_IPV6: Final = (
    r"(?i)(?:\b[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){1,6}|:(?::[0-9a-f]{0,4}){0,6}):[0-9a-f]{1,4}(?:\.\d{1,3}){0,3}\b"
)
# Commas and full stops are where the groups of a number were said, as "4111, 1111, 1111, 1111".
_DIGITS: Final = (
    r"\d(?:[ -]?\d){12,}"
    r"|\b\d(?:[ -]?\d){3}(?:[,.] \d(?:[ -]?\d){3}){3}\b"
    r"|\b\d(?:[ -]?\d){3}[,.] \d(?:[ -]?\d){5}[,.] \d(?:[ -]?\d){3,4}\b"
)
_IBAN: Final = r"(?i)\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,}\b"
# detect-secrets tells the first line of a private key, and not the key.
_PRIVATE_KEY: Final = r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)"

# What a text that was cut off may have been about to say: six digits of a number, or a name before an @.
_UNFINISHED_NUMBER: Final = r"\+?(?:[A-Za-z]{2})?\d(?:[ ().-]{0,2}\d){5,}[ ().-]*$"
_UNFINISHED_EMAIL: Final = r"[\pL\pM\pN._%+'-]+@[\pL\pM\pN.-]*$"

_CARD_DIGITS: Final = (13, 19)
# What a number of a payment card begins with.
_CARD_BEGINS: Final = "23456"
_GROUP: Final = re.compile(r"\d+")
# With what stands between its groups.
_IBAN_SIGNS: Final = (15, 34 + 8)
_IBAN_BEGINS: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}")
_IBAN_GROUP: Final = re.compile(r"[A-Za-z0-9]+(?![A-Za-z0-9])")

# Some of the patterns of detect-secrets take the square of a text's length: it gets no more than so much at once
# (characters), of which the next stretch has so much again, so that a secret of that length is whole in one of them.
_STRETCH: Final = 8_192
_AGAIN: Final = 4_096

# Of secrets these are guesses for source code: anything random, any assignment, any address.
_FOR_CODE: Final = frozenset(
    {"Base64 High Entropy String", "Hex High Entropy String", "Secret Keyword", "Public IP (ipv4)"}
)

# Of these detect-secrets tells how they begin: what goes is the whole row of such signs.
_TOLD_IN_PART: Final = {
    "GitHub Token": re.compile(r"[\w-]+"),
    "GitLab Token": re.compile(r"[\w-]+"),
    "JSON Web Token": re.compile(r"[\w.+/=-]+"),
}


_DIGIT_WORDS: Final = {
    "zero": "0", "oh": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9",
}  # fmt: skip
_TIMES: Final = {"double": 2, "triple": 3}
_TOKEN: Final = rf"(?:(?:{'|'.join(_TIMES)}) )?(?:{'|'.join(_DIGIT_WORDS)})"
_SPELLED_WORD: Final = re.compile(rf"(?i)\b(?:{'|'.join((*_TIMES, *_DIGIT_WORDS))})\b")
_SPELLED: Final = re.compile(rf"(?i)\b{_TOKEN}(?:[ ,.-]{{1,2}}{_TOKEN}){{5,}}\b")


class Place(NamedTuple):
    """A stretch of a text, from `start` up to `end`."""

    start: int
    end: int


def detector(kind: str, *, region: str | None = None) -> Detector:
    """What finds one of the `KINDS`: card numbers and IBANs by their check digits, phone numbers as they are dialled
    (`region`, such as "US", has national ones found, too; without it only those with `+`).

    Raises:
        ImportError: the library that it needs is not installed.
        KeyError: no such kind.
        ValueError: no such region, of which no number would ever be found.
    """
    if kind == "phone":
        phones = importlib.import_module("phonenumbers")
        if region is not None and region not in phones.SUPPORTED_REGIONS:
            raise ValueError(
                f"region {region!r} was read; two capital letters of ISO 3166, such as US or GB, are allowed"
            )
        return lambda text: (Place(match.start, match.end) for match in phones.PhoneNumberMatcher(text, region))
    find, pattern = _FINDERS[kind]
    return functools.partial(find, compiled(pattern))


def unfinished(kind: str) -> Detector:
    """What finds, at the end of a text that was cut off, the beginning of one of the `KINDS`.

    Raises:
        ImportError: the library that it needs is not installed.
    """
    return functools.partial(_plainly, compiled(_UNFINISHED_EMAIL if kind == "email" else _UNFINISHED_NUMBER))


def secret_detectors() -> Mapping[str, Callable[[str], Iterator[Place]]]:
    """What finds keys and tokens of known services, JSON web tokens and private keys, by kind (detect-secrets).

    Raises:
        ImportError: the library is not installed.
    """
    known = importlib.import_module("detect_secrets.core.plugins.util").get_mapping_from_secret_type_to_class()
    wanted = {kind: one() for kind, one in sorted(known.items()) if kind not in _FOR_CODE}
    return {kind: _secrets(plugin, _TOLD_IN_PART.get(kind)) for kind, plugin in wanted.items()}


def every_secret() -> Detector:
    """All of `secret_detectors` at once, and of a private key all that belongs to it."""
    detectors = list(secret_detectors().values())
    private_key = compiled(_PRIVATE_KEY)

    def find(text: str) -> Iterator[Place]:
        for match in private_key.finditer(text):
            yield Place(*match.span())
        for detect in detectors:
            yield from detect(text)

    return find


def compiled(pattern: str) -> Any:
    """A regular expression of RE2, whose time grows with the text alone.

    Raises:
        ImportError: google-re2 is not installed.
        ValueError: RE2 does not take it; the text says why.
    """
    re2 = importlib.import_module("re2")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else error
        raise ValueError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from error


class Usual:
    """A text in its usual signs, so that a number is found however it is written or said, and where they stand in it.

    Digits of all scripts, full-width signs, dashes and spaces of all widths become those of ASCII; what shows nothing
    is left out. Six or more digits that are said one after the other in English words become a number.
    """

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._places: Sequence[Place] | None = None
        if not text.isascii():
            signs = [(Place(place, place + 1), usual) for place, sign in enumerate(text) for usual in _usual(sign)]
            self.text = "".join(sign for _, sign in signs)
            self._places = [place for place, _ in signs]
        for said in reversed(list(_SPELLED.finditer(self.text))):
            self._write_digits(*said.span())

    def _write_digits(self, start: int, end: int) -> None:
        """Put the digits of words in their place."""
        places = self._places or [Place(place, place + 1) for place in range(len(self.text))]
        digits: list[tuple[str, Place]] = []
        times, before = 1, Place(0, 0)
        for word in _SPELLED_WORD.finditer(self.text, start, end):
            name = word.group().lower()
            where = Place(places[word.start()].start, places[word.end() - 1].end)
            if name in _TIMES:
                times, before = _TIMES[name], where
                continue
            if times > 1:
                where = Place(before.start, where.end)
            digits += [(_DIGIT_WORDS[name], where)] * times
            times = 1
        self.text = self.text[:start] + "".join(sign for sign, _ in digits) + self.text[end:]
        self._places = [*places[:start], *(place for _, place in digits), *places[end:]]

    def within(self, found: Iterable[Place]) -> Iterator[Place]:
        """The same places in the text as it was written."""
        for start, end in found:
            if start < end:
                places = self._places
                yield Place(start, end) if places is None else Place(places[start].start, places[end - 1].end)


@functools.lru_cache(maxsize=4096)
def _usual(sign: str) -> str:
    if ord(sign) in INVISIBLE:
        return ""
    if sign in _DASHES:
        return "-"
    category = unicodedata.category(sign)
    if category == "Zs":
        return " "
    if category == "Cs":  # half a surrogate pair, which RE2 does not take
        return "?"
    digit = unicodedata.decimal(sign, None)
    return unicodedata.normalize("NFKC", sign) if digit is None else str(digit)


def _plainly(pattern: Any, text: str) -> Iterator[Place]:
    return (Place(*match.span()) for match in pattern.finditer(text))


def _ips(pattern: Any, text: str) -> Iterator[Place]:
    for match in pattern.finditer(text):
        # What is none as a whole may be a time of day, or a word, and an address of IPv4 behind a colon.
        for start in (match.start(), match.start() + match.group().rfind(":") + 1):
            if _is_ip(text[start : match.end()]) and not text[max(0, start - 1) : start].isalnum():
                yield Place(start, match.end())
                break


def _is_ip(found: str) -> bool:
    try:
        ipaddress.ip_address(found)
    except ValueError:
        return False
    return True


def _cards(pattern: Any, text: str) -> Iterator[Place]:
    """In a row of groups of digits those that make a card number together: others may stand before and after it."""
    for match in pattern.finditer(text):
        groups = [Place(*group.span()) for group in _GROUP.finditer(text, *match.span())]
        first = 0
        while first < len(groups):
            last, digits = None, ""
            for index in range(first, len(groups)):
                digits += text[slice(*groups[index])]
                if len(digits) > _CARD_DIGITS[1]:
                    break
                if digits[0] not in _CARD_BEGINS:
                    break
                if len(digits) >= _CARD_DIGITS[0] and _luhn(digits):
                    last = index
            if last is None:
                first += 1
            else:
                yield Place(groups[first].start, groups[last].end)
                first = last + 1


def _ibans(pattern: Any, text: str) -> Iterator[Place]:
    """The longest that its check digits allow: words may follow in the same signs."""
    for match in pattern.finditer(text):
        row = match.group()
        position = 0
        while (begins := _IBAN_BEGINS.search(row, position)) is not None:
            start = begins.start()
            ends = [group.end() for group in _IBAN_GROUP.finditer(row, start, start + _IBAN_SIGNS[1])]
            end = next((end for end in reversed(ends) if end - start >= _IBAN_SIGNS[0] and _iban(row[start:end])), None)
            if end is not None:
                yield Place(match.start() + start, match.start() + end)
            position = begins.end() if end is None else end


def _luhn(number: str) -> bool:
    digits = [int(sign) for sign in reversed(number)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def _iban(found: str) -> bool:
    number = found.replace(" ", "").replace("-", "")
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


def _secrets(plugin: Any, row: re.Pattern[str] | None) -> Callable[[str], Iterator[Place]]:
    def find(text: str) -> Iterator[Place]:
        for begins in range(0, max(1, len(text) - _AGAIN), _STRETCH - _AGAIN):
            stretch = text[begins : begins + _STRETCH]
            values = set(plugin.analyze_string(stretch))
            if row is not None and values:
                for match in row.finditer(stretch):
                    if any(True for _ in plugin.analyze_string(match.group())):
                        yield Place(begins + match.start(), begins + match.end())
                continue
            for value in filter(None, values):
                start = stretch.find(value)
                while start >= 0:
                    yield Place(begins + start, begins + start + len(value))
                    start = stretch.find(value, start + len(value))

    return find


_FINDERS: Final[Mapping[str, tuple[Callable[[Any, str], Iterator[Place]], str]]] = {
    "email": (_plainly, _EMAIL),
    "card": (_cards, _DIGITS),
    "iban": (_ibans, _IBAN),
    "ssn": (_plainly, _SSN),
    "ip": (_ips, f"{_IPV4}|{_IPV6}"),
}
