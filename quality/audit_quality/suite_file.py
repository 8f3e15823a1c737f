"""The suites of expectations, one JSON file each in `suites/`, in Great Expectations' own form.

They are in that form so that whoever knows the library can read, change and run them without us.
Every expectation carries in its `meta` the name of its check and, in words, what it protects; its
`severity` says whether a failure fails the run (critical) or is only told (warning). Read by
`judge` and by `row_evidence`, which takes from here what an ordinary row looks like. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

SUITES: tuple[str, ...] = ("entries", "files", "day", "month", "years")
"""Every suite: rows of a day, its files, the day, a month, all years."""


@cache
def suite_of(name: str) -> dict[str, Any]:
    """Return a suite as it stands in its file."""
    text = files("audit_quality").joinpath("suites", f"{name}.json").read_text("utf-8")
    suite: dict[str, Any] = json.loads(text)
    return suite


def allowed_values(name: str, parameters: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return, for each column that a suite holds against a closed set, that set."""
    sets = {}
    for expectation in suite_of(name)["expectations"]:
        given = expectation["kwargs"].get("value_set")
        if isinstance(given, dict):
            given = parameters[given["$PARAMETER"]]
        if given is not None:
            sets[expectation["kwargs"]["column"]] = list(given)
    return sets


def columns_of(name: str) -> tuple[str, ...]:
    """Return the columns that a suite looks at, each once, in the order of its checks."""
    named = (
        kwargs[key]
        for kwargs in (expectation["kwargs"] for expectation in suite_of(name)["expectations"])
        for key in ("column", "column_A", "column_B")
        if key in kwargs
    )
    return tuple(dict.fromkeys(named))
