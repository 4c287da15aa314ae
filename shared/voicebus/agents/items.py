"""Items of a conversation, as programs see them (history, events). Audio is referred to, not kept: see `audio`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter


class _Item(BaseModel):
    """Servers may add fields: they are kept."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


class InputText(_Item):
    """Text that the user or the system wrote."""

    type: Literal["input_text"] = "input_text"
    text: str | None = None


class InputAudio(_Item):
    """`audio` is base64 where a server or a program gave it; Voicebus itself keeps no samples here."""

    type: Literal["input_audio"] = "input_audio"
    audio: str | None = None
    transcript: str | None = None


class InputImage(_Item):
    """`image_url` is a `data:` or `https:` address; `detail` is `auto`, `low` or `high`."""

    type: Literal["input_image"] = "input_image"
    image_url: str | None = None
    detail: str | None = None


class AssistantText(_Item):
    """What the assistant wrote."""

    type: Literal["text"] = "text"
    text: str | None = None


class AssistantAudio(_Item):
    """`audio` as in `InputAudio`."""

    type: Literal["audio"] = "audio"
    audio: str | None = None
    transcript: str | None = None


class SystemMessageItem(_Item):
    """A message of the program itself. `previous_item_id` is None where the one before is not known."""

    item_id: str
    previous_item_id: str | None = None
    type: Literal["message"] = "message"
    role: Literal["system"] = "system"
    content: list[InputText]


class UserMessageItem(_Item):
    """What the user said, wrote or showed. `previous_item_id` is None where the one before is not known."""

    item_id: str
    previous_item_id: str | None = None
    type: Literal["message"] = "message"
    role: Literal["user"] = "user"
    content: list[Annotated[InputText | InputAudio | InputImage, Field(discriminator="type")]]


class AssistantMessageItem(_Item):
    """What the assistant said or wrote; `incomplete` where it was cut off.

    `previous_item_id` is None where the one before is not known.
    """

    item_id: str
    previous_item_id: str | None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    content: list[Annotated[AssistantText | AssistantAudio, Field(discriminator="type")]]


class RealtimeToolCallItem(_Item):
    """A function call and its result; `output` is None until there is one. Handoffs appear as calls, too."""

    item_id: str
    previous_item_id: str | None = None
    call_id: str | None
    type: Literal["function_call"] = "function_call"
    status: Literal["in_progress", "completed"]
    arguments: str
    name: str
    output: str | None = None


RealtimeMessageItem = Annotated[SystemMessageItem | UserMessageItem | AssistantMessageItem, Field(discriminator="role")]
RealtimeItem = SystemMessageItem | UserMessageItem | AssistantMessageItem | RealtimeToolCallItem


class RealtimeResponse(BaseModel):
    """One response of the model."""

    id: str
    output: list[RealtimeMessageItem]


_CALL: Final = "function_call"


def _kind(item: Mapping[str, Any]) -> str | None:
    """What tells items apart: a message by its role, and a call by its type, or by having neither."""
    role = item.get("role")
    if item.get("type") == _CALL or (role is None and "type" not in item):
        return _CALL
    return role if isinstance(role, str) else None


_ITEM: TypeAdapter[RealtimeItem] = TypeAdapter(
    Annotated[
        Annotated[SystemMessageItem, Tag("system")]
        | Annotated[UserMessageItem, Tag("user")]
        | Annotated[AssistantMessageItem, Tag("assistant")]
        | Annotated[RealtimeToolCallItem, Tag(_CALL)],
        Discriminator(
            _kind,
            custom_error_type="item_kind",
            custom_error_message="an item is a message with the role user, assistant or system, or a function_call",
        ),
    ]
)


def read_item(item: Mapping[str, Any]) -> RealtimeItem:
    """An item from its JSON form (that of the native face, and of the engine's history).

    Raises:
        pydantic.ValidationError: it has no such form.
    """
    return _ITEM.validate_python(item)
