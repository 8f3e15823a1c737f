"""Takes the pictures: web pages through a headless Chromium, terminals as a window of text.

Owns playwright, which drives the Chromium of this machine and brings none. A page may load from
this machine only; whatever else it asks for is refused, so a picture shows what an offline
user sees. Every picture is a PNG of at most `MOST_BYTES`, or it is an error.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

MOST_BYTES = 200_000
"""Pictures are in the repository, and every clone pays for them."""

WAIT_MS = 60_000
"""How long a page may take until what it should show is there."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_WINDOW = """\
<!DOCTYPE html><html><head><meta charset="UTF-8"><style>
body {{ margin: 0; background: #fff; }}
#window {{ display: inline-block; background: {background}; color: {foreground};
  border-radius: 8px; padding: 12px 16px 14px; }}
#dots {{ height: 12px; margin-bottom: 10px; }}
#dots i {{ display: inline-block; width: 11px; height: 11px; border-radius: 50%;
  margin-right: 7px; background: #5c5f66; }}
pre {{ margin: 0; font: 13px/16px "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
</style></head><body><div id="window"><div id="dots"><i></i><i></i><i></i></div>
<pre>{code}</pre></div></body></html>
"""


class PictureError(Exception):
    """A picture could not be taken, or is not fit to be kept; the message says why."""


class Camera:
    """Open it with `with`: one browser for all pictures.

    While it is open, playwright's event loop runs in this thread; run no flows in it meanwhile.
    """

    def __init__(self) -> None:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is None:
            raise PictureError(f"no browser found: install one of {', '.join(BROWSERS)}")
        self._path = found

    def __enter__(self) -> Camera:
        self._driver = sync_playwright().start()
        self._browser = self._driver.chromium.launch(executable_path=self._path, args=ARGUMENTS)
        self._context = self._browser.new_context(timezone_id="UTC", locale="en-GB")
        self._context.set_default_timeout(WAIT_MS)
        self._context.route("**/*", _only_from_here)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._context.close()
        self._browser.close()
        self._driver.stop()

    def page(self, url: str, wait_for: Sequence[str], size: tuple[int, int], to: Path) -> None:
        """Take a web page as soon as all of these texts can be seen on it."""
        page = self._context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        try:
            page.goto(url)
            for text in wait_for:
                page.get_by_text(text).first.wait_for(state="visible")
            _settle(page)
        except PlaywrightTimeout as late:
            raise PictureError(f"{to.name}: {text!r} was not seen at {url}") from late
        else:
            _keep(page.screenshot(animations="disabled"), to)
        finally:
            page.close()

    def terminal(self, said: str, columns: int, to: Path) -> None:
        """Take what a terminal shows, colours included, as a window of so many columns."""
        console = Console(
            record=True,
            width=columns,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
        )
        console.print(Text.from_ansi(said), end="")
        html = console.export_html(
            theme=SVG_EXPORT_THEME, code_format=_WINDOW, inline_styles=True
        )
        page = self._context.new_page()
        try:
            page.set_content(html)
            _settle(page)
            _keep(page.locator("#window").screenshot(omit_background=True), to)
        finally:
            page.close()


def _only_from_here(route: Route) -> None:
    if urlsplit(route.request.url).hostname in (None, "127.0.0.1", "localhost"):
        route.continue_()
    else:
        route.abort()


def _settle(page: Page) -> None:
    """Wait until the fonts are there and two frames were drawn with them."""
    page.evaluate("() => document.fonts.ready.then(() => undefined)")
    page.evaluate("() => new Promise(done => requestAnimationFrame("
                  "() => requestAnimationFrame(() => done())))")  # fmt: skip


def _keep(picture: bytes, to: Path) -> None:
    if len(picture) > MOST_BYTES:
        raise PictureError(
            f"{to.name} has {len(picture):,} bytes, more than {MOST_BYTES:,}: show less of the page"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(picture)
