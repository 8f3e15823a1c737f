"""The local write-ahead log: what is accepted is here until Redis can no longer lose it."""
