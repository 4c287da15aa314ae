"""What of a session is done by workers: calls and checks leave its owner with what they need to know of it."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec.structs import replace

from voicebus.agents.local.work import LocalTools
from voicebus.agents.shared_context import SharedContext
from voicebus.engine.inputs import Input, Trouble
from voicebus.engine.outputs import CancelTool, DispatchCheck, DispatchTool
from voicebus.ports import GuardrailDispatch, SessionRef, ToolDispatch


class Along:
    """What of a session goes to workers with its calls and checks: its context, and its `caller`, tenant and subject.

    `feed` is told where the context cannot go along as it is.
    """

    def __init__(self, shared: SharedContext, caller: tuple[str, str], feed: Callable[[Input], None]) -> None:
        self._shared = shared
        self._feed = feed
        self.caller = caller

    def context(self) -> Mapping[str, Any] | None:
        context, refused = self._shared.outgoing()
        for code, message in refused:
            self._feed(Trouble(code, message, "tool"))
        return context


class RemoteChecks:
    """Implements `GuardrailDispatch` for workers, with what goes to them along."""

    def __init__(self, remote: GuardrailDispatch, along: Along) -> None:
        self._remote = remote
        self._along = along

    def check(self, session: SessionRef, check: DispatchCheck, *, timeout_ms: int) -> str | None:
        told = replace(check, context=self._along.context(), tenant=self._along.caller[0])
        return self._remote.check(session, told, timeout_ms=timeout_ms)


class LocalOrRemote:
    """Implements `ToolDispatch` for an owner that runs some tools itself (those of MCP servers) and has workers run
    the others. `along` is what goes to them with each call.

    `after` has a call of the owner's own started once the session's state, which is fenced, tells of it: one that has
    slept, and is the owner no more, starts none. Calls `in_hand` were sent by a former owner, and are not sent again.
    """

    def __init__(
        self,
        local: LocalTools,
        remote: ToolDispatch,
        along: Along,
        *,
        after: Callable[[SessionRef, Callable[[], None]], None],
        in_hand: Collection[str] = (),
    ) -> None:
        self._local = local
        self._remote = remote
        self._along = along
        self._after = after
        self._in_hand = set(in_hand)
        # Of this owner's own, those that are to start.
        self._starting: set[str] = set()

    def dispatch(self, session: SessionRef, call: DispatchTool) -> None:
        if call.call_id in self._in_hand:
            self._in_hand.discard(call.call_id)
        elif call.local:
            self._starting.add(call.call_id)
            self._after(session, lambda: self._start(session, call))
        else:
            self._remote.dispatch(session, replace(call, context=self._along.context(), caller=self._along.caller))

    def _start(self, session: SessionRef, call: DispatchTool) -> None:
        if call.call_id in self._starting:
            self._starting.discard(call.call_id)
            self._local.dispatch(session, call)

    def cancel(self, session: SessionRef, cancel: CancelTool) -> None:
        if cancel.call_id in self._starting:
            self._starting.discard(cancel.call_id)
            return
        (self._local if self._local.runs(cancel.call_id) else self._remote).cancel(session, cancel)
