"""The simulated protocol as pure state: client events, audio and clock readings in, server events out; no I/O."""
