"""The door: who a request is from (`Principal`), what it may do, and how much of it. Shared by all public ports."""
