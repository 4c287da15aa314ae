"""Forms of a tool's output that programs of openai-agents know. A voice model is told text alone: their JSON."""

from typing import Literal, NotRequired, Self, TypedDict

from pydantic import BaseModel, model_validator


class ToolOutputText(BaseModel):
    """Text."""

    type: Literal["text"] = "text"
    text: str


class ToolOutputTextDict(TypedDict, total=False):
    """The same as a dict."""

    type: Literal["text"]
    text: str


class ToolOutputImage(BaseModel):
    """An image, by its address (`https:`, `data:`) or by the id of a file that the provider has.

    The model reads the address and sees no image: `RealtimeSession.add_image` shows one.

    Raises:
        ValueError: it has neither.
    """

    type: Literal["image"] = "image"
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto"] | None = None

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.image_url is None and self.file_id is None:
            raise ValueError("image_url or file_id is needed")
        return self


class ToolOutputImageDict(TypedDict, total=False):
    """The same as a dict."""

    type: Literal["image"]
    image_url: NotRequired[str]
    file_id: NotRequired[str]
    detail: NotRequired[Literal["low", "high", "auto"]]


class ToolOutputFileContent(BaseModel):
    """A file: its content as base64, its address, or the id of one that the provider has.

    Raises:
        ValueError: it has none of them.
    """

    type: Literal["file"] = "file"
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if self.file_data is None and self.file_url is None and self.file_id is None:
            raise ValueError("file_data, file_url or file_id is needed")
        return self


class ToolOutputFileContentDict(TypedDict, total=False):
    """The same as a dict."""

    type: Literal["file"]
    file_data: NotRequired[str]
    file_url: NotRequired[str]
    file_id: NotRequired[str]
    filename: NotRequired[str]
