"""Numbers as people say and recognisers write them: the single home of reading quantities, money and spelled-out
codes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from voicebus_services.model_simulator.brain.tokens import Token, stemmed_words, words

_UNITS: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
_SCALES: Final = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ORDINALS: Final = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
}  # fmt: skip
_VAGUE: Final = {"couple": 2, "pair": 2, "dozen": 12, "once": 1, "twice": 2}
CURRENCIES: Final = {
    "dollar": "USD", "buck": "USD", "usd": "USD", "$": "USD", "euro": "EUR", "eur": "EUR", "€": "EUR", "pound": "GBP",
    "gbp": "GBP", "£": "GBP", "sterling": "GBP", "quid": "GBP", "yen": "JPY", "jpy": "JPY", "¥": "JPY", "franc": "CHF",
    "chf": "CHF", "rupee": "INR", "inr": "INR", "yuan": "CNY", "renminbi": "CNY", "cny": "CNY", "peso": "MXN",
    "mxn": "MXN", "krona": "SEK", "sek": "SEK", "krone": "NOK", "nok": "NOK", "dkk": "DKK", "real": "BRL", "brl": "BRL",
    "won": "KRW", "krw": "KRW", "zloty": "PLN", "pln": "PLN", "rand": "ZAR", "zar": "ZAR", "lira": "TRY",
    "cad": "CAD", "aud": "AUD", "nzd": "NZD", "bitcoin": "BTC", "btc": "BTC",
}  # fmt: skip
_DEMONYMS: Final = {
    ("canadian", "dollar"): "CAD", ("australian", "dollar"): "AUD", ("singapore", "dollar"): "SGD",
    ("hong kong", "dollar"): "HKD", ("swiss", "franc"): "CHF", ("swedish", "krona"): "SEK", ("danish", "krone"): "DKK",
    ("norwegian", "krone"): "NOK", ("british", "pound"): "GBP", ("japanese", "yen"): "JPY", ("us", "dollar"): "USD",
    ("american", "dollar"): "USD", ("mexican", "peso"): "MXN", ("indian", "rupee"): "INR",
}  # fmt: skip
SECONDS_PER: Final = {
    "second": 1, "sec": 1, "minut": 60, "min": 60, "hour": 3600, "hr": 3600, "day": 86_400, "week": 604_800,
    "month": 2_592_000, "year": 31_536_000, "night": 86_400, "fortnight": 1_209_600,
}  # fmt: skip
_QUARTERED: Final = stemmed_words("liter litre mile pound hour kilo kilometer gallon cup")
_NO_UNITS: Final = words(
    """to and on at in for from by with or is are please until till than as into am pm a p the my then so of per
    before after during over under between around about since because when while if but not too also again now that
    which was were this each every"""
)
_LITERAL: Final = re.compile(r"^([$€£¥]?)(\d+(?:,\d{3})+|\d+)(?:\.(\d+))?(st|nd|rd|th|%|[a-z]*)$")


@dataclass(frozen=True, slots=True)
class Number:
    """A quantity in the tokens ``first`` to ``last`` (exclusive), with what was said about it.

    Attributes:
        unit: stem of the noun that follows or is attached ("people", "kg"); "" when there is none.
        currency: ISO code where money was named.
        seconds: the length where the unit is one of time.
        literal: the digits as written, for codes such as "007"; "" for number words.
    """

    first: int
    last: int
    value: float
    unit: str = ""
    unit_text: str = ""
    currency: str = ""
    ordinal: bool = False
    percent: bool = False
    seconds: float | None = None
    literal: str = ""

    @property
    def plain(self) -> int | float:
        """The value as JSON writes it: without a fraction where it has none."""
        return int(self.value) if float(self.value).is_integer() else self.value


def currency_code(words: str) -> str:
    """The ISO code of a currency's name, symbol or code; "" for anything else."""
    parts = words.lower().split()
    if not parts:
        return ""
    last = parts[-1].removesuffix("s") if len(parts[-1]) > 3 else parts[-1]
    if (code := _DEMONYMS.get((" ".join(parts[:-1]), last))) is not None:
        return code
    return CURRENCIES.get(last, "") if len(parts) == 1 else ""


def find_numbers(tokens: Sequence[Token]) -> list[Number]:
    """All quantities of an utterance from left to right, not overlapping."""
    found: list[Number] = []
    at = 0
    while at < len(tokens):
        number = _read(tokens, at)
        if number is None:
            at += 1
            continue
        number = _with_unit(tokens, number)
        number = _compound_duration(tokens, found, number)
        found.append(number)
        at = number.last
    return found


def _read(tokens: Sequence[Token], at: int) -> Number | None:
    negative = tokens[at].low in {"minus", "negative"} or (
        tokens[at].text == "-" and at + 1 < len(tokens) and tokens[at + 1].start == tokens[at].end
        and (at == 0 or tokens[at - 1].end < tokens[at].start)
    )  # fmt: skip
    start = at + 1 if negative else at
    if start >= len(tokens):
        return None
    number = _literal(tokens, start) or _words(tokens, start)
    if number is None:
        return None
    if negative:
        return Number(at, number.last, -number.value, literal=number.literal)
    return number


def _literal(tokens: Sequence[Token], at: int) -> Number | None:
    match = _LITERAL.match(tokens[at].low)
    if match is None:
        return None
    symbol, whole, fraction, tail = match.groups()
    value = float(whole.replace(",", "") + (f".{fraction}" if fraction else ""))
    last = at + 1
    if last < len(tokens) and tokens[last].low in _SCALES and not tail:
        value *= _SCALES[tokens[last].low]
        last += 1
    elif tail in {"k", "m"} and symbol:
        value *= {"k": 1_000, "m": 1_000_000}[tail]
        tail = ""
    if not fraction and not tail:
        value, last = _and_a_half(tokens, value, last)
    percent = tail == "%" or (last < len(tokens) and tokens[last].low in {"percent", "%"})
    ordinal = tail in {"st", "nd", "rd", "th"}
    unit = "" if ordinal or tail == "%" else tail
    literal = whole if not fraction and not symbol and last == at + 1 else ""
    return Number(
        at, last, value, unit=_unit_stem(unit), unit_text=unit, currency=CURRENCIES.get(symbol, ""), ordinal=ordinal,
        percent=percent, literal=literal,
    )  # fmt: skip


def _words(tokens: Sequence[Token], at: int) -> Number | None:
    word = tokens[at].low
    if word in _ORDINALS:
        return Number(at, at + 1, _ORDINALS[word], ordinal=True)
    if (quarters := _quarters(tokens, at)) is not None:
        return quarters
    if word == "half" and at + 1 < len(tokens) and tokens[at + 1].low in {"a", "an"}:
        return Number(at, at + 2, 0.5)
    if word == "half" and at + 1 < len(tokens) and tokens[at + 1].stem in _QUARTERED:
        return Number(at, at + 1, 0.5)
    if word in {"a", "an"} and at + 1 < len(tokens):
        return _after_article(tokens, at)
    if word in _VAGUE:
        return Number(at, at + 1, _VAGUE[word])
    total, current, position, seen, ordinal = 0, 0, at, False, False
    previous_was_unit = False
    while position < len(tokens):
        word = tokens[position].low
        if (
            word in _UNITS
            and not previous_was_unit
            and (current % 100 == 0 or (current % 10 == 0 and _UNITS[word] < 10))
        ):
            current += _UNITS[word]
            previous_was_unit = True
        elif word in _TENS and not previous_was_unit and current % 100 == 0:
            current += _TENS[word]
        elif word in _SCALES and seen:
            previous_was_unit = False
            if _SCALES[word] == 100:
                current = max(current, 1) * 100
            else:
                total, current = total + max(current, 1) * _SCALES[word], 0
        elif word in _ORDINALS and seen and current % 10 == 0 and _ORDINALS[word] < 10:
            current, ordinal, position = current + _ORDINALS[word], True, position + 1
            break
        elif word in {"and", "-"} and seen and _continues(tokens, position, current + total):
            position += 1
            continue
        else:
            break
        seen, position = True, position + 1
    if not seen:
        return None
    value: float = total + current
    if position + 1 < len(tokens) and tokens[position].low == "point" and tokens[position + 1].low in _UNITS:
        digits, position = "", position + 1
        while position < len(tokens) and tokens[position].low in _UNITS:
            digits, position = digits + str(_UNITS[tokens[position].low]), position + 1
        return Number(at, position, float(f"{int(value)}.{digits}"))
    value, position = _and_a_half(tokens, value, position)
    return Number(
        at, position, value, ordinal=ordinal, percent=position < len(tokens) and tokens[position].low == "percent"
    )


def _quarters(tokens: Sequence[Token], at: int) -> Number | None:
    """ "A quarter of an hour", "three quarters of an hour"."""
    low = [t.low for t in tokens[at : at + 5]]
    if low[:1] == ["quarter"] and low[1:2] and tokens[at + 1].stem in _QUARTERED:
        return Number(at, at + 1, 0.25)
    if low[1:2] == ["quarter"] and low[0] in {"a", "one"} and low[2:3] and tokens[at + 2].stem in _QUARTERED:
        return Number(at, at + 2, 0.25)
    if low[1:2] == ["quarter"] and low[0] in {"a", "one"}:
        count, rest = 1, 2
    elif low[1:2] == ["quarters"] and low[0] in {"three", "3"}:
        count, rest = 3, 2
    else:
        return None
    return Number(at, at + rest + 2, count / 4) if low[rest : rest + 2] in (["of", "an"], ["of", "a"]) else None


def _after_article(tokens: Sequence[Token], at: int) -> Number | None:
    """ "a hundred", "a dozen", "a couple of", and "an hour" as one hour."""
    following = tokens[at + 1].low
    if following in _SCALES:
        rest = _words(tokens, at + 2) if at + 3 < len(tokens) and tokens[at + 2].low == "and" else None
        return (
            Number(at, rest.last, _SCALES[following] + rest.value) if rest else Number(at, at + 2, _SCALES[following])
        )
    if following in _VAGUE:
        return Number(at, at + 2, _VAGUE[following])
    if tokens[at + 1].stem in SECONDS_PER and at and tokens[at - 1].low == "for":
        return Number(at, at + 1, 1)  # "for a day" is a length, "a day off" is none
    if tokens[at + 1].stem in SECONDS_PER and following not in {"second", "day", "night", "month", "year", "week"}:
        return Number(at, at + 1, 1)
    return None


def _continues(tokens: Sequence[Token], at: int, so_far: int) -> bool:
    """Whether "and" or a hyphen goes on with the same number ("two hundred and five", "twenty-five")."""
    if at + 1 >= len(tokens):
        return False
    following = tokens[at + 1].low
    if tokens[at].low == "-":
        return following in _UNITS or following in _SCALES or following in _ORDINALS
    return so_far >= 100 and so_far % 100 == 0 and (following in _UNITS or following in _TENS)


def _and_a_half(tokens: Sequence[Token], value: float, last: int) -> tuple[float, int]:
    """ "One and a half", "two and a quarter", "one and three quarters"."""
    said = [t.low for t in tokens[last : last + 3]]
    part = {("a", "half"): 0.5, ("a", "quarter"): 0.25, ("three", "quarters"): 0.75, ("one", "half"): 0.5}
    if said[:1] == ["and"] and tuple(said[1:]) in part:
        return value + part[said[1], said[2]], last + 3
    return value, last


def _unit_stem(unit: str) -> str:
    return {"h": "hour", "s": "second", "mins": "minut", "hrs": "hour", "secs": "second"}.get(unit, unit)


def _with_unit(tokens: Sequence[Token], number: Number) -> Number:
    """The same number with the noun after it, its currency and its length in time."""
    unit, unit_text, last, currency = number.unit, number.unit_text, number.last, number.currency
    if not unit and last < len(tokens):
        skip = 1 if tokens[last].text == "-" and last + 1 < len(tokens) else 0
        skip += 1 if last + skip + 1 < len(tokens) and tokens[last + skip].low == "of" else 0
        following = tokens[last + skip]
        pair = f"{following.low} {tokens[last + skip + 1].low}" if last + skip + 1 < len(tokens) else ""
        # "systolic 118 diastolic 76": what another number follows is the name of that one, no unit.
        names_next = last + skip + 1 < len(tokens) and tokens[last + skip + 1].low[0].isdigit() and not skip
        names_next = names_next and not currency_code(following.low) and following.stem not in {"meter", "metr", "foot"}
        if following.is_word and not names_next and following.low.isalpha() and following.low not in _NO_UNITS:
            unit, unit_text = _unit_stem(following.stem), following.text
            if not currency and (code := currency_code(pair)):
                currency, last, unit_text = code, last + skip + 2, pair
            elif not currency and (code := currency_code(following.low)):
                currency, last = code, last + skip + 1
                number, last = _with_cents(tokens, number, last)
            elif (measured := _with_fraction(tokens, number, unit, last + skip + 1)) is not None:
                number, last = measured
            elif unit in SECONDS_PER or following.low in {"percent", "degree", "degrees"}:
                last += skip + 1
        elif following.text == "%":
            last += 1
    seconds = number.value * SECONDS_PER[unit] if unit in SECONDS_PER and not number.ordinal else None
    if seconds is not None and [t.low for t in tokens[last : last + 3]] == ["and", "a", "half"]:
        seconds, last = seconds + SECONDS_PER[unit] / 2, last + 3
    if seconds is not None and number.value != seconds / SECONDS_PER[unit]:
        number = Number(number.first, last, seconds / SECONDS_PER[unit])
    return Number(
        number.first, last, number.value, unit=unit, unit_text=unit_text, currency=currency, ordinal=number.ordinal,
        percent=number.percent, seconds=seconds, literal=number.literal,
    )  # fmt: skip


def _with_cents(tokens: Sequence[Token], number: Number, last: int) -> tuple[Number, int]:
    """ "Eighteen pounds fifty", "12 dollars and 30 cents"."""
    start = last + 1 if last < len(tokens) and tokens[last].low == "and" else last
    cents = (_literal(tokens, start) or _words(tokens, start)) if start < len(tokens) else None
    if cents is None or not 0 < cents.value < 100 or not float(number.value).is_integer() or cents.ordinal:
        return number, last
    named = cents.last < len(tokens) and tokens[cents.last].stem in {"cent", "penny", "pence"}
    bare = start == last and cents.value >= 10 and (cents.last >= len(tokens) or not tokens[cents.last].low.isalpha()
                                                   or tokens[cents.last].low in _NO_UNITS)  # fmt: skip
    if not named and not bare:
        return number, last
    return replace(number, value=number.value + cents.value / 100, literal=""), cents.last + (1 if named else 0)


def _with_fraction(tokens: Sequence[Token], number: Number, unit: str, at: int) -> tuple[Number, int] | None:
    """ "One meter eighty", "5 feet 11": the height and the place after it; None for anything else."""
    parts = {"meter": 100, "metr": 100, "foot": 12}.get(unit)
    if parts is None or at >= len(tokens) or not float(number.value).is_integer():
        return None
    rest = _literal(tokens, at) or _words(tokens, at)
    if rest is None or not 0 < rest.value < parts or rest.ordinal or rest.currency:
        return None
    last = rest.last
    if last < len(tokens) and tokens[last].stem in {"inch", "centimeter", "centimetr", "cm"}:
        last += 1
    elif last < len(tokens) and tokens[last].low.isalpha() and tokens[last].low not in _NO_UNITS | {"tall"}:
        return None
    return replace(number, value=number.value + rest.value / parts, literal=""), last


def _compound_duration(tokens: Sequence[Token], found: list[Number], number: Number) -> Number:
    """ "one hour and thirty minutes" is one length of time."""
    if not found or number.seconds is None or found[-1].seconds is None:
        return number
    before = found[-1]
    between = [t.low for t in tokens[before.last : number.first]]
    if between not in ([], ["and"], [","]) or SECONDS_PER[before.unit] <= SECONDS_PER[number.unit]:
        return number
    found.pop()
    seconds = (before.seconds or 0.0) + number.seconds
    return Number(
        before.first, number.last, seconds / SECONDS_PER[number.unit], unit=number.unit, unit_text=number.unit_text,
        seconds=seconds,
    )  # fmt: skip


def spelled_digit(token: Token) -> str:
    """The digit or letter that a token spells in a code ("three" -> "3", "B" -> "B"); "" for other tokens."""
    if token.low in {"oh", "o"}:
        return "0" if token.low == "oh" else token.text.upper()
    if token.low in _UNITS and _UNITS[token.low] < 10:
        return str(_UNITS[token.low])
    if token.low.isdigit() or (len(token.low) == 1 and token.low.isalpha()):
        return token.text.upper()
    return ""
