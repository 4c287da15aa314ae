"""A real browser: Chromium without a window, driven by Playwright. Its microphone plays a file, and may always be used.

`.ci/run` installs Debian's Chromium. Playwright brings no browser of its own here.
"""

import os
import re
import shutil
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, Page, async_playwright

PROGRAM: Final = os.environ.get("CHROMIUM_BIN") or shutil.which("chromium") or shutil.which("google-chrome")
needed: Final = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on PATH, and CHROMIUM_BIN names none")

_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


@asynccontextmanager
async def chromium(*, microphone: Path | None = None) -> AsyncIterator[Browser]:
    """A browser whose microphone plays the WAV file `microphone` over and over; without one it beeps."""
    played = () if microphone is None else (f"--use-file-for-fake-audio-capture={microphone}",)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=[*_FLAGS, *played])
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def page_of(browser: Browser, origin: str, script: str) -> AsyncIterator[Page]:
    """A page of `origin` that waits for a click, as sound does, and then runs the module `script`.

    What it fails with fails the test, at the latest when the page is left.
    """
    imports = "\n".join(re.findall(r"^import .*$", script, re.MULTILINE))
    rest = re.sub(r"^import .*$", "", script, flags=re.MULTILINE)
    body = f"""<!doctype html><meta charset="utf-8"><title>test</title><button>Talk</button><script type="module">
{imports}
await new Promise((resolve) => (document.querySelector("button").onclick = resolve));
{rest}
</script>"""
    page = await browser.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    # What the origin itself has served: a page of nowhere may not talk to the local network.
    await page.goto(origin)
    await page.set_content(body)
    await page.click("button")
    try:
        yield page
    finally:
        assert not failures, failures
        await page.close()


def write_wav(path: Path, samples: bytes, *, rate: int = 24_000) -> Path:
    """16 bit samples of one channel as a WAV file; returns its path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return path
