"""The hot store: entries and their indexes in Redis, written, read, aged and released."""
