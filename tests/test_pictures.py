"""The pictures of docs/images are there, small, and shown; the tools that make them work."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from camera import BROWSERS, MOST_BYTES, Camera, PictureError
from claude_max_audit.settings import Settings
from screenshots import COLUMNS, LINES, PICTURES
from shell import Shell
from test_docs import PAGES

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SHOWN = "".join(page.read_text() for page in PAGES)


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG (its IHDR chunk)."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


@pytest.mark.parametrize("name", [picture.name for picture in PICTURES])
def test_a_picture_is_kept_small_and_shown(name: str) -> None:
    picture = IMAGES / f"{name}.png"
    assert picture.stat().st_size <= MOST_BYTES
    assert min(size_of(picture)) > 200
    assert re.search(rf"!\[[^\]]+\]\((?:docs/)?images/{name}\.png\)", SHOWN)


def test_no_picture_is_kept_that_nobody_makes() -> None:
    assert {path.stem for path in IMAGES.iterdir()} == {picture.name for picture in PICTURES}


@pytest.fixture
def shell(settings: Settings) -> Shell:
    place = {"AUDIT_HOME": str(settings.home), "AUDIT_REDIS_URL": str(settings.redis_url)}
    return Shell({**os.environ, **place}, COLUMNS, LINES)


def test_a_shell_shows_the_command_and_what_it_said(shell: Shell) -> None:
    said = shell.said("search", "--agent", "no body")
    assert said.startswith('\x1b[1;32m$\x1b[0m \x1b[1mclaude-audit search --agent "no body"\x1b[0m')
    assert "nothing matches" in said


def test_a_shell_shows_a_whole_frame_of_a_live_view(shell: Shell) -> None:
    happened: list[None] = []
    shown = shell.shown(
        *("watch", "--interval", "0.5"), frames=3, between=lambda: happened.append(None)
    )
    assert "Claude Max Audit" in shown
    assert len(shown.splitlines()) == LINES
    assert len(happened) >= 3


@pytest.fixture
def camera() -> Camera:
    try:
        return Camera()
    except PictureError:
        pytest.skip(f"no browser on this machine: {', '.join(BROWSERS)}")


def test_a_terminal_becomes_a_picture(camera: Camera, tmp_path: Path) -> None:
    with camera:
        camera.terminal("\x1b[1mbold\x1b[0m and plain\n", 40, tmp_path / "little.png")
        camera.terminal("row\n" * 10, 80, tmp_path / "large.png")
        page = tmp_path / "page.html"
        page.write_text("<p>Here it is</p><img src='http://example.invalid/x.png'>")
        camera.page(page.as_uri(), ("Here it is",), (300, 200), tmp_path / "page.png")
    little, large = size_of(tmp_path / "little.png"), size_of(tmp_path / "large.png")
    assert large[1] > little[1]
    assert size_of(tmp_path / "page.png") == (300, 200)
