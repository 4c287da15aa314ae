"""Words: the single home of tokenising, stemming and splitting identifiers. Knows nothing of tools or schemas."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_WORD: Final = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"  # e-mail
    r"|(?:https?://|www\.)\S+"
    r"|[$€£¥]?\d+(?:[.,:]\d+)*(?:[a-z]+|%)?"  # numbers, prices, times, 20kg, 3rd
    r"|[^\W\d_]+(?:['\u2019][^\W\d_]+)*(?:\d[\w]*)?"
    r"|[^\w\s]",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_CONTRACTIONS: Final = {
    "i'd": "i would", "i'll": "i will", "i'm": "i am", "i've": "i have", "what's": "what is", "where's": "where is",
    "who's": "who is", "when's": "when is", "how's": "how is", "it's": "it is", "that's": "that is",
    "there's": "there is",
    "let's": "let us", "don't": "do not", "doesn't": "does not", "didn't": "did not", "can't": "can not",
    "cannot": "can not", "won't": "will not", "isn't": "is not", "aren't": "are not", "couldn't": "could not",
    "wouldn't": "would not", "shouldn't": "should not", "haven't": "have not", "we're": "we are", "we'd": "we would",
    "we'll": "we will", "you're": "you are", "they're": "they are", "gonna": "going to", "wanna": "want to",
    "gotta": "got to", "gimme": "give me", "lemme": "let me",
}  # fmt: skip
_PLAIN: Final = {
    "\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": ", ", "\u2026": ".",
}  # fmt: skip
_JOINT: Final = "\u00a0"
_CONTRACTED: Final = {spelled: short for short, spelled in reversed(_CONTRACTIONS.items())}
_CONTRACTIONS.update({short: spelled.replace(" ", _JOINT, 1) for short, spelled in _CONTRACTIONS.items()})
_IRREGULAR: Final = {
    "bought": "buy", "sold": "sell", "paid": "pay", "sent": "send", "told": "tell", "went": "go", "gone": "go",
    "left": "leave", "lost": "lose", "found": "find", "made": "make", "got": "get", "took": "take", "taken": "take",
    "spent": "spend", "flew": "fly", "flown": "fly", "broke": "break", "broken": "break", "forgot": "forget",
    "forgotten": "forget", "woke": "wake", "wrote": "write", "written": "write", "said": "say", "gave": "give",
    "given": "give", "children": "child", "people": "people", "men": "man", "women": "woman", "feet": "foot",
    "ate": "eat", "eaten": "eat", "drank": "drink", "drove": "drive", "driven": "drive", "met": "meet",
    "slept": "sleep",
    "stolen": "steal", "stole": "steal", "hidden": "hide", "chose": "choose", "chosen": "choose", "ran": "run",
    "heard": "hear", "kept": "keep", "knew": "know", "known": "know", "began": "begin", "begun": "begin",
    "dying": "die", "lying": "lie", "leaves": "leave", "news": "news", "series": "series", "lens": "lens",
    "gas": "gas", "bus": "bus", "buses": "bus", "status": "status", "address": "address", "thing": "thing",
    "dr": "doctor", "this": "this", "during": "during", "bring": "bring", "spring": "spring", "string": "string",
    "king": "king",
    "ring": "ring", "sing": "sing", "wing": "wing", "swing": "swing", "evening": "evening", "morning": "morning",
    "anything": "anything", "something": "something", "nothing": "nothing", "everything": "everything",
    "ceiling": "ceiling",
    "building": "building", "always": "always", "red": "red", "bed": "bed", "hundred": "hundred", "wed": "wed",
}  # fmt: skip


def words(literal: str) -> frozenset[str]:
    """The words of a literal, for tables of vocabulary."""
    return frozenset(literal.split())


STOP_WORDS: Final = words(
    """a an the this that these those i me my mine we us our you your yours he him his she her it its they them
    their is am are was were be been being do does did have has had having will would shall should can could may
    might must and or but if so then than as of at by for with about into to from in on off up out over please
    just really very too also again now ok okay well um uh er hmm oh hey hi hello like want wants wanted need
    needs would'd let lets get got go going give make take tell know see there here what which who whom whose
    when where why how much many some any all no not yes yeah yep nope sure thanks thank kindly could'd maybe
    perhaps possible able one thing things something anything everything way one's someone sorry actually
    basically right"""
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word or punctuation mark of an utterance: as written, lower-case, stem, and its place in the text."""

    text: str
    low: str
    stem: str
    start: int
    end: int

    @property
    def is_word(self) -> bool:
        return self.low[0].isalnum() or self.low[0] in "$€£¥"


def clean(text: str) -> str:
    """The utterance with typographic quotes and dashes made plain, contractions spelled out, spaces single.

    The two words of a contraction are joined by a no-break space, so that :func:`as_written` can put it back.
    """
    text = unicodedata.normalize("NFC", text)
    for fancy, plain in _PLAIN.items():
        text = text.replace(fancy, plain)
    text = re.sub(r"\b(Dr|Mr|Mrs|Ms|Prof)\.(?= )", r"\1", " ".join(text.split()))
    return re.sub(
        r"\b[A-Za-z]+'?[a-z]*\b",
        lambda m: _keep_case(m[0], _CONTRACTIONS[m[0].lower()]) if m[0].lower() in _CONTRACTIONS else m[0],
        text,
    )


def as_written(text: str) -> str:
    """Contractions and titles as people write them, after :func:`clean` spelled them out."""
    text = re.sub(r"\b(Dr|Mr|Mrs|Ms|Prof)(?= [A-Z])", r"\1.", text)
    return re.sub(
        rf"\b([A-Za-z]+){_JOINT}(\w+)",
        lambda m: _keep_case(m[1], _CONTRACTED.get(f"{m[1].lower()} {m[2].lower()}", f"{m[1]} {m[2]}")),
        text,
    )


def _keep_case(original: str, replacement: str) -> str:
    return replacement[0].upper() + replacement[1:] if original[0].isupper() else replacement


def tokenise(text: str) -> list[Token]:
    """Words and punctuation marks in order; places refer to ``text`` as given."""
    return [Token(m[0], m[0].lower(), stem(m[0].lower()), m.start(), m.end()) for m in _WORD.finditer(text)]


def stems(text: str) -> list[str]:
    """Stems of the words that carry meaning, in order, stop words left out."""
    return [t.stem for t in tokenise(clean(text)) if t.is_word and t.low not in STOP_WORDS]


def split_name(name: str) -> list[str]:
    """``getOrderStatus``, ``get_order-status`` -> ``["get", "order", "status"]``."""
    return [part.lower() for part in _CAMEL.findall(name)]


def spoken_name(name: str) -> str:
    """An identifier as it is said: ``to_city`` -> ``to city``."""
    return " ".join(split_name(name)) or name


def stemmed_words(literal: str) -> frozenset[str]:
    """The stems of a literal's words."""
    return frozenset(map(stem, literal.split()))


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A light English stem: plural, -ing, -ed and final -e removed. Equal stems mean the same word here."""
    word = word.removesuffix("'s").removesuffix("'")
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    elif len(word) > 3 and word.isalpha():
        word = _strip_verb_ending(_strip_plural(word))
    return word[:-1] if len(word) > 3 and word.endswith("e") and word.isalpha() else word


def _strip_plural(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _strip_verb_ending(word: str) -> str:
    for ending, shortest in (("ing", 6), ("ied", 5), ("ed", 5)):
        if not word.endswith(ending) or len(word) < shortest or word.endswith("eed"):
            continue
        root = word[: -len(ending)]
        if not re.search(r"[aeiouy]", root):
            continue
        if ending == "ied":
            return root + "y"
        if root.endswith("ell") and len(root) > 5:
            return root[:-1]  # cancelled, travelling
        doubled = len(root) > 3 and root[-1] == root[-2] and root[-1] not in "lsz"
        return root[:-1] if doubled else root
    return word
