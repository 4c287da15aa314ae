"""A desk whose conversations are to survive the loss of their model's socket."""

from typing import Any

from voicebus import RealtimeAgent, RealtimeRunConfig, function_tool


class Desk:
    """`agent` with its tools; `calls` are the calls that have run. Made anew for each test."""

    def __init__(self) -> None:
        self.calls: list[str] = []

        @function_tool
        async def rate(city: str) -> str:
            """Find what a room costs."""
            self.calls.append(city)
            return f"100 in {city}"

        @function_tool(needs_approval=True)
        async def refund(amount: int) -> str:
            """Refund money."""
            self.calls.append(str(amount))
            return f"refunded {amount}"

        self.agent: RealtimeAgent[Any] = RealtimeAgent(
            "desk", instructions="Answer.", tools=[rate, refund], handoffs=[RealtimeAgent("billing")]
        )


CONFIG: RealtimeRunConfig = {
    "model_settings": {
        "output_modalities": ["text"],  # what is spoken counts as said when it was heard, which takes its time
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
        "input_audio_transcription": {"model": "whisper-1"},
    }
}
