"""When the next `response.create` may go out, and which response answers it (parity 0.3, 2.4-2.8, 124).

Rules:

1. At most one `response.create` is outstanding: from its sending until the response that it made, or the error that
   refused it, or the limit `create_timeout_ms`. None is sent while a response of the default conversation runs.
2. Automatic creates coalesce with the one that waits last; manual ones (a client's own) keep their place and are
   barriers. Out-of-band creates (`conversation: "none"`) run beside all that and are sent at once.
3. An automatic create that met the server's own response (VAD) is sent again when that one is done. An optional one
   is not: the model went on by itself.
4. One that is never answered is given up; if its response comes after all, it is cancelled by id, and calls that it
   makes before it has ended are not run. So is the second answer to one that was sent twice.
5. Creates are recognised by their mark in `metadata` (which clients never see) and, where refused, by `event_id`.
   A response without our mark started unasked.
6. A running response of which nothing has come for three times `create_timeout_ms`, and whose tools have all answered,
   is given up: cancelled by id and treated as ended, so that it does not block creates for ever.
7. A model of transport EVENTS sequences by itself: creates go to it at once and unmarked, and nothing is watched.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from voicebus.engine import wire
from voicebus.engine.bounds import trim
from voicebus.engine.config import AgentSpec, Transport
from voicebus.engine.offering import offered_tools, own_tools
from voicebus.engine.outbox import Outbox
from voicebus.engine.responding import Responses
from voicebus.engine.responses import Create, Response, follow_up_parameters
from voicebus.engine.view import OWN_METADATA_KEY
from voicebus.engine.waiting import Waiting, continuing

CREATE_TIMER: Final = "create"
RETRY_TIMER: Final = "retry"
ALREADY_ACTIVE: Final = "conversation_already_has_active_response"

# Retries of one create against responses that we do not see; each waits twice as long (s).
_MAX_BLIND_RETRIES: Final = 5
_FIRST_RETRY: Final = 0.25
# Creates that may wait; only a client that ignores the refusals gets there.
_MAX_WAITING: Final = 32
_MAX_METADATA: Final = 16


class Turns:
    """The sequencer. The session tells it what the model says; it sends creates and cancels.

    `responses` are those that there are. `speaking`: the model hears the user speak. `awaited`: it has the user's turn
    and will answer it by itself.
    """

    def __init__(
        self, out: Outbox, timeout: float, agent: Callable[[], AgentSpec], transport: Transport = Transport.WIRE
    ) -> None:
        self._out = out
        self.sequences: bool = transport is Transport.WIRE
        self._timeout = timeout
        self._agent = agent
        self._waiting = Waiting()
        self._outstanding: Create | None = None
        self._apart: dict[str, Create] = {}
        self._given_up: dict[str, Create] = {}
        # Some servers do not echo metadata: known once the first mark came back. Until then an unmarked response may
        # be the answer to our create; `_assumed` is the one that was taken for answered so.
        self._marks_come_back = False
        self._assumed: Create | None = None
        self._backing_off = False
        # Until when the model's provider wants to be left alone, whatever the socket.
        self._rests_until = 0.0
        # Without a socket nothing goes out; creates wait for the next one, those out of band in `_apart_again`.
        self.connected_now: bool = True
        self._apart_again: list[Create] = []
        self.speaking: bool = False
        self.awaited: bool = False
        self.responses: Responses = Responses(out, agent, timeout, watched=self.sequences)
        self.hold_manual: Callable[[], bool] = lambda: False
        self.hold_all: Callable[[], bool] = lambda: False

    @property
    def is_create_pending(self) -> bool:
        """Whether a response was asked for that is not there yet: an unmarked one that runs may be the one."""
        active = self.responses.active
        unmarked = active is not None and active.create is None and not self._marks_come_back
        return bool(self._waiting) or (self._outstanding is not None and not unmarked)

    def is_outstanding_for(self, followed: Response) -> bool:
        """Whether the create that continues `followed` is with the model already."""
        return self._outstanding is not None and self._outstanding.follows is followed

    def will_follow(self, followed: Response) -> bool:
        """Whether the create that continues `followed` waits to be sent."""
        return self._waiting.continues(followed)

    @property
    def is_outstanding(self) -> bool:
        """Whether a create is with the model that has not begun to answer it."""
        return self._outstanding is not None

    @property
    def asked(self) -> list[Create]:
        """The creates that are with the model, which has answered none of them."""
        return [*(() if self._outstanding is None else (self._outstanding,)), *self._apart.values()]

    @property
    def next_manual(self) -> Create | None:
        """The client's own create that waits and will be sent first."""
        return self._waiting.next_manual

    @property
    def awaits_answer(self) -> bool:
        """Whether an answer was asked for, by the user's turn or by a create, and has not begun."""
        if self.responses.active is not None or not self.connected_now:
            return False
        return self.awaited or (self._outstanding is not None and not self._outstanding.withdrawn)

    def is_asked_beside(self, aside: Callable[[Create], bool]) -> bool:
        """Whether an answer was asked for that has not begun; an interlude is none, nor what is asked for `aside`."""
        create = self._outstanding
        asked = [*self._waiting, *(() if create is None or create.withdrawn or create.interlude else (create,))]
        return any(not aside(one) for one in asked)

    def ask(self) -> None:
        """Ask for the answer that the model should have begun by itself, unless one was asked for."""
        awaited, self.awaited = self.awaited, False
        if awaited and self._outstanding is None and not self._waiting:
            self.request(optional=True)
            if self._outstanding is not None:
                self._outstanding.nudge = True

    # --- wishes ---------------------------------------------------------------------------------------

    def request(
        self,
        *,
        follows: Response | None = None,
        commit: str | None = None,
        optional: bool = False,
        instead: Mapping[str, Any] | None = None,
        replaces: int = 0,
    ) -> None:
        """An automatic create: sent when the conversation is idle, one for all that wait together.

        `instead` are the parameters of a response that only says what stands for a forbidden one, `replaces` how many
        forbidden ones in a row it stands for.
        """
        if not self.sequences:
            self._out.send({"type": "response.create"})
            return
        mark = self._out.mint()
        create = Create(mark, mark, optional=optional, response=instead or {}, commit=commit, replaces=replaces)
        if follows is not None:
            continuing(create, follows)
        self._waiting.add(create)
        self.pump()

    def replace(self, stopped: Response) -> bool:
        """Have what is to be said instead of something forbidden continue `stopped`; False where nothing is."""
        asked = [*self._waiting] if self._outstanding is None else [self._outstanding, *self._waiting]
        create = next((one for one in asked if one.replaces and one.follows is None and not one.withdrawn), None)
        if create is None:
            return False
        continuing(create, stopped)
        return True

    def interlude(self, follows: Response, instructions: str) -> None:
        """Have the model say something while the calls of `follows` run; only where nothing is in its way."""
        if not self.is_free:
            return
        parameters = {**follow_up_parameters(follows), "instructions": instructions, "tool_choice": "none"}
        mark = self._out.mint()
        self._outstanding = Create(mark, mark, optional=True, response=parameters, follows=follows, interlude=True)
        self._send(self._outstanding)
        self._out.set_timer(CREATE_TIMER, self._timeout)

    def request_raw(self, event: Mapping[str, Any]) -> bool:
        """The program's own create, under its own event id; False where too many wait already."""
        mark = self._out.mint()
        event_id = wire.text(event, "event_id") or mark
        return self._request_manual(Create(mark, event_id, True, raw=True, response=wire.mapping(event, "response")))

    def request_manual(self, response: Mapping[str, Any], client_event_id: str | None) -> bool:
        """A client's own create; False where too many wait already."""
        mark = self._out.mint()
        own = own_tools(self._agent(), wire.mappings(response, "tools")) if "tools" in response else None
        if response.get("conversation") == "none":
            own = None
        return self._request_manual(
            Create(mark, mark, True, response=response, client_event_id=client_event_id, own_tools=own)
        )

    def _request_manual(self, create: Create) -> bool:
        if max(len(self._waiting), len(self._apart_again)) >= _MAX_WAITING:
            return False
        if not create.out_of_band:
            self._waiting.add(create)
            self.pump()
        elif self.connected_now:
            self._send_apart(create)
        else:
            self._apart_again.append(create)
        return True

    def _send_apart(self, create: Create) -> None:
        self._send(create)
        self._apart[create.id] = create
        trim(self._apart, _MAX_WAITING)

    # --- sockets come and go --------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is said, asked for or waited for, and nobody speaks."""
        idle = self.responses.active is None and self._outstanding is None and not self._waiting and not self._apart
        return idle and not self.speaking and not self.awaited and not self.responses.apart

    @property
    def is_free(self) -> bool:
        """Whether it is quiet and a create could go out now."""
        return self.connected_now and self.is_quiet and not self._backing_off and not self.hold_all()

    def disconnected(self) -> list[Response]:
        """The socket is lost: what was asked for is asked for again on the next one.

        Returns the responses that it has cut off, which their caller ends.
        """
        self.connected_now = self._marks_come_back = False
        create, self._assumed = self._release(), None
        if create is not None and not create.withdrawn and not create.interlude:
            self._waiting.put_first(create)
        self._apart_again += self._apart.values()
        self._apart.clear()
        self._given_up.clear()
        if self._out.now >= self._rests_until:
            self._backing_off = False
            self._out.cancel_timer(RETRY_TIMER)
        running = self.responses.apart
        return running if self.responses.active is None else [*running, self.responses.active]

    def again(self, cut: Response) -> None:
        """Ask for a response that was cut off once more, as it was asked for; to the client it goes on."""
        mark, asked = self._out.mint(), cut.create
        create = Create(mark, mark, follows=cut)
        if asked is not None:
            create.response, create.own_tools, create.raw = asked.response, asked.own_tools, asked.raw
        self._waiting.put_first(create)

    def answered_unseen(self) -> None:
        """The model has answered while nobody was there to hear of it."""
        self.awaited = False
        if self._outstanding is not None and not self._outstanding.manual:
            self._release()

    def connected(self, *, optional: bool = False) -> None:
        """The next socket knows the conversation; `optional`: the model may answer by itself what is awaited."""
        self.connected_now = True
        self.speaking = False
        awaited, self.awaited = self.awaited, False
        apart, self._apart_again = self._apart_again, []
        for create in apart:
            self._send_apart(create)
        if awaited and not self._waiting:
            self.request(optional=optional)
        self.pump()

    def pump(self) -> None:
        """Send the next create if nothing is in its way."""
        first = self._waiting.first
        if first is None or not self.connected_now or self._backing_off:
            return
        if self._outstanding is not None or self.responses.active is not None:
            return
        if self.hold_all() or (first.manual and self.hold_manual()):
            return
        create = self._waiting.take()
        self._outstanding = create
        self._send(create)
        self._out.set_timer(CREATE_TIMER, self._timeout)

    def withdraw(self, followed: Response | None = None) -> None:
        """Take back the follow-up of `followed`, or, without it, the create that is outstanding."""
        if followed is not None:
            self._waiting.drop(lambda create: create.follows is followed)
        elif not self.connected_now:
            self._waiting.drop(lambda create: True)
            self.awaited = False
        if self._outstanding is not None and (followed is None or self._outstanding.follows is followed):
            self._outstanding.withdrawn = True

    def commit_refused(self, event_id: str) -> None:
        """There was nothing to commit, so there is nothing to answer."""
        self._waiting.drop(lambda create: create.commit == event_id)
        if self._outstanding is not None and self._outstanding.commit == event_id:
            self._outstanding.withdrawn = True

    def cancel(self, response: Response, *, event_id: str | None = None) -> None:
        """Stop a response: at most one cancel each, and only while it runs (parity 2.7)."""
        if not response.active or response.over or response.cancelling:
            return
        response.cancelling = True
        event: dict[str, Any] = {"type": "response.cancel"}
        if response.model_id:
            event["response_id"] = response.model_id
        self._out.send(event if event_id is None else {**event, "event_id": event_id})

    def cancelled(self, response_id: str) -> None:
        """The program has cancelled a response by itself; "" is the one that runs."""
        response = self.responses.by_id.get(response_id) if response_id else self.responses.active
        if response is not None:
            response.cancelling = True

    def _send(self, create: Create) -> None:
        create.sent_at = self._out.now
        metadata = wire.mapping(create.response, "metadata")
        response = dict(create.response)
        if create.own_tools is not None:
            response["tools"] = offered_tools(self._agent(), create.own_tools, wire.mappings(response, "tools"))
        if len(metadata) < _MAX_METADATA:
            response["metadata"] = {**metadata, OWN_METADATA_KEY: create.id}
        self._out.send({"type": "response.create", "event_id": create.event_id, "response": response})

    # --- what the model says --------------------------------------------------------------------------

    def created(self, payload: Mapping[str, Any]) -> Response | None:
        """`response.created`; None where it repeats what is known."""
        mark = wire.text(wire.mapping(payload, "metadata"), OWN_METADATA_KEY)
        if mark and not self._marks_come_back:
            self._marks_come_back = True
            if self._outstanding is not None:
                # No unmarked response was its answer, so the watch over it, which one may have stopped, begins anew.
                self._out.set_timer(CREATE_TIMER, self._timeout)
        create = self._claim(mark, payload)
        if create is None or not create.out_of_band:
            self.awaited = False
        if create is None and self._marks_come_back and self._outstanding is not None and self._outstanding.nudge:
            self._outstanding.withdrawn = True  # the model has begun by itself after all
        response_id, active = wire.text(payload, "id"), self.responses.active
        # One without a name begins the response whose first words came before it, if there is one.
        unstarted = active if active is not None and not active.started else None
        known = self.responses.by_id.get(response_id) if unstarted is None else self.responses.named(response_id)
        if known is None:
            response = self.responses.open(response_id, create)
            if create is None and not self._marks_come_back:
                # It may be the answer to our create: the end of this response will tell, however long it takes.
                self._out.cancel_timer(CREATE_TIMER)
        elif known.active and (not known.started or (known.create is None and create is not None)):
            known.create, response = known.create or create, known
        else:
            return None
        response.started = True
        late = self._given_up.pop(mark, None)
        if late is not None or (create is not None and create.withdrawn):
            response.muted = response.unwanted = True
            response.unseen = late is not None or (create is not None and create.follows is not None)
            self.cancel(response)
        if create is not None and create.attempts:
            # It was sent again, as an error without an `event_id` seemed to refuse it: one answer is enough.
            self._given_up[create.id] = create
            trim(self._given_up, _MAX_WAITING)
        return response

    def done(self, payload: Mapping[str, Any]) -> Response | None:
        """`response.done`; None where that response had ended already."""
        response_id, running = wire.text(payload, "id"), self.responses.active
        response = self.responses.named(response_id)
        if response is None and response_id:
            response = self.created(payload)
        if response is None or not response.active:
            return None
        self.responses.ended(response, running)
        unmarked = response.create is None and not self._marks_come_back
        if self._outstanding is not None and unmarked and self.responses.active is None:
            self._assumed = self._release()
        return response

    def refused(self, error: Mapping[str, Any]) -> tuple[bool, Create | None]:
        """An `error` came: whether it answers a create of ours, and that create if it will not be tried again."""
        event_id, code = wire.text(error, "event_id"), wire.text(error, "code")
        for apart in self._apart.values():
            if apart.event_id == event_id:
                return True, self._apart.pop(apart.id)
        create = self._outstanding
        if create is None or not (event_id == create.event_id or (not event_id and _is_about_create(error))):
            return False, None
        self._release()
        if create.withdrawn or (create.optional and code == ALREADY_ACTIVE):
            # Nothing is seen of the response that the model says it has: it is waited for as before it was asked.
            self.awaited |= create.nudge and not create.withdrawn and self.responses.active is None
            return True, None
        if code != ALREADY_ACTIVE or create.manual:
            return True, create  # a client that met the server's own response is told so, as by any server
        if self.responses.active is None:
            # A response that we do not know of: try again a little later.
            create.attempts += 1
            if create.attempts > _MAX_BLIND_RETRIES:
                return True, create
            self._backing_off = True
            self._out.set_timer(RETRY_TIMER, _FIRST_RETRY * 2 ** (create.attempts - 1))
        self._waiting.put_back(create)
        return True, None

    def try_later(self, create: Create, delay: float) -> None:
        """The model refused a create for a while (s)."""
        self._waiting.put_first(create)
        self.rest(delay)

    def rest(self, delay: float) -> None:
        """Nothing is asked for `delay` s."""
        self._backing_off, self._rests_until = True, self._out.now + delay
        self._out.set_timer(RETRY_TIMER, delay)

    def retry_due(self) -> None:
        self._backing_off = False

    def overdue(self) -> Create | None:
        """The outstanding create was not answered in time: given up."""
        create = self._release()
        if create is not None:
            self._given_up[create.id] = create
            trim(self._given_up, _MAX_WAITING)
        return None if create is None or create.withdrawn else create

    def _claim(self, mark: str, payload: Mapping[str, Any]) -> Create | None:
        """The create that this new response answers, None where it began unasked."""
        if not mark:
            # A client that used up all pairs left no room for our mark: its own metadata are as good as one.
            full = wire.mapping(payload, "metadata")
            for create in self.asked:
                if len(full) >= _MAX_METADATA and full == wire.mapping(create.response, "metadata"):
                    return self._release() if create is self._outstanding else self._apart.pop(create.id)
            # Unmarked, but of no conversation: it can only be one of ours.
            out_of_band = self._apart and payload.get("conversation_id", "") is None
            return self._apart.pop(next(iter(self._apart))) if out_of_band else None
        if self._outstanding is not None and mark == self._outstanding.id:
            return self._release()
        again = self._waiting.claim(mark)
        if again is not None:  # an error without an `event_id` seemed to refuse it, and was about something else
            return again
        if self._assumed is not None and mark == self._assumed.id:
            assumed, self._assumed = self._assumed, None
            return assumed
        return self._apart.pop(mark, None)

    def _release(self) -> Create | None:
        create, self._outstanding = self._outstanding, None
        self._out.cancel_timer(CREATE_TIMER)
        return create


def _is_about_create(error: Mapping[str, Any]) -> bool:
    code = wire.text(error, "code")
    return code in ("bad_response_create", ALREADY_ACTIVE) or "response.create" in wire.text(error, "message")
