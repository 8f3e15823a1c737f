"""Turns the judge's verdicts into results that name rows, files and numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from audit_quality.judge import Judgement, Verdict
from audit_quality.report import NAMED_ROWS, CheckResult

TOLD_VALUES = 5
"""Most values that a result tells of those that were seen and refused."""


def results_of_rows(judgement: Judgement, groups: pl.DataFrame) -> tuple[CheckResult, ...]:
    """Return the results about rows that were counted in groups (`RowEvidence.groups`)."""
    return tuple(_of_groups(judgement.suite, one, groups) for one in judgement.verdicts)


def results_of_files(judgement: Judgement, lines: pl.DataFrame) -> tuple[CheckResult, ...]:
    """Return the results about files (`DayFiles.lines`)."""
    return tuple(_of_lines(judgement.suite, one, lines) for one in judgement.verdicts)


def results_of_facts(
    judgement: Judgement,
    facts: Mapping[str, Any],
    named: Mapping[str, Sequence[str]],
    told: Mapping[str, str],
) -> tuple[CheckResult, ...]:
    """Return the results about one row of facts. `named` are the entry ids behind a fact, `told`
    what is to be said beside its number."""
    return tuple(_of_facts(judgement.suite, one, facts, named, told) for one in judgement.verdicts)


def _of_groups(suite: str, verdict: Verdict, groups: pl.DataFrame) -> CheckResult:
    failing = _with(groups, verdict)
    ids = failing.get_column("entry_id").list.explode(keep_nulls=False, empty_as_null=False)
    return _result(
        suite,
        verdict,
        int(failing.get_column("rows").sum()),
        entry_ids=tuple(ids.head(NAMED_ROWS)),
        observed=_values(verdict.refused),
    )


def _of_lines(suite: str, verdict: Verdict, lines: pl.DataFrame) -> CheckResult:
    failing = _with(lines, verdict)
    return _result(
        suite,
        verdict,
        failing.height,
        files=tuple(failing.get_column("path").head(NAMED_ROWS)),
        observed=_values(verdict.refused),
    )


def _of_facts(
    suite: str,
    verdict: Verdict,
    facts: Mapping[str, Any],
    named: Mapping[str, Sequence[str]],
    told: Mapping[str, str],
) -> CheckResult:
    values = [facts[column] for column in verdict.columns]
    seen = ", ".join(
        f"{column.replace('_', ' ')}: {_number(value)}"
        for column, value in zip(verdict.columns, values, strict=True)
    )
    beside = [told[column] for column in verdict.columns if told.get(column)]
    ids = next((named[column] for column in verdict.columns if named.get(column)), ())
    return _result(
        suite,
        verdict,
        0 if verdict.passed else _amount(values),
        entry_ids=() if verdict.passed else tuple(ids)[:NAMED_ROWS],
        observed="; ".join([seen, *beside]),
    )


def _with(rows: pl.DataFrame, verdict: Verdict) -> pl.DataFrame:
    """Return the rows that have one of the refused values."""
    if len(verdict.columns) == 1:
        return rows.filter(pl.col(verdict.columns[0]).is_in(list(verdict.refused)))
    refused = pl.DataFrame(
        [list(pair) for pair in verdict.refused],
        schema={column: rows.schema[column] for column in verdict.columns},
        orient="row",
    )
    return rows.join(refused, on=verdict.columns, how="semi", maintain_order="left")


def _result(suite: str, verdict: Verdict, failures: int, **seen: Any) -> CheckResult:
    return CheckResult(
        name=verdict.check,
        meaning=verdict.protects,
        passed=verdict.passed,
        failures=failures,
        suite=suite,
        severity=verdict.severity,
        judged=verdict.judged,
        **seen,
    )


def _amount(values: Sequence[Any]) -> int:
    """How many entries a number is off by; a share is off, but by no entries."""
    if len(values) == 1:
        return int(values[0])
    return round(abs(values[0] - values[1])) if all(isinstance(v, int) for v in values) else 0


def _number(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:,}" if isinstance(value, int) else f"{value:.0%}"


def _values(refused: Sequence[Any]) -> str:
    told = ", ".join(
        " and ".join(map(str, value)) if isinstance(value, tuple) else repr(str(value))
        for value in refused[:TOLD_VALUES]
    )
    more = len(refused) - TOLD_VALUES
    return f"{told} and {more:,} other values" if more > 0 else told
