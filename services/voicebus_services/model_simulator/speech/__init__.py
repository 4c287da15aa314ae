"""Ears, voice, speech detection and sentence model of the model-simulator, for real and offline.

They need the extra `voicebus[speech]`.

Importing this package imports none of the heavy libraries; each class imports what it needs in its own worker thread,
so that the simulator's port is up while the models load behind it.
"""

from voicebus_services.model_simulator.speech.ears import WhisperEars
from voicebus_services.model_simulator.speech.meaning import SentenceMeaning
from voicebus_services.model_simulator.speech.vad import SpeechVad
from voicebus_services.model_simulator.speech.voice import EspeakVoice

__all__ = ["EspeakVoice", "SentenceMeaning", "SpeechVad", "WhisperEars"]
