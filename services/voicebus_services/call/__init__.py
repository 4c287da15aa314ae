"""Talking to a gateway from a terminal: `voicebus call`, and the demo conversation of `voicebus dev`."""
