"""The project as it is shipped: what the wheel holds, what it needs, what the locks pin.

The built wheel is installed into an empty environment with redis and msgspec alone, and an
agent's work is done there against a real Redis.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("claude_max_audit", "audit_storage", "audit_quality", "audit_flows")
BASE = ("hiredis", "msgspec", "redis")
OF_REDIS = ("async-timeout",) if sys.version_info < (3, 11, 3) else ()
"""What redis-py itself brings along on the oldest Pythons."""
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)((?: \\\n    --hash=\S+)+)$", re.M)


def said_by(*command: str | Path) -> str:
    """Run a command to its end; what it printed, or a failure that shows it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=170,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def pins(lock: str) -> dict[str, re.Match[str]]:
    """The lock's pins by canonical name."""
    text = (ROOT / lock).read_text()
    return {canonicalize_name(match["name"]): match for match in _PIN.finditer(text)}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The project table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    said_by(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, ROOT),
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def base_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel, redis, hiredis and msgspec only."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False)
    lock = folder / "base.lock"
    pinned = pins("requirements.lock")
    lock.write_text("".join(f"{pinned[name][0]}\n" for name in (*BASE, *OF_REDIS)))
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    said_by(*pip, "--require-hashes", "-r", lock)
    said_by(*pip, wheel)
    return python


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_brings_the_definition_of_the_deployments(wheel: Path) -> None:
    """`claude-audit up` registers it where there is no checkout."""
    shipped = zipfile.ZipFile(wheel).read("audit_flows/prefect.yaml")
    assert shipped == (ROOT / "prefect.yaml").read_bytes()


def test_the_base_install_needs_redis_and_msgspec_only(project: dict[str, Any]) -> None:
    assert {Requirement(line).name for line in project["dependencies"]} == {"redis", "msgspec"}


@pytest.mark.parametrize("extra", ["", "platform", "dev"])
def test_the_lock_pins_what_the_project_asks_for(project: dict[str, Any], extra: str) -> None:
    locked = pins("requirements.lock")
    asked = project["optional-dependencies"][extra] if extra else project["dependencies"]
    for requirement in map(Requirement, asked):
        assert canonicalize_name(requirement.name) in locked, f"{requirement}: run `make lock`"
        version = locked[canonicalize_name(requirement.name)]["version"]
        assert version in requirement.specifier, f"{requirement} against {version}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-model.lock"])
def test_a_lock_holds_pins_with_hashes_and_names_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pinned = "\n".join(match[0] for match in pins(lock).values()).splitlines()
    assert lines == pinned
    assert not re.search(r"://|file:/|--index|--find-links|--trusted-host", text)


def test_the_base_environment_has_all_that_the_wheel_asks_for(base_python: Path) -> None:
    assert "No broken requirements" in said_by(
        sys.executable, "-m", "pip", "--python", base_python, "check"
    )


def test_importing_the_library_brings_none_of_the_platform(base_python: Path) -> None:
    said = said_by(base_python, "-X", "importtime", "-c", "import claude_max_audit")
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines()}
    assert "claude_max_audit.auditor" in imported
    heavy = ("prefect", "chromadb", "polars", "pyarrow", "great_expectations", "redis")
    assert imported.isdisjoint(heavy)


def test_an_agent_works_with_the_base_install(
    base_python: Path, redis_url: str, tmp_path: Path
) -> None:
    said = said_by(
        base_python, "-W", "error", ROOT / "tests/base_leg/leg.py", redis_url, tmp_path / "home"
    )
    assert said.splitlines()[-1] == "cold days: named as missing"


def test_imports_go_one_way() -> None:
    said_by(Path(sys.executable).with_name("lint-imports"), "--no-cache")
