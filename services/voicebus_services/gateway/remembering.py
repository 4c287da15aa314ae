"""What a session's state tells of its client, so that another gateway can let it in again: no secret is written."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from voicebus_services.access.principal import LOCAL, Kind, Limits, Principal


def digest(token: str) -> str:
    """Of a token, all that is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def remembered(principal: Principal) -> str:
    """Who began a session, as the field of its state; without what is for the key alone."""
    fields = asdict(principal)
    for name in ("mark", "session", "expires_at"):
        del fields[name]
    fields["agents"] = None if principal.agents is None else sorted(principal.agents)
    fields["limits"] = principal.limits.model_dump(exclude_none=True)
    return json.dumps(fields)


def recalled(text: str) -> Principal:
    """The principal that `remembered` has written.

    Raises:
        ValueError: the text is none of its.
    """
    if not text:
        return LOCAL
    fields: dict[str, Any] = json.loads(text)
    agents = fields.pop("agents")
    return Principal(
        **{
            **fields,
            "kind": Kind(fields["kind"]),
            "agents": None if agents is None else frozenset(agents),
            "limits": Limits(**fields["limits"]),
        }
    )
