"""Who may open which session: keys, models, headers and subprotocols of an upgrade, and how a refusal looks.

The real service checks after the 101: it sends one `error` event and closes at once. A strict simulator answers with an
HTTP status instead.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voicebus.errors import VoicebusError

_MODELS = re.compile(r"gpt-(realtime|audio|4o(-mini)?-realtime)[\w.\-]*|voicebus-simulator")
_KEY_SUBPROTOCOL = "openai-insecure-api-key."


class NotAdmittedError(VoicebusError):
    """An upgrade that gets an error event and a close instead of a session.

    Attributes:
        code: the error's code, None where captures show null.
        close_code: 3000 for credentials, 4000 for anything else.
        status: the HTTP status of a strict simulator.
    """

    def __init__(self, message: str, *, code: str | None, close_code: int, status: int) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.close_code = close_code
        self.status = status

    @property
    def reason(self) -> str:
        """The reason in the close frame."""
        return f"invalid_request_error.{self.code}" if self.code else "invalid_request_error"

    def body(self) -> dict[str, object]:
        return {"type": "invalid_request_error", "code": self.code, "message": self.message, "param": None}


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket: header names in lower case, the last value of a repeated query parameter."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    subprotocols: Sequence[str]

    @property
    def subprotocol(self) -> str | None:
        """The one to select; a browser fails the handshake if it offered some and none is selected."""
        return "realtime" if "realtime" in self.subprotocols else None

    @property
    def credential(self) -> str | None:
        """The key as the client presents it: header first, then subprotocol."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
        if self.headers.get("api-key", "").strip():
            return self.headers["api-key"].strip()
        for offered in self.subprotocols:
            if offered.startswith(_KEY_SUBPROTOCOL) and len(offered) > len(_KEY_SUBPROTOCOL):
                return offered.removeprefix(_KEY_SUBPROTOCOL)
        return None

    @property
    def azure(self) -> bool:
        """Azure's path, where `model` names a deployment, which may be called anything."""
        return self.path.startswith("/openai/")


def check_key(given: str | None, wanted: str | None) -> None:
    """Raises: NotAdmittedError: no key, or one other than `wanted` (None: any key will do)."""
    if given is None:
        raise NotAdmittedError(
            "You didn't provide an API key. Provide it in the Authorization header as 'Bearer YOUR_KEY'.",
            code=None,
            close_code=3000,
            status=401,
        )
    if wanted is not None and not hmac.compare_digest(_digest(given), _digest(wanted)):
        raise NotAdmittedError("Incorrect API key provided.", code="invalid_api_key", close_code=3000, status=401)


def check_dialect(upgrade: Upgrade) -> None:
    """Raises: NotAdmittedError: the client asks for the beta protocol."""
    if "realtime" in upgrade.headers.get("openai-beta", "") or any(
        name.startswith("openai-beta.") for name in upgrade.subprotocols
    ):
        raise NotAdmittedError(
            "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.",
            code="beta_api_shape_disabled",
            close_code=4000,
            status=400,
        )


def check_model(upgrade: Upgrade) -> str:
    """The model of a conversation session.

    Raises:
        NotAdmittedError: none is named, or one that does not converse.
    """
    model = upgrade.query.get("model", "")
    if not model:
        raise NotAdmittedError("You must provide a model parameter.", code="missing_model", close_code=4000, status=404)
    if not upgrade.azure and not _MODELS.fullmatch(model):
        raise NotAdmittedError(
            f'Model "{model[:100]}" is not supported in realtime mode.',
            code="invalid_model",
            close_code=4000,
            status=404,
        )
    return model


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
