"""Data Docs: what the quality checks found, as pages that need no network."""
