"""The headers by which a client of a gateway shows its key."""

from voicebus.bearer import NOT_CARRIED, bearer
from voicebus.errors import UserError


def authorization(api_key: str | None) -> dict[str, str]:
    """The header of this key; none without one.

    Raises:
        UserError: no header can carry it. It is not in the text.
    """
    if not api_key:
        return {}
    made = bearer(api_key)
    if made is None:
        raise UserError(f"api_key {NOT_CARRIED}")
    return {"Authorization": made}
