"""The documentation names what there is: settings, names, query keys, commands, deployments.

Each test goes both ways where it can: nothing undocumented, and nothing documented that is gone.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import claude_max_audit
from audit_flows.cli import COMMANDS
from audit_flows.run_in_process import JOBS
from claude_max_audit import errors
from claude_max_audit.query import QUERY_KEYS
from claude_max_audit.settings import ENVIRONMENT, load_settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "bench/**/*.md")
    for page in ROOT.glob(pattern)
)
PACKAGES = {
    "ingest": "claude_max_audit",
    "storage": "audit_storage",
    "quality": "audit_quality",
    "flows": "audit_flows",
}


@cache
def page(name: str) -> str:
    """The text of a page of docs/."""
    return (DOCS / name).read_text()


def first_cells(text: str, heading: str) -> list[str]:
    """The code words in the first column of the table whose first heading is `heading`."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    assert table is not None, f"no table with the first column {heading!r}"
    cells = [row.split("|")[1] for row in table[1].splitlines()]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def mentions(text: str, name: str) -> bool:
    """Whether `text` has `name` in code, as a whole word."""
    word = re.escape(name)
    return re.search(rf"`(?:[^`\n]*[^\w`-])?{word}(?:[^\w`-][^`\n]*)?`", text) is not None


def test_every_setting_is_documented() -> None:
    rows = first_cells(page("settings.md"), "variable")
    assert sorted(rows) == sorted(ENVIRONMENT.values())


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_setting_s_row_tells_its_name_and_default(name: str, tmp_path: Path) -> None:
    default = getattr(load_settings(environ={}, home=tmp_path), name)
    row = next(line for line in page("settings.md").splitlines() if ENVIRONMENT[name] in line)
    _, _, in_code, told, *_ = row.split("|")
    assert in_code.strip() == f"`{name}`"
    if isinstance(default, int) or name == "embedder":
        assert told.strip() == str(default)
    else:
        assert told.strip()


def test_every_setting_has_a_docstring_that_names_its_variable() -> None:
    source = (ROOT / "ingest/claude_max_audit/settings.py").read_text()
    for name, variable in ENVIRONMENT.items():
        assert re.search(rf"^    {name}: .*\n    \"\"\"`{variable}`", source, re.M), name


def test_every_public_name_is_documented() -> None:
    assert set(first_cells(page("library.md"), "name")) == set(claude_max_audit.__all__)


def test_every_query_key_is_documented() -> None:
    assert set(first_cells(page("library.md"), "query key")) == set(QUERY_KEYS)


def test_every_argument_of_the_auditor_is_documented() -> None:
    signature = inspect.signature(claude_max_audit.ClaudeMaxAuditor)
    assert set(first_cells(page("library.md"), "argument")) == set(signature.parameters)


def test_every_call_of_the_auditor_is_documented() -> None:
    calls = [
        name
        for name, member in vars(claude_max_audit.ClaudeMaxAuditor).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]
    assert "log_message" in calls
    assert [name for name in calls if not mentions(page("library.md"), name)] == []


@pytest.mark.parametrize(
    "call",
    [
        "log_message",
        "log_context_access",
        "log_decision",
        "log_security_event",
        "log_performance_metric",
    ],
)
def test_every_argument_of_a_log_call_is_documented(call: str) -> None:
    row = next(line for line in page("library.md").splitlines() if line.startswith(f"| `{call}`"))
    of_all = {"self", "retention", "timestamp", "parent_id"}
    given = set(inspect.signature(getattr(claude_max_audit.ClaudeMaxAuditor, call)).parameters)
    assert [name for name in sorted(given - of_all) if not re.search(rf"\b{name}\b", row)] == []


@pytest.mark.parametrize("shape", ["AuditQueryResult", "PerformanceMetrics"])
def test_every_field_of_an_answer_is_documented(shape: str) -> None:
    fields = getattr(claude_max_audit, shape).__dataclass_fields__
    assert [name for name in fields if not mentions(page("library.md"), name)] == []


def test_every_error_is_documented() -> None:
    known = {
        name
        for name, member in vars(errors).items()
        if inspect.isclass(member) and issubclass(member, errors.AuditError)
    }
    assert set(first_cells(page("library.md"), "error")) == known - {"AuditError"}


def test_every_command_is_documented() -> None:
    headings = set(re.findall(r"^### `([a-z-]+)`", page("cli.md"), re.M))
    assert headings == set(COMMANDS)


def test_every_deployment_is_documented() -> None:
    jobs = {entrypoint: job for job, entrypoint in JOBS.items()}
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    names = [f"{jobs[one['entrypoint']]}/{one['name']}" for one in deployments]
    assert {name.partition("/")[0] for name in names} == set(JOBS)
    assert sorted(first_cells(page("flows.md"), "job")) == sorted(JOBS)
    assert [name for name in names if not mentions(page("flows.md"), name)] == []


@pytest.mark.parametrize("source", PACKAGES)
def test_every_module_is_on_the_map(source: str) -> None:
    """docs/architecture.md names each module, and each subpackage by its folder."""
    text = page("architecture.md")
    folder = ROOT / source / PACKAGES[source]
    modules = {path.name for path in folder.glob("*.py") if path.name != "__init__.py"}
    modules |= {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert [name for name in sorted(modules) if not mentions(text, name)] == []


def test_the_map_names_no_module_that_is_gone() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", page("architecture.md")))
    there = {
        str(path.relative_to(base))
        for source, package in PACKAGES.items()
        for base in (ROOT, ROOT / source, ROOT / source / package)
        for path in base.rglob("*.py")
        if ".venv" not in path.parts
    }
    assert sorted(named - there) == []


def test_the_readme_s_program_prints_what_the_readme_says(
    redis_url: str, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text()
    told = re.search(r"```python\n([\s\S]+?)```\n\nprints\n\n((?: {4}.+\n)+)", readme)
    assert told is not None
    place = {"AUDIT_HOME": str(tmp_path), "AUDIT_REDIS_URL": redis_url, "AUDIT_EMBEDDER": "none"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", told[1]],
        env={**os.environ, **place},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert without_ids(done.stdout) == without_ids(told[2].replace("    ", ""))


def without_ids(text: str) -> str:
    """The text with every UUID as x."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "x", text)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^(?: {4}.*|```[\s\S]*?^```)$", "", path.read_text(), flags=re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        leads_to = (path.parent / file).resolve() if file else path
        assert leads_to.exists(), f"{path.name} links to {target}"
        if anchor:
            assert anchor in anchors(leads_to), f"{path.name} links to {target}"


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings have."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_of_the_project_exist(path: Path) -> None:
    """A path in code, such as `tests/test_docs.py`, is a file of the project."""
    roots = "|".join((*PACKAGES, "tests", "docs", "bench"))
    for name in re.findall(rf"`((?:{roots})/[\w./-]+\.\w+)`", path.read_text()):
        assert (ROOT / name).exists(), f"{path.name} names {name}"
