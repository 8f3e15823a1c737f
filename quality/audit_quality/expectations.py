"""The suite that every archived day must meet, run by Great Expectations.

Owns that library: nothing else imports it. The context lives in memory, analytics are off, and
no connection is opened. Each expectation is decided by the values of its own columns alone, so
the rows that fail are found again by the failing values; letting the library list their index
takes minutes when every row of a large day fails. Never changes a row.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from audit_quality.day_snapshot import CLOSED_WORDS
from audit_quality.report import NAMED_ROWS, CheckResult
from claude_max_audit.citation import CITATION_PATTERN

# Read when the library is imported; with analytics on, every context would report its use.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports `sre_constants`
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import (
        ExpectationConfiguration,
    )

UNIQUE = "expect_column_values_to_be_unique"
MATCH = "expect_column_values_to_match_regex"
ONE_OF = "expect_column_values_to_be_in_set"
EQUAL = "expect_column_pair_values_to_be_equal"


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation: `name` says what fits when it passes, `meaning` what it protects."""

    name: str
    meaning: str
    kind: str
    columns: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


def checks_of(day: date) -> tuple[Check, ...]:
    """Return the checks of one UTC day, in the order of the report."""
    words = (
        Check(
            f"known_{name}",
            f"{name} is one of {', '.join(word.value for word in kind)}, so that queries find it",
            ONE_OF,
            (name,),
            {"value_set": [word.value for word in kind]},
        )
        for name, kind in CLOSED_WORDS.items()
    )
    return (
        Check(
            "required_fields",
            "every field that each entry must have is there",
            ONE_OF,
            ("missing_fields",),
            {"value_set": [""]},
        ),
        Check("unique_entry_id", "an id names one entry only", UNIQUE, ("entry_id",)),
        Check("unique_entry_hash", "no entry is kept twice", UNIQUE, ("entry_hash",)),
        Check(
            "citation_form",
            "the citation is if://audit/{entry_type}/{uuid}, so that it can be quoted",
            MATCH,
            ("citation",),
            # Pandas warns about groups that capture; the form is the same without.
            {"regex": CITATION_PATTERN.replace("(", "(?:")},
        ),
        _equal("citation_fits", "the citation names the entry's own type and id", "citation"),
        _equal("content_hash_fits", "the content is what was recorded", "content_hash"),
        _equal("entry_hash_fits", "no field changed since the entry was sealed", "entry_hash"),
        *words,
        Check(
            "within_day",
            f"the entry happened on {day}, the UTC day that it is archived under",
            ONE_OF,
            ("day",),
            {"value_set": [day.isoformat()]},
        ),
    )


def run_checks(snapshot: pl.DataFrame, checks: Sequence[Check]) -> tuple[CheckResult, ...]:
    """Validate a snapshot (see `day_snapshot.snapshot_of`) and return one result per check.

    Raises `RuntimeError` when the library could not evaluate an expectation: a check that did
    not run is no check that passed.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("lake")
        .add_dataframe_asset("day")
        .add_batch_definition_whole_dataframe("snapshot")
        .get_batch({"dataframe": snapshot.to_pandas()})
    )
    suite = gx.ExpectationSuite(name="archived-day")
    suite.add_expectation_configurations([_configuration(check) for check in checks])
    found = batch.validate(
        suite,
        result_format={"result_format": "BASIC", "partial_unexpected_count": NAMED_ROWS},
    )
    outcomes = {_check_name(outcome.expectation_config): outcome for outcome in found.results}
    return tuple(_result(check, outcomes[check.name], snapshot) for check in checks)


def _equal(name: str, meaning: str, column: str) -> Check:
    return Check(
        name,
        meaning,
        EQUAL,
        (column, f"expected_{column}"),
        {"ignore_row_if": "neither"},
    )


def _configuration(check: Check) -> ExpectationConfiguration:
    names = ("column",) if len(check.columns) == 1 else ("column_A", "column_B")
    return ExpectationConfiguration(
        type=check.kind,
        kwargs={**dict(zip(names, check.columns, strict=True)), **check.options},
        meta={"check": check.name, "protects": check.meaning},
    )


def _check_name(configuration: ExpectationConfiguration | None) -> str:
    assert configuration is not None
    return str(configuration.meta["check"])


def _result(check: Check, outcome: Any, snapshot: pl.DataFrame) -> CheckResult:
    if outcome.exception_info.get("raised_exception", True):
        raise RuntimeError(f"{check.name} could not be evaluated: {outcome.exception_info}")
    if outcome.success:
        return CheckResult(check.name, check.meaning, True, 0)
    return CheckResult(
        check.name,
        check.meaning,
        False,
        int(outcome.result["unexpected_count"]),
        _rows_with(snapshot, check.columns, outcome.result["partial_unexpected_list"]),
    )


def _rows_with(
    snapshot: pl.DataFrame, columns: tuple[str, ...], values: Sequence[Any]
) -> tuple[str, ...]:
    """Return the ids of the first rows that have one of the failing values."""
    failing = [value if len(columns) > 1 else (value,) for value in values]
    wanted = pl.DataFrame(
        failing, schema={column: pl.String for column in columns}, orient="row"
    ).unique()
    named = snapshot.join(wanted, on=columns, how="semi", maintain_order="left")
    return tuple(id_ or "(no entry_id)" for id_ in named.head(NAMED_ROWS)["entry_id"])
