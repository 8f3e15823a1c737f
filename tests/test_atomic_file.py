"""A file under its final name is whole; what dead writers left is swept, and nothing else."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from audit_storage.atomic_file import PARTIAL_SUFFIX, atomic_file, sweep_partials


def names(folder: Path) -> list[str]:
    """Return the names of everything in the folder."""
    return sorted(entry.name for entry in folder.iterdir())


def test_the_file_appears_whole_and_private(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with atomic_file(target, overwrite=False) as file:
        file.write(b"one\n")
        assert not target.exists()
        file.write(b"two\n")
    assert target.read_bytes() == b"one\ntwo\n"
    assert file.sha256 == sha256(b"one\ntwo\n").hexdigest()
    assert file.bytes_written == 8
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert names(tmp_path) == ["out.jsonl"]


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def stop_halfway() -> None:
        with atomic_file(tmp_path / "out", overwrite=True) as file:
            file.write(b"half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_halfway()
    assert names(tmp_path) == []


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def lose_the_race() -> None:
        with atomic_file(target, overwrite=False) as file:
            file.write(b"second")
            target.write_bytes(b"first")

    with pytest.raises(FileExistsError):
        lose_the_race()
    assert target.read_bytes() == b"first"
    assert names(tmp_path) == ["out"]


def test_a_folder_without_hard_links_is_served_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with atomic_file(tmp_path / "out", overwrite=False) as file:
        file.write(b"whole")
    assert names(tmp_path) == ["out"]


def test_a_long_final_name_does_not_lengthen_the_partial_one(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with atomic_file(target, overwrite=False) as file:
        file.write(b"whole")
    assert target.read_bytes() == b"whole"


def test_the_sweep_takes_a_killed_writer_s_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from audit_storage.atomic_file import atomic_file\n"
        "with atomic_file(Path(sys.argv[1]) / 'out', overwrite=False) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert len(names(tmp_path)) == 1
    assert len(sweep_partials(tmp_path)) == 1
    assert names(tmp_path) == []


def test_the_sweep_spares_a_living_writer_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / f"report{PARTIAL_SUFFIX}").write_bytes(b"no dot before it: not ours")
    (tmp_path / ".hidden").write_bytes(b"not ours")
    with atomic_file(tmp_path / "out", overwrite=False) as file:
        file.write(b"whole")
        assert sweep_partials(tmp_path) == []
    assert names(tmp_path) == [".hidden", "out", f"report{PARTIAL_SUFFIX}"]
