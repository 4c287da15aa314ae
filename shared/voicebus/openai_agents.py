"""Runner and session for programs of openai-agents that match each kind of event and allow no other.

Sessions show the events that openai-agents has, and leave ours out (`transcript_delta`, `audio_start`,
`model_reconnected` and so on), so that a match that ends with `assert_never(event)` holds, for type checkers too.
All other names are those of `voicebus`, and may be imported from here as well.
"""

from typing import TYPE_CHECKING, Any

import voicebus
from voicebus.agents.known_events import *  # noqa: F403

if TYPE_CHECKING:  # of a name that comes twice mypy takes the first, and pyright the last
    from voicebus import *  # type: ignore[assignment]  # noqa: F403
    from voicebus.agents.known_events import *  # noqa: F403
else:  # the others are here as soon as they are asked for, and none is imported before
    __all__ = list(voicebus.__all__)

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):  # what a module is: with `__path__` this one would be a package, of copies of ours
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(voicebus, name)
