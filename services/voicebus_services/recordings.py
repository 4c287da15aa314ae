"""Opens the storage of recordings, whose packages are an extra."""

from typing import TYPE_CHECKING

from voicebus.errors import SettingsError

if TYPE_CHECKING:
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
