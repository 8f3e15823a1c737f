"""The record and its views: lake, archive, index, search, export, purge, verification."""
