"""What the address of a model names, and the address to dial for what a session wants."""

from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

# An address that names what to talk to already: Azure's dated form, a call to join, a transcription session.
_ADDRESSED: Final = frozenset({"model", "deployment", "call_id", "intent"})


def joining_url(url: str, call_id: str) -> str:
    """The address at which the call is joined that others hold there."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in _ADDRESSED]
    return urlunsplit(parts._replace(query=urlencode([*query, ("call_id", call_id)])))


def model_at(url: str, wanted: str) -> str:
    """The model of a session at an address: the model, or Azure's deployment, that it names itself; else `wanted`."""
    return dict(parse_qsl(urlsplit(url).query)).get("model") or wanted


def with_model(url: str, model: str) -> str:
    """The address with `model` in place of the one that it names; as it is where it names none."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not any(name == "model" for name, _ in query):
        return url
    query = [(name, model if name == "model" else value) for name, value in query]
    return urlunsplit(parts._replace(query=urlencode(query)))


def model_url(url: str, model: str) -> str:
    """The address to dial: `?model=` is added unless the address names what it talks to already."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    if not {name for name, _ in query} & _ADDRESSED:
        query.append(("model", model))
    return urlunsplit(parts._replace(query=urlencode(query), fragment=""))
