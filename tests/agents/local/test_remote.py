"""Calls that a session's owner runs itself beside those that workers run: when they start, and when never."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from voicebus.agents.local.remote import Along, LocalOrRemote
from voicebus.agents.local.work import LocalTools
from voicebus.engine.outputs import CancelTool, DispatchTool
from voicebus.ports import SessionRef, ToolDispatch

REF = SessionRef("s", 1)


class Tools:
    """A dispatch that remembers; nothing of it runs."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.cancelled: list[str] = []

    def dispatch(self, session: SessionRef, call: DispatchTool) -> None:
        self.sent.append(call.call_id)

    def cancel(self, session: SessionRef, cancel: CancelTool) -> None:
        self.cancelled.append(cancel.call_id)

    def runs(self, call_id: str) -> bool:
        return call_id in self.sent


class Owner:
    """An owner of a session whose state is written when a test says so."""

    def __init__(self, *in_hand: str) -> None:
        self.local, self.remote = Tools(), Tools()
        self.unwritten: list[Callable[[], None]] = []
        along = SimpleNamespace(context=lambda: None, caller=("t", "k"))
        self.tools: ToolDispatch = LocalOrRemote(
            cast("LocalTools", self.local),
            self.remote,
            cast("Along", along),
            after=lambda _, then: self.unwritten.append(then),
            in_hand=in_hand,
        )

    def calls(self, call_id: str, **fields: Any) -> None:
        given = {
            "tool": "t",
            "arguments": "{}",
            "agent": "a",
            "queue": "q",
            "timeout_ms": 1000,
            "idempotent": False,
            **fields,
        }
        self.tools.dispatch(REF, DispatchTool(call_id=call_id, **given))


def test_an_owners_own_call_starts_once_the_sessions_state_tells_of_it() -> None:
    owner = Owner()
    owner.calls("c", local=True)
    assert owner.local.sent == []
    owner.unwritten[0]()
    assert owner.local.sent == ["c"]


def test_an_owner_that_slept_and_is_none_any_more_starts_no_call_of_its_own() -> None:
    owner = Owner()
    owner.calls("c", local=True)  # its state is never written: it is fenced
    assert (owner.local.sent, owner.remote.sent) == ([], [])


def test_a_call_that_is_cancelled_before_it_starts_never_does() -> None:
    owner = Owner()
    owner.calls("c", local=True)
    owner.tools.cancel(REF, CancelTool("c", "q", None, "interrupted"))
    owner.unwritten[0]()
    assert (owner.local.sent, owner.local.cancelled, owner.remote.cancelled) == ([], [], [])


def test_a_call_that_a_worker_has_in_hand_is_not_sent_again_and_can_be_cancelled() -> None:
    owner = Owner("c")
    owner.calls("c")
    owner.calls("d")
    assert owner.remote.sent == ["d"]
    owner.tools.cancel(REF, CancelTool("c", "q", None, "interrupted"))
    assert owner.remote.cancelled == ["c"]
