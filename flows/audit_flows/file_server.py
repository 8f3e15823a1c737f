"""Serves exports and quality reports to a browser of this machine, read only.

The UI links to them: a page that came by http may not open a `file:` address. Nothing else of the
home is served, nothing is ever written, folders have no listing, and a request that names another
host is refused, so that no page of the world outside can read through it. Started by
`claude-audit up` as `python -m audit_flows.file_server PORT`.
"""

from __future__ import annotations

import sys
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from claude_max_audit.settings import Settings, load_settings

HOST = "127.0.0.1"
LOCAL_NAMES = ("127.0.0.1", "localhost")


def served_folders(settings: Settings) -> dict[str, Path]:
    """Return the first part of an address, and the folder that is behind it."""
    return {"exports": settings.exports, "quality": settings.quality_docs}


def address_of(file: Path, settings: Settings, files_url: str) -> str | None:
    """Return the address at which a file is served; None for one that is not."""
    for name, folder in served_folders(settings).items():
        if file.is_relative_to(folder):
            return f"{files_url}/{name}/{quote(file.relative_to(folder).as_posix())}"
    return None


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *given: object, folders: dict[str, Path]) -> None:
        self._folders = folders
        super().__init__(*given)  # type: ignore[arg-type]

    def send_head(self):  # type: ignore[no-untyped-def]
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in LOCAL_NAMES:
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        return super().send_head()

    def translate_path(self, path: str) -> str:
        """Return the file behind an address; one that does not exist where it may not be read."""
        name, _, rest = unquote(urlsplit(path).path).lstrip("/").partition("/")
        folder = self._folders.get(name)
        if folder is None:
            return "/nonexistent"
        asked = (folder / rest).resolve()
        return str(asked) if asked.is_relative_to(folder.resolve()) else "/nonexistent"

    def list_directory(self, path: object) -> None:
        """Give no listing."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the log; they would fill it."""


def serve(port: int, settings: Settings) -> None:
    """Serve until the process is ended."""
    handler = partial(_Handler, folders=served_folders(settings))
    with ThreadingHTTPServer((HOST, port), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), load_settings())
