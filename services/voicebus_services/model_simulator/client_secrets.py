"""Ephemeral client secrets: made with a session configuration, they open sessions with it until they expire."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from time import time as now
from typing import Any

from voicebus_services.model_simulator.protocol.checks import anything, integer, nullable, obj, one_of, tagged
from voicebus_services.model_simulator.protocol.refusal import RefusedError
from voicebus_services.model_simulator.protocol.session_config import check_update, default_config, merged

JsonObject = dict[str, Any]

PREFIX = "ek_"
_DEFAULT_SECONDS = 600
_KEPT = 10_000
_request = obj(
    {
        "expires_after": nullable(obj({"anchor": one_of("created_at"), "seconds": integer(10, 7200)})),
        "session": nullable(tagged("type", {"realtime": anything, "transcription": anything})),
    }
)


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """One secret: bounds when sessions may start, not how long they run.

    Attributes:
        config: the checked session configuration as it was given, with its `type`.
        model: of a conversation session; None for transcription.
    """

    value: str
    expires_at: int
    config: JsonObject
    model: str | None


class ClientSecrets:
    """The secrets of one simulator. Unlike ids they are never repeatable."""

    def __init__(self) -> None:
        self._secrets: OrderedDict[str, ClientSecret] = OrderedDict()

    def create(self, body: object) -> tuple[ClientSecret, JsonObject]:
        """A new secret and the response to its creation.

        Raises:
            RefusedError: a lifetime outside 10…7200 s, or a session that is not one.
        """
        asked: JsonObject = _request(body, "")
        given: JsonObject = asked.get("session") or {"type": "realtime"}
        seconds = (asked.get("expires_after") or {}).get("seconds", _DEFAULT_SECONDS)
        model = given.get("model", "gpt-realtime") if given["type"] == "realtime" else None
        if model is not None and not isinstance(model, str):
            raise RefusedError(
                "Invalid type for 'session.model': expected a string.", code="invalid_type", param="session.model"
            )
        expires_at = int(now()) + seconds
        plain = default_config(given["type"], f"sess_{secrets.token_hex(12)}", model, expires_at)
        config = check_update(given, plain)
        secret = ClientSecret(PREFIX + secrets.token_hex(16), expires_at, config, model)
        self._secrets[secret.value] = secret
        while len(self._secrets) > _KEPT:
            self._secrets.popitem(last=False)
        effective = merged(plain, config)
        # The secret's expiry bounds the start of a session; the session has none yet.
        effective["expires_at"] = 0
        return secret, {"value": secret.value, "expires_at": expires_at, "session": effective}

    def find(self, value: str) -> ClientSecret | None:
        """The secret of this value while it is good."""
        secret = self._secrets.get(value)
        if secret is not None and now() >= secret.expires_at:
            del self._secrets[value]
            return None
        return secret
