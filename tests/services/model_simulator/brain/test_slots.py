"""Filling arguments, one mechanism at a time, over tools that appear in no table."""

from datetime import date
from typing import Any

import pytest

from voicebus_services.model_simulator.brain.schema import Tool, read_tool
from voicebus_services.model_simulator.brain.slots import arguments, fill
from voicebus_services.model_simulator.brain.utterance import Utterance

MONDAY = date(2026, 11, 23)
STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}


def tool(description: str, required: list[str] | None = None, /, **properties: Any) -> Tool:
    needed = list(properties) if required is None else required
    return read_tool(
        {
            "name": "do_it",
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": needed},
        }
    )


def filled(wanted: Tool, said: str) -> dict[str, Any]:
    return arguments(wanted, fill(wanted, Utterance(said, MONDAY)))


def missing(wanted: Tool, said: str) -> list[str]:
    return [p.name for p in fill(wanted, Utterance(said, MONDAY)).missing]


def one_of(*values: str, description: str = "") -> dict[str, Any]:
    return {"type": "string", "enum": [*values], "description": description}


RETURNED = tool("Return an article.", reason=one_of("damaged", "wrong_size", "not_delivered", "changed_mind"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("The vase has a crack.", "damaged"),
        ("These trousers are too tight.", "wrong_size"),
        ("My parcel never showed up.", "not_delivered"),
        ("I don't want it anymore, sorry.", "changed_mind"),
    ],
)
def test_a_constant_is_chosen_by_what_people_say_for_it(said: str, reason: str) -> None:
    assert filled(RETURNED, said) == {"reason": reason}


def test_a_constant_is_chosen_by_what_the_description_says_of_it() -> None:
    fault = one_of("f1", "f2", description="f1: it squeals while braking; f2: the horn stays silent")
    assert filled(tool("Note a fault.", code=fault), "My car squeals a lot.") == {"code": "f1"}


def test_a_constant_is_chosen_by_a_word_of_the_same_descent() -> None:
    assert filled(tool("Send help.", field=one_of("radiology", "urology")), "I need a radiologist.") == {
        "field": "radiology"
    }


def test_what_is_denied_is_not_chosen() -> None:
    place = tool("Take a place.", seat=one_of("aisle", "window"))
    assert filled(place, "Not the window, please, the aisle.") == {"seat": "aisle"}


def test_what_is_to_be_avoided_is_named_by_its_denial() -> None:
    avoid = {"type": "array", "items": one_of("stairs", "tunnels"), "description": "What to avoid"}
    assert filled(tool("Plan a walk.", avoid=avoid), "Plan a walk without tunnels or stairs.") == {
        "avoid": ["tunnels", "stairs"]
    }


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("Rent a boat with life jackets.", True),
        ("Rent a boat without life jackets.", False),
        ("Rent a boat, there's no need for life jackets.", False),
        ("Rent a boat.", False),
    ],
)
def test_an_extra_is_taken_when_asked_for_and_left_when_denied_or_unsaid(said: str, wanted: bool) -> None:
    jackets = {"type": "boolean", "description": "true if life jackets are wanted, otherwise false"}
    boat = tool("Rent a boat.", life_jackets=jackets)
    assert filled(boat, said) == {"life_jackets": wanted}


def test_yes_and_no_may_stand_for_two_things_of_the_description() -> None:
    gift = tool("Buy it.", home={"type": "boolean", "description": "true for delivery, false for pickup"})
    assert filled(gift, "Deliver it, please.") == {"home": True}
    assert filled(gift, "I'll come and collect it.") == {"home": False}


@pytest.mark.parametrize(("said", "level"), [("halfway", 50), ("completely", 100), ("to 30 percent", 30)])
def test_a_level_is_read_from_words(said: str, level: int) -> None:
    opening = {"type": "integer", "minimum": 0, "maximum": 100, "description": "percent, 0 = shut, 100 = open"}
    assert filled(tool("Move the gate.", position=opening), f"Open the gate {said}.") == {"position": level}


@pytest.mark.parametrize(
    ("name", "said", "value"),
    [
        ("distance_m", "two kilometers", 2000), ("weight_g", "half a kilo", 500), ("length_km", "500 meters", 0.5),
        ("duration_minutes", "an hour and a half", 90), ("duration_minutes", "three quarters of an hour", 45),
        ("height_cm", "one meter eighty", 180), ("price", "12 dollars 50", 12.5),
    ],
)  # fmt: skip
def test_a_measure_is_given_in_the_unit_of_the_parameter(name: str, said: str, value: float) -> None:
    assert filled(tool("Note it.", **{name: {"type": "number"}}), f"It is {said}.") == {name: value}


def test_a_number_counts_the_noun_behind_its_adjectives() -> None:
    order = tool("Order.", chairs=INTEGER, tables=INTEGER)
    assert filled(order, "We need two round wooden tables and eight blue chairs.") == {"chairs": 8, "tables": 2}


def test_the_number_that_is_left_goes_to_the_parameter_that_is_left() -> None:
    drill = tool("Train.", ["sets"], sets=INTEGER, weight_kg={"type": "number"})
    assert filled(drill, "Do 3 sets with 20 kilos.") == {"sets": 3, "weight_kg": 20}


def test_digits_alone_where_the_description_wants_them() -> None:
    phone = {"type": "string", "description": "Phone number, digits only"}
    assert filled(tool("Call.", phone=phone), "Call me at 555-0142.") == {"phone": "5550142"}


def test_letters_stay_where_letters_and_digits_are_wanted() -> None:
    code = {"type": "string", "description": "Code, letters and digits without spaces or dashes"}
    assert filled(tool("Trace it.", code=code), "The code is Q R 7 7 1.") == {"code": "QR771"}


def test_a_name_is_taken_without_the_relation_before_it() -> None:
    assert filled(tool("Invite somebody.", guest=STRING), "Invite my friend Carla.") == {"guest": "Carla"}


def test_first_and_last_name_are_taken_apart() -> None:
    member = tool("Register a member.", first_name=STRING, last_name=STRING)
    assert filled(member, "Register Nina Roth, please.") == {"first_name": "Nina", "last_name": "Roth"}


def test_a_street_and_a_town_are_told_apart() -> None:
    home = tool("Move.", street=STRING, city=STRING)
    assert filled(home, "I live at 9 Lake Avenue in Denver now.") == {"street": "9 Lake Avenue", "city": "Denver"}


def test_search_words_end_where_another_value_begins() -> None:
    shop = tool("Search.", ["query"], query=STRING, max_price={"type": "number", "description": "in dollars"})
    assert filled(shop, "Show me hiking boots under 80 dollars.") == {"query": "hiking boots", "max_price": 80}


def test_a_problem_is_the_clause_that_tells_it() -> None:
    fault = tool("Report a fault.", text={"type": "string", "description": "What is wrong"})
    assert filled(fault, "The door squeaks. Could someone come and look at it?") == {"text": "The door squeaks"}


def test_records_are_read_with_their_numbers_and_prices() -> None:
    line = {"type": "object", "properties": {"what": STRING, "count": INTEGER, "unit_price": {"type": "number"}},
            "required": ["what", "count", "unit_price"]}  # fmt: skip
    bill = tool("Write a bill.", lines={"type": "array", "items": line})
    assert filled(bill, "Bill two lamps at $30 each and one rug at $90.") == {
        "lines": [{"what": "lamps", "count": 2, "unit_price": 30}, {"what": "rug", "count": 1, "unit_price": 90}]
    }


def test_things_in_containers_are_counted_by_these() -> None:
    item = {
        "type": "object",
        "properties": {"product": STRING, "quantity": INTEGER},
        "required": ["product", "quantity"],
    }
    basket = tool("Buy food.", items={"type": "array", "items": item})
    assert filled(basket, "I need two bottles of juice and a loaf of bread.") == {
        "items": [{"product": "juice", "quantity": 2}, {"product": "bread", "quantity": 1}]
    }


def test_costs_are_told_by_their_kind_and_their_number() -> None:
    cost = {"type": "object", "properties": {"kind": one_of("hotel", "taxi"), "amount": {"type": "number"}},
            "required": ["kind", "amount"]}  # fmt: skip
    assert filled(tool("File costs.", costs={"type": "array", "items": cost}), "Hotel 240 euros, taxi 18 euros.") == {
        "costs": [{"kind": "hotel", "amount": 240}, {"kind": "taxi", "amount": 18}]
    }


def test_a_person_a_town_and_a_country_are_told_apart() -> None:
    who = {"type": "object", "properties": {"name": STRING, "city": STRING, "country": STRING},
           "required": ["name", "city", "country"]}  # fmt: skip
    assert filled(tool("Ship a parcel.", recipient=who), "Ship it to Ines Costa in Lisbon, Portugal.") == {
        "recipient": {"name": "Ines Costa", "city": "Lisbon", "country": "Portugal"}
    }


def test_money_beside_its_number_is_no_name() -> None:
    gift = tool("Donate.", charity={"type": "string", "description": "Name of the charity"}, amount={"type": "number"})
    assert missing(gift, "I'd like to donate 20 euros.") == ["charity"]


def test_a_part_of_the_day_only_qualifies_an_hour() -> None:
    visit = tool("Visit.", date={"type": "string", "format": "date"}, time={"type": "string", "format": "time"})
    assert filled(visit, "Tomorrow morning at 9:30.") == {"date": "2026-11-24", "time": "09:30:00"}
    assert filled(visit, "Friday night at 8.") == {"date": "2026-11-27", "time": "20:00:00"}


def test_a_range_of_hours_gives_the_start_and_the_length() -> None:
    hall = tool("Book the hall.", start={"type": "string", "description": "HH:MM"}, duration_minutes=INTEGER)
    assert filled(hall, "The hall from 4 to 5:30 p.m., please.") == {"start": "16:00", "duration_minutes": 90}


def test_two_days_of_one_month_need_its_name_once() -> None:
    stay = tool("Stay.", start_date={"type": "string", "format": "date"}, end_date={"type": "string", "format": "date"})
    assert filled(stay, "From December 4th to the 6th.") == {"start_date": "2026-12-04", "end_date": "2026-12-06"}


def test_a_day_that_something_happened_on_is_no_day_to_come() -> None:
    loss = tool("Report a loss.", date={"type": "string", "format": "date"})
    assert filled(loss, "I lost it on November 20th.") == {"date": "2026-11-20"}


def test_the_default_that_a_description_states_is_taken() -> None:
    children = {"type": "integer", "description": "Number of children, 0 if none mentioned"}
    assert filled(tool("Sell tickets.", adults=INTEGER, children=children), "Three adults, please.") == {
        "adults": 3, "children": 0,
    }  # fmt: skip


def test_units_are_converted_from_the_one_beside_the_number() -> None:
    units = one_of("km", "mile", "kg")
    convert = tool("Convert.", value={"type": "number"}, from_unit=units, to_unit=units)
    assert filled(convert, "How many miles is 42 kilometers?") == {"value": 42, "from_unit": "km", "to_unit": "mile"}


@pytest.mark.parametrize("said", ["I need a flight.", "Book something for me, please.", "I want to travel."])
def test_a_required_value_that_nobody_said_is_missing(said: str) -> None:
    trip = tool("Book a flight.", origin=STRING, destination={"type": "string", "description": "Arrival city"})
    assert missing(trip, said) == ["origin", "destination"]


PUPIL = tool("Note a pupil's score.", pupil={"type": "string", "description": "The pupil's name"}, score=INTEGER)
KENNEL = tool("Book a kennel.", dog={"type": "string", "description": "The dog's name"})


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Maple is home from her walk, book the kennel.", "Maple"),
        ("Rusty hurt his tail on a nail.", "Rusty"),
        ("Bodo's bed is in the kennel.", "Bodo"),
    ],
)
def test_the_subject_of_a_sentence_is_a_name_before_a_noun_behind_it(said: str, name: str) -> None:
    assert filled(KENNEL, said) == {"dog": name}


def test_a_name_is_told_from_the_verb_that_measures_it() -> None:
    assert filled(PUPIL, "Zeynep scores 14.") == {"pupil": "Zeynep", "score": 14}
    assert filled(PUPIL, "Emma Stone deserves 15.") == {"pupil": "Emma Stone", "score": 15}


def test_a_request_at_the_head_of_a_sentence_names_nobody() -> None:
    guest = tool("Invite somebody.", guest={"type": "string", "description": "Name of the guest"})
    assert filled(guest, "Invite Carla on her birthday.") == {"guest": "Carla"}


def test_what_has_changed_for_somebody_is_read_from_the_clause() -> None:
    changes = {"type": "object", "properties": {"phone": {"type": "string", "description": "digits only"},
                                                "town": {"type": "string", "description": "New town"}}}  # fmt: skip
    tenant = tool("Change a tenant's record.", name={"type": "string", "description": "Tenant"}, changes=changes)
    assert filled(tenant, "Nora Blum has moved to Leeds.") == {"name": "Nora Blum", "changes": {"town": "Leeds"}}
    assert filled(tenant, "There's a new number for Oskar, it's 555-0163.") == {
        "name": "Oskar", "changes": {"phone": "5550163"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "muted"),
    [("Silence the chimes.", True), ("No more ringing, please.", True), ("Turn the chimes back on.", False),
     ("Turn the chimes off.", True), ("I want the chimes again.", False), ("Turn quiet mode off.", False)],
)  # fmt: skip
def test_a_mode_that_keeps_something_silent_is_on_when_that_is_off(said: str, muted: bool) -> None:
    on = {"type": "boolean", "description": "True to silence the chimes, false to let them ring"}
    assert filled(tool("Quiet mode of the chimes.", on=on), said) == {"on": muted}


@pytest.mark.parametrize(("said", "again"), [("I'd go there again.", True), ("I wouldn't go there again.", False)])
def test_again_is_an_answer_to_whether_something_is_repeated(said: str, again: bool) -> None:
    assert filled(tool("Rate a tour.", [], go_again={"type": "boolean"}), said) == {"go_again": again}


@pytest.mark.parametrize(
    ("said", "items"),
    [
        ("Stick ribbons in the box.", ["ribbons"]),
        ("I have glue and thick paper lying around.", ["glue", "thick paper"]),
        ("Pack beads, wool and a few buttons.", ["beads", "wool", "buttons"]),
        ("Take beads and wool, nothing that costs much.", ["beads", "wool"]),
    ],
)
def test_only_things_are_items_of_a_list(said: str, items: list[str]) -> None:
    assert filled(tool("Craft box.", items={"type": "array", "items": STRING}), said) == {"items": items}


def test_a_price_without_a_currency_is_one_beside_another_with_it() -> None:
    line = {"type": "object", "properties": {"what": STRING, "count": INTEGER, "unit_price": {"type": "number"}},
            "required": ["what", "count", "unit_price"]}  # fmt: skip
    bill = tool("Write a bill.", lines={"type": "array", "items": line})
    assert filled(bill, "Bill 12 lamps at 45 dollars apiece and two rugs at 150.") == {
        "lines": [{"what": "lamps", "count": 12, "unit_price": 45}, {"what": "rugs", "count": 2, "unit_price": 150}]
    }


@pytest.mark.parametrize(
    ("said", "factor"),
    [("one and a half", 1.5), ("two and a quarter", 2.25), ("one and three quarters", 1.75), ("twice as much", 2)],
)
def test_fractions_belong_to_their_number(said: str, factor: float) -> None:
    scale = tool("Scale it.", factor={"type": "number", "description": "Factor, 1 is unchanged"})
    assert filled(scale, f"Make it {said}.") == {"factor": factor}


def test_a_title_stays_with_the_name() -> None:
    visit = tool("Note a visit.", therapist={"type": "string", "description": "Name of the therapist"})
    assert filled(visit, "I was at the practice of Dr. Stein.") == {"therapist": "Dr. Stein"}


@pytest.mark.parametrize(
    "said", ["How do you say, where is my coat, in Finnish?", "What's Finnish for where is my coat?"]
)
def test_the_frame_of_a_question_is_no_part_of_the_phrase(said: str) -> None:
    look_up = tool("Phrase book.", phrase=STRING, language=one_of("finnish", "danish"))
    assert filled(look_up, said) == {"phrase": "where is my coat", "language": "finnish"}


@pytest.mark.parametrize(
    ("said", "last"), [("Close it this Friday.", "2026-11-27"), ("Close it for three days from Friday.", "2026-11-29")]
)
def test_a_single_day_or_a_number_of_days_gives_the_last_day(said: str, last: str) -> None:
    day = {"type": "string", "format": "date"}
    assert filled(tool("Close a lane.", first_day=day, last_day=day), said) == {
        "first_day": "2026-11-27", "last_day": last,
    }  # fmt: skip


def test_a_span_beyond_all_calendars_leaves_the_last_day_open() -> None:
    day = {"type": "string", "format": "date"}
    lane = tool("Close a lane.", first_day=day, last_day=day)
    assert missing(lane, "Close it for 9999999999999 days from Friday.") == ["last_day"]


def test_a_weekend_ends_on_its_sunday() -> None:
    day = {"type": "string", "format": "date"}
    assert filled(tool("Close a lane.", first_day=day, last_day=day), "Close it this weekend.") == {
        "first_day": "2026-11-28", "last_day": "2026-11-29",
    }  # fmt: skip


def test_a_number_behind_a_street_belongs_to_the_address() -> None:
    van = tool("Order a van.", ["pickup"], pickup={"type": "string", "description": "Address"}, helpers=INTEGER)
    assert filled(van, "Pick me up at Cedar Lane 7.") == {"pickup": "Cedar Lane 7"}


def test_a_reading_that_nobody_said_is_missing() -> None:
    gauge = tool("Send a gauge reading.", reading={"type": "integer", "description": "The number on the gauge"})
    assert missing(gauge, "Send my gauge reading.") == ["reading"]


def test_what_a_subject_counts_is_a_thing() -> None:
    owls = tool("Record birds.", species={"type": "string", "description": "Kind of bird"}, count=INTEGER)
    assert filled(owls, "We saw three owls at the mill.") == {"species": "owls", "count": 3}
