"""Clients of a gateway's native face: `connect` for programs, and the link that every client of ours stands on."""
