"""The responses to be asked for once the conversation is idle, in their order (rules 2 and 3 of `turns.py`)."""

from collections import deque
from collections.abc import Callable, Iterator

from voicebus.engine.responses import Create, Response, follow_up_parameters


class Waiting:
    """A queue of creates. Automatic ones coalesce; manual ones keep their place and are barriers."""

    def __init__(self) -> None:
        self._creates: deque[Create] = deque()

    def __len__(self) -> int:
        return len(self._creates)

    def __iter__(self) -> Iterator[Create]:
        return iter(self._creates)

    @property
    def first(self) -> Create | None:
        return self._creates[0] if self._creates else None

    @property
    def next_manual(self) -> Create | None:
        """The client's own one that will be sent first."""
        return next((create for create in self._creates if create.manual), None)

    def continues(self, followed: Response) -> bool:
        """Whether one of them continues `followed`."""
        return any(create.follows is followed for create in self._creates)

    # --- in -------------------------------------------------------------------------------------------

    def add(self, create: Create) -> None:
        """Put a wish last: an automatic one becomes part of an automatic one that waits there."""
        last = self._creates[-1] if self._creates else None
        if last is None or last.manual or create.manual:
            self._creates.append(create)
            return
        last.commit = None  # it answers more than one wish now
        last.optional = last.optional and create.optional
        last.replaces = max(last.replaces, create.replaces)
        if create.follows is not None:
            last.follows, last.own_tools = create.follows, create.own_tools
        if create.follows is not None or create.response:
            last.response = create.response

    def put_first(self, create: Create) -> None:
        """What was asked for goes first; one response answers all that would be asked for without it."""
        first = self.first
        if first is None or first.manual or create.manual:
            self._creates.appendleft(create)
        elif first.follows is None:
            first.follows, first.response, first.own_tools = create.follows, create.response, create.own_tools
            first.optional, first.commit = False, None  # it answers more than a commit now

    def put_back(self, create: Create) -> None:
        """One that was sent waits again, unless the one that waits first speaks for both."""
        first = self.first
        if first is None or first.manual or create.follows is not None:
            self._creates.appendleft(create)

    # --- out ------------------------------------------------------------------------------------------

    def take(self) -> Create:
        """The first one; raises IndexError where there is none."""
        return self._creates.popleft()

    def claim(self, mark: str) -> Create | None:
        """Take the one of this mark."""
        create = next((create for create in self._creates if create.id == mark), None)
        if create is not None:
            self._creates.remove(create)
        return create

    def drop(self, unwanted: Callable[[Create], bool]) -> None:
        self._creates = deque(create for create in self._creates if not unwanted(create))


def continuing(create: Create, stopped: Response) -> None:
    """Have `create` continue `stopped`, with the parameters that were given for that."""
    create.follows = stopped
    create.response = {**follow_up_parameters(stopped), **create.response}
    create.own_tools = stopped.create.own_tools if stopped.create is not None else None
