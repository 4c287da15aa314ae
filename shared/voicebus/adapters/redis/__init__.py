"""Redis as the bus: connections, streams, claims, heartbeats, the registry and the session journal."""
