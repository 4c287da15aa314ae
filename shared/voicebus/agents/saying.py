"""What programs give a session to say, checked and as the wire has it: for sessions in process and on a gateway."""

from collections.abc import Mapping
from typing import Any, Final

from voicebus.agents import checking
from voicebus.agents.config import RealtimeUserInput
from voicebus.errors import UserError, WrongTypeError

_PARTS: Final[Mapping[str, str]] = {"input_text": "text", "input_image": "image_url"}


def image_content(image: str) -> list[dict[str, Any]]:
    """The content of a message that shows an image. Raises `UserError` for what is no address of one."""
    _check_image("image", image)
    return [{"type": "input_image", "image_url": image}]


def is_image_address(image: str) -> bool:
    """Whether a model can look the image up: a `data:` or `https:` address."""
    return image.startswith(("data:", "https:"))


def audio_samples(audio: bytes) -> bytes:
    """Samples of any kind of bytes. Raises `UserError` for anything else."""
    if not isinstance(audio, bytes | bytearray | memoryview):
        raise WrongTypeError(f"audio must be bytes, not {type(audio).__name__}")
    return bytes(audio)


def check_decision(where: str, call_id: str, always: bool, rejection_message: str | None = None) -> None:
    """Raises `UserError` for what is no word about a call. Whether there is such a call is another question."""
    checking.text(where, "call_id", call_id)
    checking.flag(where, "always", always)
    checking.text(where, "rejection_message", rejection_message, optional=True)


def message_content(message: RealtimeUserInput) -> list[dict[str, Any]]:
    """The protocol's parts of a user message."""
    if isinstance(message, str):
        return [{"type": "input_text", "text": message}]
    if not isinstance(message, Mapping):
        raise WrongTypeError(f"message must be a string or a message object, not {type(message).__name__}")
    if message.get("type", "message") != "message" or message.get("role", "user") != "user":
        raise UserError('message must have type "message" and role "user"')
    content = message.get("content")
    if not isinstance(content, list | tuple) or not content:
        raise UserError("message needs content, a list of input_text and input_image parts")
    return [_part(index, part) for index, part in enumerate(content)]


def _part(index: int, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    field = _PARTS.get(kind) if isinstance(kind, str) else None
    if field is None:
        raise UserError(f"message content[{index}] must have type input_text or input_image, not {kind!r}")
    where = f"message content[{index}]"
    if not isinstance(part.get(field), str):
        raise UserError(f"{where} of type {kind} needs {field}, a string")
    if kind == "input_image":
        _check_image(f"{where}.image_url", part["image_url"])
        if part.get("detail") is not None:
            checking.text(where, "detail", part["detail"])
    return dict(part)


def _check_image(argument: str, image: str) -> None:
    if not isinstance(image, str) or not is_image_address(image):
        raise UserError(f"{argument} must be a data: or https: address, not {str(image)[:80]!r}")
