"""Closed days go from Redis to the lake, checked; what fails goes to quarantine."""
