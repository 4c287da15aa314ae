"""Microphone and loudspeaker of this machine, for `voicebus call --mic`."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from voicebus.errors import UsageError
from voicebus_services.call import wav


class Microphone:
    """Sound in and out through `sounddevice` (PortAudio), PCM16 mono 24 kHz both ways."""

    def __init__(self, sounddevice: Any) -> None:
        self._loop = asyncio.get_running_loop()
        # 2 s: a stalled network drops the oldest sound instead of delaying all that follows
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(maxsize=40)
        common = {"samplerate": wav.RATE, "channels": 1, "dtype": "int16"}
        self._input = sounddevice.RawInputStream(**common, blocksize=wav.RATE // 20, callback=self._captured)
        self._output = sounddevice.RawOutputStream(**common)
        # one thread, so that sound stays in order
        self._player = ThreadPoolExecutor(1, "loudspeaker")
        self._input.start()
        self._output.start()

    def _captured(self, samples: Any, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._put, bytes(samples))

    def _put(self, chunk: bytes) -> None:
        if self._chunks.full():
            self._chunks.get_nowait()
        self._chunks.put_nowait(chunk)

    async def chunks(self) -> AsyncIterator[bytes]:
        """What the microphone hears, in pieces of 50 ms, without end."""
        while True:
            yield await self._chunks.get()

    def play(self, samples: bytes) -> None:
        self._player.submit(self._output.write, samples)

    def close(self) -> None:
        self._player.shutdown(wait=False, cancel_futures=True)
        self._input.close()
        self._output.close()


def open_microphone() -> Microphone:
    """Open this machine's default devices.

    Raises:
        UsageError: `sounddevice` or PortAudio is missing, or there is no device.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise UsageError(f"call: --mic needs the package sounddevice and PortAudio ({error}); or use --wav") from error
    try:
        return Microphone(sounddevice)
    except sounddevice.PortAudioError as error:
        raise UsageError(f"call: --mic: no usable sound device ({error}); or use --wav") from error
