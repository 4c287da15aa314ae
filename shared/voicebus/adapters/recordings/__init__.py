"""Recordings of calls: both channels on the call's clock, as Ogg Opus in object storage.

Needs the extra `voicebus[recording]`; nothing else imports this package before a recording is asked for.
"""
