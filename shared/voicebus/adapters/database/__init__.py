"""The transcript database: SQLite on a laptop, PostgreSQL in a cluster, one schema and one store for both."""
