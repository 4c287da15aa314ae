"""Turns of phrase that mean more than their words. The single home of them; general English, no tool's words."""

from functools import lru_cache
from typing import Final

from voicebus_services.model_simulator.brain.tokens import stem

# What stands right of the colon counts as said too.
_IDIOMS: Final = """
how do you say: translate language
how would you say: translate language
how do i say: translate language
what does: mean definition
put on: play
turn up: increase volume
turn down: decrease volume
pick me up: ride pickup taxi
pick up: pickup
take me to: ride drive taxi navigate
drive me to: ride taxi
get to: route direction
how do i get: route direction
how far: distance
how long does it take: duration travel
how much is: price cost
how much are: price cost
how much does: price cost
how much do i have: balance account
how much money: balance amount
how warm: weather temperature
how hot: weather temperature
how cold: weather temperature
what time is it: clock time current
what is the time: clock time current
how late is it: clock time current
what day is it: date calendar current
can i get: order buy
i will have: order food
i would like to eat: order food restaurant
do you have: available stock
have you got: available stock
in stock: available stock
do you sell: available stock product
sold out: available stock
wake me: alarm wake
let me know: notify remind
do not let me forget: remind reminder
make sure i: remind
make it: set change
wake me up: alarm wake
what is on: schedule show calendar
how many steps: activity walk
how is my: status check
look up: search find
find out: search find
run out of: shopping buy order refill
low on: order refill buy
get up: alarm wake
stars: rating review
out of five: rating review
out of ten: rating review
put me on: waitlist register
sign me up: register subscribe enroll
are out of: shopping buy order list
log in: login account access password
sign in: login account access password
locked out: password account unlock reset
get rid of: delete remove
call in sick: sick leave absence
day off: leave vacation time-off
days off: leave vacation time-off
off work: leave vacation
time off: leave vacation
get in touch: contact
talk to: contact agent
speak to: contact agent
a ride: taxi ride
go to bed: sleep
work out: exercise workout
went for a run: run workout exercise
not working: broken problem issue support
does not work: broken problem issue support
will not: problem broken issue
can not: problem issue
is down: problem outage issue broken
is broken: problem issue repair
keeps crashing: problem issue crash
send back: return
give back: return
money back: refund
my money: account balance
what is new: news headlines
going on: news events
get married: wedding
make a note: note
write down: note
jot down: note
cheer me up: joke
make me laugh: joke
look for: search find
something to eat: food restaurant recipe
a place to eat: restaurant
a place to stay: hotel accommodation
place to park: parking
lights out: light off
too dark: light bright brightness
too bright: light dim brightness
too cold: heating temperature thermostat heat
too hot: cooling temperature thermostat
too loud: volume sound lower
too quiet: volume sound raise
am cold: heating temperature thermostat
am hungry: food restaurant order
what is playing: movie music song
""".strip()

_IDIOM_WORDS: Final = tuple(
    (f" {' '.join(map(stem, phrase.split()))} ", tuple(stem(word) for word in meaning.split()))
    for phrase, meaning in (line.split(": ") for line in _IDIOMS.splitlines())
)


@lru_cache(maxsize=1024)
def idioms(text: str) -> tuple[str, ...]:
    """Stems of what the turns of phrase in a text (lower case) mean."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    padded = f" {' '.join(map(stem, words))} "
    return tuple(word for phrase, words in _IDIOM_WORDS if phrase in padded for word in words)
