"""Short questions over HTTP to the parts of an `up`: does it answer, and what does it say?

The command line asks by this, not by Prefect's client, whose import alone takes a second. Only
addresses that `up` itself chose are asked. Never raises because nobody answers.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

ANSWER_SECONDS = 5.0
"""How long a local server may take to answer before it counts as not answering."""

# A proxy of the environment is for the world outside; this is always our own machine.
_opener = build_opener(ProxyHandler({}))


def answers(url: str) -> bool:
    """Say whether a GET of `url` succeeds."""
    return _asked(Request(url)) is not None


def ask(url: str, body: Any = None) -> Any:
    """Return the JSON answer to a POST of `body`, or None when there is none."""
    answer = _asked(
        Request(
            url,
            data=json.dumps(body or {}).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
    )
    return None if answer is None else json.loads(answer)


def _asked(request: Request) -> bytes | None:
    try:
        with _opener.open(request, timeout=ANSWER_SECONDS) as answer:
            return bytes(answer.read())
    except (URLError, OSError, ValueError):
        return None
