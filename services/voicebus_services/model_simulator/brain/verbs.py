"""Everyday English as data: which verbs do the same, and which ones are opposites. What words speak of: `concepts`."""

from typing import Final

from voicebus_services.model_simulator.brain.tokens import stem

# Verbs that do the same kind of thing. The class of a request and the class of a tool should agree.
_ACTIONS: Final = {
    "switch": "turn switch toggle power start stop shut enable disable activate deactivate",
    "read": """get show check list find search look lookup fetch read view see tell query retrieve display what how
        when where who which is are do does track calculate convert compare describe explain recommend
        suggest report inform whats""",
    "create": """create add book forget reserve make set schedule order buy purchase place open start register new
        submit request arrange plan log record file save post write note remember remind put insert append
        apply enroll hire raise issue rent""",
    "delete": """cancel delete remove clear drop erase end stop terminate unsubscribe discard undo revoke quit close
        void""",
    "change": """change update modify edit reschedule move adjust rename replace switch set reset extend postpone
        upgrade increase decrease raise lower dim correct shift push delay""",
    "send": "send transfer email message text call notify share forward pay wire deliver dial phone ring",
    "play": "play listen watch resume stream",
    "stop": "stop pause halt mute silence quit",
    "lock": "lock secure block freeze arm",
    "unlock": "unlock unblock unfreeze disarm open",
    "convert": "convert translate exchange change",
}  # fmt: skip

_OPPOSITES: Final = """
on off
open close
open lock
open shut
lock unlock
add remove
add delete
add cancel
create cancel
create delete
book cancel
reserve cancel
order cancel
schedule cancel
make cancel
set cancel
start stop
play stop
play pause
resume pause
increase decrease
raise lower
up down
deposit withdraw
buy sell
arm disarm
enable disable
activate deactivate
block unblock
freeze unfreeze
subscribe unsubscribe
mute unmute
approve reject
accept decline
accept reject
install uninstall
upload download
check-in check-out
arrival departure
arrive depart
push pull
min max
minimum maximum
follow unfollow
connect disconnect
borrow return
send receive
first last
""".strip()


_ACTION_OF: Final = {
    verb: frozenset(kind for kind, words in _ACTIONS.items() if verb in {stem(w) for w in words.split()})
    for words in _ACTIONS.values()
    for verb in map(stem, words.split())
}
_OPPOSITE_PAIRS: Final = frozenset(
    frozenset((stem(left), stem(right))) for left, right in (line.split() for line in _OPPOSITES.splitlines())
)


def opposite(left: str, right: str) -> bool:
    """Whether two stems exclude each other, as "lock" and "unlock"."""
    return frozenset((left, right)) in _OPPOSITE_PAIRS


def actions(word: str) -> frozenset[str]:
    """The classes of what a verb's stem does; empty for other words."""
    return _ACTION_OF.get(word, frozenset())
