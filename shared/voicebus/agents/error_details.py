"""What is known of an error, as an object and as a mapping: programs read `error.message` or `error["message"]`."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, eq=False)
class RealtimeErrorDetails(Mapping[str, Any]):
    """`code` is a short identifier, `message` a sentence; `param` and `event_id` are those that the server named.

    `count` is how many events were dropped, for `events_dropped`.
    """

    message: str = ""
    code: str | None = None
    type: str = "error"
    param: str | None = None
    event_id: str | None = None
    count: int | None = None

    @classmethod
    def of(cls, error: Mapping[str, Any]) -> Self:
        """A server's error object, leniently."""
        known = {name: error[name] for name in _NAMES if isinstance(error.get(name), str)}
        return cls(**known)

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(name for name in _NAMES if name != "count" or self.count is not None)

    def __len__(self) -> int:
        return len(_NAMES) - (self.count is None)

    def __str__(self) -> str:
        return self.message

    def model_dump(self) -> dict[str, Any]:
        """As a plain dict."""
        return dict(self)


_NAMES = tuple(field.name for field in dataclasses.fields(RealtimeErrorDetails))


class RealtimeModelErrorDetails(dict[str, Any]):
    """An error object of the model layer, with every field that the server gave: by key, and as an attribute.

    As an attribute, `code`, `message`, `type`, `param` and `event_id` are None where it gave none.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in _NAMES:
            return None
        raise AttributeError(f"the error has no {name!r}")
