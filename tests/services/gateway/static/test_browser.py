"""The JavaScript module in a real browser: microphone, loudspeaker and worklet, by the example of its documentation."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Page

from support import browser
from support.waiting import wait_until
from voicebus_services.gateway.wiring import Gateway
from voicebus_services.model_simulator import tape

pytestmark = [pytest.mark.timeout(120), browser.needed, pytest.mark.xdist_group("browser")]
EXAMPLE: Final = re.findall(r"```js\n(.*?)```", Path("docs/native-face.md").read_text(), re.DOTALL)[0]
# The fake microphone begins anew at the end of its file.
SILENCE: Final = bytes(48_000 * 40)


def example(gateway: Gateway) -> str:
    """The example as it stands, at this gateway; what it has made can be asked for."""
    script = EXAMPLE.replace("https://voice.example.com", f"http://127.0.0.1:{gateway.port}")
    # What is done to make voices clear makes the simulator's words unreadable.
    as_it_is = "{ constraints: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } }"
    script = script.replace("startAudio(session)", f"startAudio(session, {as_it_is})")
    heard = 'session.on("*", (event) => seen.push({ ...event, samples: event.samples?.byteLength }));'
    return f"""{script.replace("clientSecret", '"local"')}
const seen = [];
{heard}
Object.assign(globalThis, {{ session, audio, seen }});
"""


async def seen(page: Page, kind: str) -> list[Any]:
    found: list[Any] = await page.evaluate(
        "(kind) => (globalThis.seen ?? []).filter(({ type }) => type === kind)", kind
    )
    return found


async def until(page: Page, kind: str, **fields: Any) -> Any:
    """The first event of this kind that has these fields."""

    async def look() -> Any:
        fitting = [event for event in await seen(page, kind) if fields.items() <= event.items()]
        return fitting[0] if fitting else None

    return await wait_until(look, description=f"{kind} {fields} in the browser", timeout=60)


async def test_who_talks_to_the_example_in_a_browser_is_heard_and_answered(gateway: Gateway, tmp_path: Path) -> None:
    question = browser.write_wav(
        tmp_path / "question.wav", bytes(48_000) + tape.record("[[say: I hear you]]") + SILENCE
    )
    origin = f"http://127.0.0.1:{gateway.port}"
    async with (
        browser.chromium(microphone=question) as chromium,
        browser.page_of(chromium, origin, example(gateway)) as page,
    ):
        await until(page, "item_recorded", role="user", text="[[say: I hear you]]")
        await until(page, "item_recorded", role="assistant", text="I hear you", truncated=False)
        assert sum(event["samples"] for event in await seen(page, "audio")) > 0


async def test_what_a_browser_has_played_is_what_was_heard_of_an_answer(gateway: Gateway, tmp_path: Path) -> None:
    quiet = browser.write_wav(tmp_path / "quiet.wav", SILENCE)
    origin = f"http://127.0.0.1:{gateway.port}"
    story = " ".join(f"word{number}" for number in range(100))
    async with (
        browser.chromium(microphone=quiet) as chromium,
        browser.page_of(chromium, origin, example(gateway)) as page,
    ):
        # The example's own greeting is answered, and heard, first.
        await until(page, "item_recorded", role="assistant", truncated=False)
        await page.evaluate("(story) => session.sendMessage(`[[say: ${story}]]`)", story)
        await page.evaluate(
            """new Promise((resolve) =>
                audio.player.node.port.addEventListener("message", ({ data }) => data.ms > 900 && resolve()))"""
        )
        await page.evaluate("session.interrupt()")
        await until(page, "audio_interrupted")
        answer = await until(page, "item_recorded", role="assistant", truncated=True)
        assert story.startswith(answer["heard_text"])
        assert 0 < len(answer["heard_text"]) < len(story) / 4
        await page.evaluate("session.end()")
        await page.wait_for_function('audio.player.node.context.state === "closed"')
        # A piece of sound that was on its way from the microphone is no failure of the page.
        late = 'new MessageEvent("message", { data: new ArrayBuffer(2400) })'
        await page.evaluate(f"audio.microphone.node.port.dispatchEvent({late}) && undefined")
