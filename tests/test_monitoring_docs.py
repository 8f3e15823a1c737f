"""The dashboard, the alert rules and docs/monitoring.md name the figures that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from audit_flows.exporter.figures import FIGURES, PREFIX

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "monitoring.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((DOCS / "monitoring/grafana-dashboard.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load(
    (DOCS / "monitoring/prometheus-rules.yml").read_text()
)["groups"][0]["rules"]
PANELS: list[dict[str, Any]] = [one for one in DASHBOARD["panels"] if one["type"] != "row"]
_OF_A_SUMMARY = re.compile(r"(?:_sum|_count)$")


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table whose first heading is this."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.M)
    assert table is not None
    for line in table[1].splitlines():
        yield [cell.strip() for cell in line.split("|")[1:-1]]


def named(expression: str) -> set[str]:
    """The figures in an expression, without the prefix."""
    found = set()
    for name in re.findall(rf"\b{PREFIX}(\w+)", expression):
        base = _OF_A_SUMMARY.sub("", name)
        of_summary = base != name and base in FIGURES and FIGURES[base].kind == "summary"
        found.add(base if of_summary else name)
    return found


def test_every_figure_is_documented_with_its_kind_and_labels() -> None:
    told = {name.strip("`"): (kind, labels) for name, kind, labels, _ in rows("metric")}
    there = {
        PREFIX + name: (figure.kind, ", ".join(f"`{label}`" for label in figure.labels))
        for name, figure in FIGURES.items()
    }
    assert told == there


def test_every_expression_of_the_dashboard_is_of_figures_that_there_are() -> None:
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert len(expressions) > len(PANELS) > 20
    for expression in expressions:
        assert named(expression), expression
        assert named(expression) <= set(FIGURES), expression


def test_the_dashboard_shows_every_figure() -> None:
    shown = set().union(*(named(t["expr"]) for panel in PANELS for t in panel["targets"]))
    asked_otherwise = {"build_info", "job_last_run_timestamp_seconds", "hot_days"}
    asked_otherwise |= {"job_last_success_timestamp_seconds"}
    assert shown | asked_otherwise == set(FIGURES)


def test_the_dashboard_asks_the_data_source_that_was_chosen() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["datasource"] == chosen
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            assert target["expr"].count("{") == target["expr"].count('instance=~"$instance"')
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["id"] is None


def test_every_panel_has_a_unit_thresholds_and_a_place_of_its_own() -> None:
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in PANELS:
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"][0]["value"] is None, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    assert one["x"] + one["w"] <= 24
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_is_of_figures_that_there_are(rule: dict[str, Any]) -> None:
    assert named(rule["expr"])
    assert named(rule["expr"]) <= set(FIGURES)
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]


def test_every_alert_is_documented() -> None:
    told = sorted(name.strip("`") for name, *_ in rows("alert"))
    assert told == sorted(rule["alert"] for rule in RULES)
