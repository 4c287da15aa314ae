"""A caller whose model's sockets are cut, who keeps account of what was said and has to come of it."""

from dataclasses import dataclass, field
from typing import Any, Final

from support.callers import Caller
from support.phase_desk import place
from support.phase_proxy import Conversation
from support.waiting import wait_until
from voicebus_services.model_simulator import tape

WITHIN: Final = 90.0
"""How long anything may take (s): all conversations are held at once."""

_FRAME: Final = 4800  # bytes: 100 ms


@dataclass
class Talk:
    """A conversation under test: its caller, its sockets, and what has to come of it."""

    phase: str
    caller: Caller
    sockets: Conversation
    said: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    known_too: list[str] = field(default_factory=list)

    def fact(self, name: str) -> str:
        return f"{name} of {self.phase}".replace("'", "")

    async def sounds(self, sound: bytes) -> None:
        for start in range(0, len(sound), _FRAME):
            await self.caller.conversation.send_audio(sound[start : start + _FRAME])

    async def pushes(self, text: str) -> None:
        """Speak, and end the turn by hand."""
        self.said.append(text)
        await self.sounds(tape.record(text))
        await self.caller.conversation.command("commit")

    async def types(self, text: str) -> None:
        self.said.append(text)
        await self.caller.types(text)

    async def says(self, text: str) -> None:
        self.said.append(text)
        await self.caller.says(text)

    async def hears(self, text: str) -> None:
        """Wait until this was answered, whole."""
        self.answers.append(text)
        whole = {"role": "assistant", "text": text, "truncated": False}
        await self.caller.until(
            lambda caller: any(whole.items() <= event.items() for event in caller.of("item_recorded")),
            f"the answer {text!r}",
            timeout=WITHIN,
        )

    async def until(self, kind: str, number: int = 1) -> dict[str, Any]:
        """The `number`-th event of a kind."""
        found = await self.caller.until(
            lambda caller: len(caller.of(kind)) >= number and caller.of(kind), f"{number} of {kind}", timeout=WITHIN
        )
        event: dict[str, Any] = found[number - 1]
        return event

    async def notes(self, tool: str, name: str) -> None:
        """Ask for a fact to be noted."""
        self.noted.append(self.fact(name))
        await self.types(f'[[call: {tool} {{"fact": "{self.fact(name)}"}}]]')

    async def hears_noted(self, *names: str) -> None:
        await self.hears("The result is: " + "; ".join(f"noted {self.fact(name)}" for name in names))

    async def there(self, what: str, name: str) -> None:
        """Wait for a file of the desk."""
        path = place(what, name)
        await wait_until(path.exists, description=str(path), timeout=WITHIN)

    async def is_cut(self) -> None:
        """Wait until all cuts are made."""
        await wait_until(lambda: not self.sockets.armed, description=f"a cut at {self.sockets.armed}", timeout=WITHIN)

    async def cut(self) -> None:
        """Cut what is open, and wait until the session has lost it."""
        number = len(self.caller.of("model_reconnecting"))
        self.sockets.cut()
        await self.until("model_reconnecting", number + 1)
