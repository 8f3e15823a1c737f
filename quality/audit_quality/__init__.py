"""Checks of the record: Great Expectations suites and reconciliation."""
