"""Great Expectations, the judge of every suite. Owns that library: nothing else imports it.

What it is given is compact: one row for each distinct combination of what rows of a day look
like, or one row of facts about a day, a month, all years. So it judges real values, and a day of a
million entries costs it no more than a day of ten. The context lives in memory, analytics are
off, no connection is opened, and nothing is changed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from audit_quality.suite_file import columns_of, suite_of

# Read when the library is imported; with analytics on, every context would report its use.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports `sre_constants`
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the library said of one expectation. `refused` are the values that it refuses, each
    once; of a pair of columns, pairs. `judged` is False where every value was missing."""

    check: str
    protects: str
    severity: str
    columns: tuple[str, ...]
    passed: bool
    judged: bool
    refused: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A suite's verdicts in its order, and the library's whole result as JSON values."""

    suite: str
    verdicts: tuple[Verdict, ...]
    evidence: Mapping[str, Any]


def judge(name: str, frame: pl.DataFrame, parameters: Mapping[str, Any]) -> Judgement:
    """Hold a frame with a suite's columns against the suite.

    Raises `RuntimeError` when the library could not evaluate an expectation: a check that did
    not run is no check that passed.
    """
    batch = _batches().get_batch({"dataframe": frame.select(columns_of(name)).to_pandas()})
    result = batch.validate(
        _suite(name),
        result_format={"result_format": "COMPLETE"},
        expectation_parameters=dict(parameters),
    )
    found = {one.expectation_config.meta["check"]: one for one in result.results}
    names = [one["meta"]["check"] for one in suite_of(name)["expectations"]]
    return Judgement(name, tuple(_verdict(found[check]) for check in names), result.to_json_dict())


@cache
def _batches() -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("lake").add_dataframe_asset("evidence")
    return asset.add_batch_definition_whole_dataframe("whole")


def _suite(name: str) -> gx.ExpectationSuite:
    written = suite_of(name)
    return gx.ExpectationSuite(
        name=written["name"], meta=written["meta"], expectations=written["expectations"]
    )


def _verdict(outcome: Any) -> Verdict:
    configuration = outcome.expectation_config
    check = configuration.meta["check"]
    if outcome.exception_info.get("raised_exception", True):
        raise RuntimeError(f"{check} could not be evaluated: {outcome.exception_info}")
    seen = outcome.result
    kwargs = configuration.kwargs
    return Verdict(
        check=check,
        protects=configuration.meta["protects"],
        severity=str(configuration.severity.value),
        columns=tuple(kwargs[k] for k in ("column", "column_A", "column_B") if k in kwargs),
        passed=bool(outcome.success),
        judged=not seen["element_count"] or seen["missing_count"] < seen["element_count"],
        refused=tuple(dict.fromkeys(seen["unexpected_list"])),
    )
