"""The one way in which the simulated server refuses a client event."""

from voicebus.errors import VoicebusError


class RefusedError(VoicebusError):
    """A client event that has no effect; becomes one `error` event.

    Attributes:
        code: the protocol's error code, or None where captures show null.
        param: the dotted path of the offending field, or None.
        kind: the error's `type`.
    """

    def __init__(
        self, message: str, *, code: str | None, param: str | None = None, kind: str = "invalid_request_error"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
