"""The record and its views: lake, semantic index, archive, search, export, retention, verification."""
