"""Whole trails as one file with its manifest."""
