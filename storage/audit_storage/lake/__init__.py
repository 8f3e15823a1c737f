"""The record: the Delta table of entries, planned, read and committed."""
