"""Makes the pictures of docs/images anew: `make screenshots`.

Each picture is a line of `PICTURES`: a page of Prefect's UI or of the quality reports, or a command
in a terminal. They are
taken on a stage of generated entries (stage.py) by one browser (camera.py); terminals are
shell.py's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit_quality.data_docs.address import address_of
from camera import Camera, PictureError
from shell import Shell
from stage import ROOT, Stage, stage

IMAGES = ROOT / "docs" / "images"

COLUMNS, LINES = 112, 34
"""Of the terminals: large enough for the view, and still readable in a page's column."""


@dataclass(frozen=True, slots=True)
class WebPage:
    """A page of a browser; it is taken when all of `shows` can be seen on it."""

    name: str
    url: Callable[[Stage], str]
    shows: tuple[str, ...]
    size: tuple[int, int] = (1280, 800)
    """Of the browser's window: what a table needs to show all of its columns."""

    def take(self, made: Stage, camera: Camera, to: Path) -> None:
        """Take it."""
        camera.page(self.url(made), self.shows, self.size, to)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `claude-audit` and what it prints."""

    name: str
    arguments: tuple[str, ...]

    def take(self, made: Stage, camera: Camera, to: Path) -> None:
        """Take it."""
        said = Shell(made.environment, COLUMNS, LINES).said(*self.arguments)
        camera.terminal(said, COLUMNS, to)


@dataclass(frozen=True, slots=True)
class LiveView:
    """A command that draws a screen, after some frames of it with traffic."""

    name: str
    arguments: tuple[str, ...]
    frames: int

    def take(self, made: Stage, camera: Camera, to: Path) -> None:
        """Take it."""
        shell = Shell(made.environment, COLUMNS, LINES)
        said = shell.shown(*self.arguments, frames=self.frames, between=made.traffic.some)
        camera.terminal(said, COLUMNS, to)


PICTURES: tuple[WebPage | Command | LiveView, ...] = (
    LiveView("watch", ("watch", "--interval", "1"), frames=36),
    Command("status", ("status",)),
    Command("search", ("search", "--severity", "critical", "--limit", "5")),
    WebPage("prefect-runs", lambda made: f"{made.ui}/runs", ("daily-archive",), (1280, 1240)),
    WebPage(
        "prefect-deployments",
        lambda made: f"{made.ui}/deployments",
        ("retention-purge", "At 02:00 AM"),
        (1560, 920),
    ),
    WebPage(
        "prefect-overview",
        lambda made: f"{made.ui}/artifacts/artifact/{made.artifact('overview')}",
        ("day (UTC)", "sealed"),
        (1400, 860),
    ),
    WebPage(
        "prefect-history",
        lambda made: f"{made.ui}/artifacts/artifact/{made.artifact('daily-archive')}",
        ("released",),
        (1560, 760),
    ),
    WebPage(
        "quality-report",
        lambda made: address_of(made.settings.quality_docs, made.last_day),
        ("checks passed",),
        (1280, 1000),
    ),
)
"""Every picture, in the order in which they are taken."""


def main() -> int:
    """Take all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [picture.name for picture in PICTURES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="FOLDER")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no such picture: {', '.join(sorted(unknown))}")
    try:
        camera = Camera()
        with stage(lambda line: print(line, flush=True)) as made, camera:
            for picture in PICTURES:
                if not args.names or picture.name in args.names:
                    to = args.to / f"{picture.name}.png"
                    picture.take(made, camera, to)
                    print(f"{to.name}  {to.stat().st_size / 1000:.0f} kB", flush=True)
    except PictureError as failed:
        print(f"screenshots: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
