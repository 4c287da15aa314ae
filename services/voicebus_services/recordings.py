"""Opens the storage of recordings, and what reads them, whose packages are an extra."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from voicebus.errors import SettingsError

if TYPE_CHECKING:
    from voicebus.adapters.recordings.reading import RecordingReader
    from voicebus.adapters.recordings.storage import RecordingStorage


def storage_at(url: str) -> "RecordingStorage":
    """The storage at this address.

    Raises:
        SettingsError: there can be none, or the extra is not installed.
    """
    try:
        # Not before a recording is asked for.
        from voicebus.adapters.recordings import recorder, storage  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"VOICEBUS_RECORDINGS_URL: recordings need packages that are not installed ({error.name});"
            " pip install 'voicebus[recording]'"
        ) from error
    return storage.RecordingStorage.at(url)


def reader_at(url: str | None, wanted: Callable[[str, str], Awaitable[bool]]) -> "RecordingReader | None":
    """What reads the recordings at this address; None without one. `wanted`: see `RecordingReader`.

    Raises:
        SettingsError: as `storage_at`.
    """
    if url is None:
        return None
    storage = storage_at(url)
    from voicebus.adapters.recordings.reading import RecordingReader

    return RecordingReader(storage, wanted)
