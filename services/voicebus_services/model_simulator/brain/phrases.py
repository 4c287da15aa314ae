"""Names and things: the single home of reading string values that are told by their place in the sentence."""

import re
from typing import Final

from voicebus_services.model_simulator.brain.associations import known, similarity
from voicebus_services.model_simulator.brain.candidate import Candidate, side
from voicebus_services.model_simulator.brain.choices import related
from voicebus_services.model_simulator.brain.concepts import same_concept
from voicebus_services.model_simulator.brain.countries import COUNTRIES
from voicebus_services.model_simulator.brain.long_names import corners, extended, long_names, street_numbers
from voicebus_services.model_simulator.brain.schema import Parameter, Tool
from voicebus_services.model_simulator.brain.subjects import subjects, wants_name
from voicebus_services.model_simulator.brain.tokens import STOP_WORDS, split_name, stem, stemmed_words, words
from voicebus_services.model_simulator.brain.utterance import DETERMINERS, PREPOSITIONS, Chunk, Utterance
from voicebus_services.model_simulator.brain.verbs import actions

# Which kinds of value follow which preposition, best first.
_FOLLOWS: Final = {
    "in": ("place", "language", "currency", "color", "category"),
    "at": ("place", "organization", "time"),
    "on": ("thing", "query", "date", "title"),
    "for": ("thing", "place", "person", "query", "title", "text", "organization"),
    "from": ("place", "person", "organization", "thing"),
    "to": ("place", "person", "language", "thing", "title"),
    "into": ("language", "currency", "thing", "place"),
    "with": ("person", "thing", "organization"),
    "by": ("creator", "person"),
    "about": ("query", "text", "title", "thing"),
    "regarding": ("query", "text", "title"),
    "of": ("thing", "place", "organization", "person", "query", "title", "creator"),
    "near": ("place",), "around": ("place",), "inside": ("place",), "outside": ("place",), "through": ("place",),
    "called": ("title", "person", "thing"), "named": ("title", "person", "thing"), "titled": ("title",),
    "labelled": ("title",), "labeled": ("title",), "entitled": ("title",),
    "as": ("thing", "person", "title"), "using": ("thing",), "via": ("thing", "place"), "under": ("person", "thing"),
    "because": ("text",), "saying": ("text",), "without": ("thing",), "against": ("thing",),
}  # fmt: skip
_NAMED_KINDS: Final = frozenset({"place", "person", "creator", "organization"})
_HEADS_KEPT: Final = stemmed_words("""room street park station airport restaurant hotel museum bridge beach""")
_VERBS: Final = stemmed_words(
    "eat drink have take buy see watch read finish play do make lose find visit try order pay"
)
_OWNERS: Final = words("my our the your his her their")
_KIN: Final = stemmed_words(
    """mom mum dad mother father mommy daddy grandma grandpa wife husband brother sister son daughter boss friend uncle
    aunt cousin neighbor doctor dr everybody everyone"""
)
_TOWNS: Final = stemmed_words("city country town county state region")
_ADDRESSES: Final = stemmed_words("street address road pickup dropoff line")
_STREETS: Final = stemmed_words("street avenue road lane drive square boulevard way court place terrace")
_GROUPS: Final = stemmed_words("department team section category group class unit division area floor")
_PREDICATES: Final = words("got has is was wants needs had will should would can and from scored")
_PROPER: Final = stemmed_words("city country town county")
_TALKS: Final = stemmed_words("discuss regarding concerning cover")
_SPEAKER: Final = stemmed_words("owner customer user caller guest patient applicant contact passenger your client")
_BEFORE_INFINITIVES: Final = words("like want love need going able prefer")
_IMPERATIVES: Final = words("stick put throw toss pop chuck drop slap jot place grab stock fetch pack include")
_SUBJECTS: Final = words("i we you he she they just have")
_TITLES: Final = words("""dr doctor mr mrs ms miss professor prof sir saint uncle aunt""")


def phrase_candidates(parameter: Parameter, tool: Tool, said: Utterance, used: frozenset[int]) -> list[Candidate]:
    """Candidates for a string parameter among the noun phrases outside of ``used`` tokens. Best first."""
    found = [c for quote in said.quotes if (c := _quoted(parameter, quote.first, quote.last, quote.value))]
    dated = any(p.kind in {"date", "datetime", "time", "day"} for p in tool.parameters)
    chunks = said.open_chunks if parameter.kind == "title" and not dated else said.chunks
    for chunk in chunks:
        first, last = _trimmed(parameter, tool, said, chunk, used)
        if first < last:
            score = _fit(parameter, tool, said, chunk, first, last)
            first = _with_title(said, first, used)
            if score > 0:
                found.append(Candidate(score, spelled(parameter, said, first, last), first, last))
    if parameter.kind == "place":
        found += corners(said)
        found += [] if _TOWNS & set(parameter.words) else street_numbers(said)
    found += subjects(parameter, said, used)
    if said.tells_names and parameter.kind in {"title", "creator", "query", "place", "thing", "organization"}:
        found += long_names(parameter, said, used, found)
    if parameter.kind == "title":
        found += extended(tool, said, used, found)
    whole = [c for c in found if c.long]
    found = [c for c in found if c.long or not any(w.first <= c.first and c.last <= w.last for w in whole)]
    return sorted(found, key=lambda c: (-round(c.score, 6), c.first, -c.last))


def _with_title(said: Utterance, first: int, used: frozenset[int]) -> int:
    """The start of a name with the title whose point ends the phrase before ("Dr. Klein")."""
    titled = first > 1 and said.low(first - 1) == "." and said.low(first - 2) in _TITLES and first - 2 not in used
    return first - 2 if titled and said.tokens[first].text[0].isupper() else first


def _quoted(parameter: Parameter, first: int, last: int, value: str) -> Candidate | None:
    worth = {"text": 4.0, "title": 4.0, "query": 4.0}.get(parameter.kind, 2.0)
    return Candidate(worth, value, first, last)


def spelled(parameter: Parameter, said: Utterance, first: int, last: int) -> str:
    """The words as the value: names of people and places get their capitals where the transcript lost them."""
    if (
        parameter.kind in {"title", "creator"} and first > 1 and first < last
        and said.tokens[first - 1].text in {"The", "A", "An"} and said.tokens[first].text[0].isupper()
        and said.tokens[first - 2].text not in ".?!"
    ):  # fmt: skip
        first -= 1  # an article with a capital belongs to the title
    text = said.slice(first, last).strip(' ,.?!"')
    if parameter.kind == "person":
        text = text.removesuffix("'s")
    if (
        last < len(said.tokens)
        and said.low(last).isalpha()
        and said.low(last) not in PREPOSITIONS | DETERMINERS | {"and"}
    ):
        text = text.removesuffix("'s")  # "Anna's salary" speaks of Anna, "at Luigi's" of Luigi's
    if (
        parameter.kind in {"place", "person", "creator"}
        and text == text.lower()
        and not said.tells_names
        and text.replace(" ", "").isalpha()
    ):
        relation = said.low(first - 1) in {"my", "the", "our", "a", "an"}
        if not relation:
            return " ".join(w if w in {"of", "the", "de", "la"} else w[:1].upper() + w[1:] for w in text.split(" "))
    if parameter.kind == "language":
        return text[:1].upper() + text[1:]
    return text


def tool_words(tool: Tool) -> frozenset[str]:
    """Stems of the words of a tool's name."""
    return frozenset(stem(w) for w in split_name(tool.name))


def _trimmed(parameter: Parameter, tool: Tool, said: Utterance, chunk: Chunk, used: frozenset[int]) -> tuple[int, int]:
    """The chunk without tokens that are used, verbs of the request, and words that only name the tool or the
    parameter.
    """
    first, last = chunk.first, chunk.last
    if said.low(first - 1) in _SUBJECTS:
        first = next((n.last for n in said.numbers if n.first == first + 1 and n.last < last), first)  # "we saw 3 owls"
    while first < last and first in used:
        first += 1
    while last > first and last - 1 in used:
        last -= 1
    if any(i in used for i in range(first, last)):
        last = next(i for i in range(first, last) if i in used)
    for moment in said.moments:
        # "The Godfather last night": only a moment in small letters is none of a title's words.
        if first < moment.first < last and said.tokens[moment.first].text.islower():
            last = moment.first
    if parameter.kind not in {"title", "query", "place"}:
        counted = (n.first for n in said.numbers if first < n.first < n.last < last and not n.literal)
        last = next(counted, last)  # "give Bello two portions"
    names = tool_words(tool)
    labels = set(parameter.words) - _HEADS_KEPT
    # A title may well end with what the tool is about ("team meeting"), a room does not ("bathroom lamp").
    head = "" if parameter.kind in {"title", "query"} else stem(split_name(tool.name)[-1])
    if any(same_concept(head, word) for word in parameter.words):
        head = ""  # the tool is about what the parameter names: "coffee machine" for an appliance is whole
    place = parameter.kind in {"place", "person", "organization"} and said.tells_names
    while first < last and _drops_at_start(parameter, said, chunk, first, last, names, labels):
        first += 1
    if parameter.kind in {"person", "thing", "title", "organization"}:
        first = _behind_relation(said, first, last)
    while first < last and _drops_at_end(said, first, last, names, labels, head, place=place):
        last -= 1
    return first, last


def _behind_relation(said: Utterance, first: int, last: int) -> int:
    """The start of the name in "my friend Laura", "colleague John Smith"."""
    at = first
    while at < last and said.tokens[at].text[0].islower() and said.low(at) not in _TITLES:
        at += 1
    named = (
        first < at < last
        and len(said.tokens[at].text) > 1
        and all(t.text[0].isupper() for t in said.tokens[at:last] if t.is_word)
    )
    return at if named else first


def _opens_sentence(said: Utterance, at: int) -> bool:
    return at > 0 and said.tokens[at - 1].text in ".?!"


def _drops_at_start(
    parameter: Parameter, said: Utterance, chunk: Chunk, first: int, last: int, names: frozenset[str], labels: set[str]
) -> bool:
    word = said.tokens[first]
    if word.low in _TITLES and first + 1 < last:
        return False
    if not word.is_word or word.low in {"is", "number"}:
        return True
    if word.stem in labels:  # "Hostel Nord" is a whole name
        return not (wants_name(parameter) and _name_goes_on(said, first, last))
    if last - first == 1 and any(related(word.stem, label) for label in labels):
        return True  # "I am allergic to …" for `allergies`
    if _opens_sentence(said, first) and word.low in STOP_WORDS:
        return True
    if word.stem in names:
        return not _name_goes_on(said, first, last)
    if first == chunk.first and last - first > 1 and word.stem in _VERBS and said.low(first - 1) in _SUBJECTS:
        return True  # "I ate eggs"
    if parameter.kind in _NAMED_KINDS and last - first > 1 and any(
        n.last == first and n.unit == word.stem for n in said.numbers
    ):  # fmt: skip
        return True  # "three seats Oslo to Bergen"
    if word.low in {"few", "several"}:
        return True
    if word.low in _IMPERATIVES and first == chunk.first and last - first > 1 and _request_start(said, first):
        return True  # "Stick bananas on the list"
    verb = first == chunk.first and actions(word.stem) and not word.text[0].isupper()
    return bool(verb) and first + 1 < last and _request_start(said, first)


def _drops_at_end(
    said: Utterance, first: int, last: int, names: frozenset[str], labels: set[str], head: str, *, place: bool
) -> bool:
    word = said.tokens[last - 1]
    if not word.is_word or word.low in {"please", "now", "instead", "too", "back"}:
        return True
    if (
        last - first > 1
        and last > 2
        and said.tells_names
        and all(t.text[0].isupper() for t in said.tokens[last - 2 : last])
    ):
        return False  # the last word of a name
    if word.stem in labels or word.stem in names - _HEADS_KEPT:
        return True
    if (
        last - first > 1
        and word.stem not in _HEADS_KEPT
        and word.text.islower()
        and said.tokens[last - 2].text[0].isupper()
        and last > 2
        and place
    ):
        return True  # "the Berlin store": the name ends where the capitals do
    return last - first > 1 and word.stem not in _HEADS_KEPT and same_concept(word.stem, head)


def _name_goes_on(said: Utterance, first: int, last: int) -> bool:
    """Whether a tool word opens a name written with capitals ("Weather Report")."""
    return (
        first > 0
        and last - first > 1
        and said.tokens[first].text[0].isupper()
        and said.tokens[first + 1].text[0].isupper()
    )


def _request_start(said: Utterance, at: int) -> bool:
    return at == 0 or said.low(at - 1) in {"please", "you", "to", "and", ",", "i", "we", "then", "me"}


def _fit(parameter: Parameter, tool: Tool, said: Utterance, chunk: Chunk, first: int, last: int) -> float:
    """How well the phrase fits by its preposition, its neighbours, its meaning and its capitals."""
    score = 0.6
    kind, preposition = parameter.kind, chunk.preposition
    if kind == "language" and preposition not in {"in", "into", "to", "from"}:
        return 0.0
    if said.low(first - 1) in {"what", "which", "how", "whose"}:
        score -= 1.5  # "what time", "which day" ask for a value and are none
    if said.low(first - 1) in {"called", "named", "titled"} and kind in {"title", "person", "thing"}:
        score += 2.0
    if preposition:
        follows = _FOLLOWS.get(preposition, ())
        if kind in follows:
            score += 1.4 - 0.15 * follows.index(kind)
        elif kind != "thing":
            score -= 0.5
        if preposition in parameter.words:
            score += 1.5
        elif parameter.description.lower().rstrip(".").split(",")[0].split()[-1:] == [preposition]:
            score += 0.6  # "What the timer is for"
        chain_start = next(
            c for c in (said.chunks if chunk in said.chunks else said.open_chunks) if c.chain == chunk.chain
        )
        score += side(parameter, said, chain_start.first)
    else:
        if kind in {"thing", "title", "query", "person"}:
            score += 0.5
        if kind == "place" and not chunk.cased:
            score -= 0.3 if parameter.required else 1.0
        if parameter.role in {"from", "to"} and kind == "place":
            score -= 0.3
    # "account savings", "savings account": the parameter's name beside the value.
    labels = set(parameter.words) - {"nam", "id", "typ"}
    if kind in {"place", "thing"} and not chunk.cased and said.tells_names and wants_name(parameter):
        score -= 1.0  # what has a name of its own is written with a capital
    if preposition == "to" and last - first == 1 and said.low(first - 2) in _BEFORE_INFINITIVES:
        score -= 1.5  # "we'd like to sit": a verb
    if preposition == "for" and kind == "place" and _TOWNS & set(parameter.words) and _takes_person(tool):
        score -= 1.5  # "a new number for Kevin" speaks of no town
    before = said.word_before(first)
    if (
        before in labels
        or any(related(before, label) for label in labels)
        or (last < len(said.tokens) and said.stems[last] in labels)
    ):
        score += 1.2
    if said.low(first - 1) == "is" and said.word_before(first - 1) in labels:
        score += 1.5
    words = [said.stems[i] for i in range(first, last) if said.tokens[i].is_word]
    meaning = [w for w in dict.fromkeys((*parameter.words, *parameter.hints[:8])) if len(w) > 2]
    nearest = max((similarity(w, m) for w in words[-2:] for m in meaning), default=0.0)
    if not chunk.cased:  # a name has no meaning to go by
        score += max(0.0, nearest - 0.3) * 1.6
    if any(same_concept(w, m) for w in words[-1:] for m in parameter.words):
        score += 0.5
    if kind in _NAMED_KINDS and not chunk.cased and words and all(
        any(same_concept(w, m) for m in parameter.words) for w in words
    ):  # fmt: skip
        score -= 1.5  # "the town" is no city's name
    if chunk.cased:
        score += 0.6 if kind in _NAMED_KINDS | {"title"} else 0.1
    elif said.tells_names and kind in _NAMED_KINDS and said.low(first - 1) != "my":
        score -= 0.5
    if said.low(last) == "of" and said.low(first - 1).isdigit() | any(n.last == first for n in said.numbers):
        score -= 1.5  # "sixty tablets of aspirin" asks for aspirin
    if kind == "place" and not chunk.cased and said.text[:1].isupper() and _PROPER & set(parameter.words):
        score -= 1.5  # a transcript with capitals writes a city with one
    if any(n.currency and n.first <= first and last <= n.last for n in said.numbers):
        return 0.0  # "20 euros" is money
    if kind == "place" and {"country", "city", "town"} & set(parameter.words):
        country = said.slice(first, last).lower() in COUNTRIES
        wants_country = "country" in parameter.words and "city" not in parameter.hints
        score += 1.2 if country == wants_country and country else -1.2 if country != wants_country else 0.0
    if kind == "place" and preposition == "to" and _PROPER & set(parameter.words) and any(
        p.kind == "person" and p.path[:-1] == parameter.path[:-1] for p in tool.parameters
    ):  # fmt: skip
        score -= 0.8  # what goes "to Ines Costa in Lisbon" goes to the person
    if (
        kind == "thing"
        and any(n.last == first for n in said.numbers)
        and any(p.kind == "count" for p in tool.parameters)
    ):
        score += 1.2  # what is counted
    if kind == "thing" and not (parameter.required or preposition or chunk.cased) and before not in labels:
        score -= 0.5
    if kind == "place":
        street = first in said.house_numbers or (words[-1:] and words[-1] in _STREETS)
        if street and _TOWNS & set(parameter.words):
            score -= 1.5
        elif _ADDRESSES & set(parameter.words):
            towns = any(_TOWNS & set(p.words) for p in tool.parameters if p.path != parameter.path)
            score += 0.8 if street else -1.0 if towns else 0.0
    if len(words) == 1 and said.low(first - 1) in _SUBJECTS - {"just", "have"} and not chunk.cased:
        score -= 1.5  # the verb of "I left my umbrella"
    if words and not chunk.cased and all(
        any(w in p.words for p in tool.parameters if p.path != parameter.path) for w in words
    ):  # fmt: skip
        score -= 1.0  # "episode 12" names no show
    if kind != "person" and not chunk.cased and words and set(words) <= _KIN:
        score -= 1.0  # "my daughter lost …": who did it is no thing
    if preposition == "in" and _GROUPS & set(parameter.words):
        score += 1.0
    opens = first == 0 and (not known(said.stems[0]) or (last == 1 and said.low(1) in _PREDICATES))  # "Omar got ninety"
    plain = not chunk.cased and not opens and said.text[:1].isupper()
    if kind == "person" and plain and said.low(first - 1) not in _OWNERS and not set(words) & _KIN:
        score -= 1.5
    if said.word_before(first) in _TALKS and kind in {"title", "query", "text", "thing"}:
        score += 1.5
    if kind == "person" and said.low(first - 1) == "am" and chunk.cased:
        score += 1.0 if _SPEAKER & set(parameter.words) else 0.0
    if kind in _NAMED_KINDS and not chunk.cased and words and all(
        any(same_concept(w, m) for m in tool_words(tool)) for w in words
    ):  # fmt: skip
        score -= 1.2  # nor are "your shops" a place to a tool that finds stores
    if kind == "creator" and not preposition and said.low(first - 1) in {"some", "any"} and chunk.cased:
        score += 1.2  # "some Taylor Swift"
    if kind == "person" and said.low(first - 1) == "my":
        score += 0.2
    named = _described_words(tool)
    if words and all(w in named for w in words):
        score -= 1.8
    if first == 0 and len(words) == 1 and (actions(words[0]) or said.low(0) in _IMPERATIVES):
        score -= 1.5
    return score


def _takes_person(tool: Tool) -> bool:
    return any(p.kind == "person" for p in tool.parameters)


def _described_words(tool: Tool) -> frozenset[str]:
    return frozenset(stem(w) for w in re.findall(r"[a-z]+", tool.description.lower())) | tool_words(tool)
