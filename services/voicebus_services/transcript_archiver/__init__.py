"""The transcript archiver: recorded events from Redis into the database, and transcripts over HTTP."""
