"""A session in the program's own process: the ports that a cluster has in Redis, here in memory."""
