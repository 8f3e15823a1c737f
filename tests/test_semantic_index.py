"""Vectors of a month: found by nearness, whole after every stop, gone when forgotten."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit_storage.index import semantic_index
from audit_storage.index.minilm import Vectors
from audit_storage.index.month import MonthDamagedError
from audit_storage.index.semantic_index import OPEN_MONTHS, SemanticIndex

MONTH = "2025-11"
MODEL = "test-model"


def some_vectors(number: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(number, 32)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def ids(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{n}" for n in range(number)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


@pytest.fixture
def index(folder: Path) -> Iterator[SemanticIndex]:
    index = SemanticIndex(folder, MODEL)
    yield index
    index.close()


def _chroma(folder: Path) -> Path:
    (found,) = [path for path in folder.iterdir() if path.is_dir()]
    return found


def test_the_nearest_come_first_with_their_cosine(index: SemanticIndex) -> None:
    vectors = some_vectors(50, 1)
    index.add(MONTH, ids("a", 50), vectors)
    found = index.nearest(MONTH, vectors[7], 50)
    cosines = vectors @ vectors[7]
    assert [one for one, _ in found] == [f"a{row}" for row in np.argsort(-cosines)]
    np.testing.assert_allclose([c for _, c in found], np.sort(cosines)[::-1], atol=1e-5)
    assert index.nearest("2031-01", vectors[7], 5) == []


def test_adding_again_changes_nothing(index: SemanticIndex) -> None:
    for _ in range(2):
        index.add(MONTH, ids("a", 20), some_vectors(20, 1))
    assert index.count(MONTH) == 20
    assert index.held(MONTH, ["a0", "a19", "a20"]) == {"a0", "a19"}
    assert index.months() == [MONTH]


def test_the_nearest_among_given_ids(index: SemanticIndex) -> None:
    vectors = some_vectors(50, 1)
    index.add(MONTH, ids("a", 50), vectors)
    found = index.nearest(MONTH, vectors[7], 10, among=["a3", "a9", "unknown"])
    assert {one for one, _ in found} == {"a3", "a9"}
    assert index.nearest(MONTH, vectors[7], 10, among=["unknown"]) == []
    assert index.nearest(MONTH, vectors[7], 10, among=[]) == []


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_semantic_index import MODEL, MONTH, ids, some_vectors
from audit_storage.index.semantic_index import SemanticIndex
index, who = SemanticIndex(Path(sys.argv[1]), MODEL), sys.argv[2]
vectors = some_vectors(1500, ord(who))
for start in range(0, 1500, 500):
    index.add(MONTH, ids(who, 1500)[start:start + 500], vectors[start:start + 500])
index.close()
"""


def _write_elsewhere(folder: Path, who: str) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(folder), who, tests])


def test_what_other_processes_write_is_found(index: SemanticIndex, folder: Path) -> None:
    own = some_vectors(100, 1)
    index.add(MONTH, ids("own", 100), own)
    assert index.nearest(MONTH, own[3], 1)[0][0] == "own3"
    writers = [_write_elsewhere(folder, who) for who in "xy"]
    while any(writer.poll() is None for writer in writers):
        assert index.nearest(MONTH, own[3], 1)[0][0] == "own3"
        index.add(MONTH, ids("own", 100), own)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert index.count(MONTH) == 3100
    for who in "xy":
        assert index.nearest(MONTH, some_vectors(1500, ord(who))[777], 1)[0][0] == f"{who}777"
    assert index.nearest(MONTH, own[3], 1)[0][0] == "own3"


def test_two_indexes_in_one_process_see_each_other(index: SemanticIndex, folder: Path) -> None:
    other = SemanticIndex(folder, MODEL)
    index.add(MONTH, ids("a", 5), some_vectors(5, 1))
    other.add(MONTH, ids("b", 5), some_vectors(5, 2))
    other.close()
    assert index.nearest(MONTH, some_vectors(5, 2)[2], 1)[0][0] == "b2"


def test_the_forgotten_leave_the_disk_and_the_others_stay(
    index: SemanticIndex, folder: Path
) -> None:
    vectors = some_vectors(300, 1)
    index.add(MONTH, ids("a", 300), vectors)
    before = _chroma(folder)
    assert index.forget(MONTH, ["a7", "a9", "unknown"]) == 2
    assert not before.exists()
    assert index.count(MONTH) == 298
    assert index.held(MONTH, ["a7", "a8", "a9"]) == {"a8"}
    for row in (0, 8, 299):
        ((found, cosine),) = index.nearest(MONTH, vectors[row], 1)
        assert found == f"a{row}"
        assert cosine == pytest.approx(1, abs=1e-5)
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert vectors[8].tobytes() in kept
    assert vectors[7].tobytes() not in kept
    assert index.forget(MONTH, ["a7"]) == 0
    assert index.forget("2031-01", ["a7"]) == 0


@pytest.mark.parametrize("moment", ["built", "renamed"])
def test_a_forgetting_that_stops_is_done_by_the_next(
    index: SemanticIndex, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    index.add(MONTH, ids("a", 30), some_vectors(30, 1))
    with monkeypatch.context() as broken:
        if moment == "built":
            broken.setattr(Path, "rename", _stop)
        else:
            broken.setattr(semantic_index, "_survivors", _stop_at_the_sweep(broken))
        with pytest.raises(KeyboardInterrupt):
            index.forget(MONTH, ["a7"])
    left = {"built": {"a7", "a8"}, "renamed": {"a8"}}[moment]
    assert index.held(MONTH, ["a7", "a8"]) == left
    assert index.forget(MONTH, ["a7"]) == len(left) - 1
    assert index.held(MONTH, ["a7", "a8"]) == {"a8"}
    assert _chroma(folder).suffix != semantic_index._BUILDING


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _stop_at_the_sweep(broken: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let the survivors be written, and stop before the old folder is removed."""
    survivors = semantic_index._survivors

    def first_half(*given: Any) -> Any:
        broken.setattr(SemanticIndex, "_sweep", _stop)
        return survivors(*given)

    return first_half


def test_vectors_of_another_model_are_not_compared(index: SemanticIndex, folder: Path) -> None:
    index.add(MONTH, ids("a", 5), some_vectors(5, 1))
    other = SemanticIndex(folder, "another-model")
    with pytest.raises(MonthDamagedError, match="test-model"):
        other.nearest(MONTH, some_vectors(1, 1)[0], 1)
    with pytest.raises(MonthDamagedError, match="test-model"):
        other.add(MONTH, ids("b", 5), some_vectors(5, 2))
    assert other.forget(MONTH, ["a0"]) == 1
    assert index.count(MONTH) == 4


@pytest.mark.parametrize("damage", ["database", "database gone", "graph", "graph gone", "mark"])
def test_damage_is_named_and_a_dropped_month_starts_anew(
    index: SemanticIndex, folder: Path, damage: str
) -> None:
    vectors = some_vectors(2500, 1)  # enough that Chroma has put its graph on disk
    index.add(MONTH, ids("a", 2500), vectors)
    index.close()
    _damage(_chroma(folder), damage)
    for _ in range(2):
        with pytest.raises(MonthDamagedError, match="2025-11"):
            index.nearest(MONTH, vectors[7], 200)
    index.drop(MONTH)
    assert index.months() == []
    index.add(MONTH, ids("a", 10), vectors[:10])
    assert index.nearest(MONTH, vectors[7], 1)[0][0] == "a7"


def _damage(chroma: Path, damage: str) -> None:
    (graph,) = [path for path in chroma.iterdir() if path.is_dir()]
    if damage == "database":
        (chroma / "chroma.sqlite3").write_bytes(b"garbage " * 512)
    elif damage == "database gone":
        (chroma / "chroma.sqlite3").unlink()
    elif damage == "graph":
        (graph / "header.bin").write_bytes(b"\xff" * 100)
    elif damage == "graph gone":
        shutil.rmtree(graph)
    else:
        (chroma / "written").write_text("{")


def test_only_so_many_months_stay_open(index: SemanticIndex) -> None:
    months = [f"{2020 + n // 12}-{n % 12 + 1:02d}" for n in range(OPEN_MONTHS + 2)]
    for seed, month in enumerate(months):
        index.add(month, ids(month, 3), some_vectors(3, seed))
    assert len(semantic_index._open_months) == OPEN_MONTHS
    for seed, month in enumerate(months):
        assert index.nearest(month, some_vectors(3, seed)[1], 1)[0][0] == f"{month}1"
    assert index.months() == months
    index.close()
    assert not semantic_index._open_months
