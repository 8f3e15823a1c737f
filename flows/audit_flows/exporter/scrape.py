"""One scrape: every source is asked at once, and what does not answer in time counts as away.

A store that is away gives `up 0` and none of its other samples, never an error and never a scrape
that lasts. A source that still waits for its store from an earlier scrape is not asked again
beside it. What a source said is told in the log once, when it goes away, and when it is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from threading import Lock, Thread
from time import monotonic

from audit_flows.exporter.figures import Sample
from audit_flows.exporter.sources import Source

DEADLINE_SECONDS = 5.0
"""How long a scrape waits for all stores together: half of Prometheus' own patience."""

_log = logging.getLogger("claude_max_audit.exporter")


class Scraper:
    """Asks the sources. One scrape at a time; others wait for it and then make their own."""

    def __init__(
        self, sources: Sequence[Source], deadline_seconds: float = DEADLINE_SECONDS
    ) -> None:
        self._asked = [_Asked(source) for source in sources]
        self._deadline_seconds = deadline_seconds
        self._one_at_a_time = Lock()
        self._version = version("claude-max-audit")

    def samples(self) -> list[Sample]:
        """Return what the sources said, with `up` of each store; never raises for a store."""
        with self._one_at_a_time:
            began = monotonic()
            until = began + self._deadline_seconds
            now = datetime.now(UTC)
            for asked in self._asked:
                asked.begin(now)
            found = [Sample("build_info", 1, (self._version,))]
            for asked in self._asked:
                found.extend(asked.end(until))
            found.append(Sample("scrape_seconds", monotonic() - began))
            return found


class _Asked:
    """One source and the thread that waits for its answer."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._thread: Thread | None = None
        self._answer: list[Sample] | None = None
        self._name = source.store or type(source).__name__
        self._away = False

    def begin(self, now: datetime) -> None:
        """Ask, unless an earlier question is still open."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._answer = None
        # A daemon, so that a store which never answers holds nobody's end up.
        self._thread = Thread(
            target=self._ask, args=(now,), name=f"scrape-{self._name}", daemon=True
        )
        self._thread.start()

    def end(self, until: float) -> list[Sample]:
        """Return the samples and `up`; wait for them until then (monotonic seconds)."""
        assert self._thread is not None
        self._thread.join(max(until - monotonic(), 0))
        late = self._thread.is_alive()
        if late:
            self._tell_away(_log.warning, "it did not answer in time")
        found = None if late else self._answer
        told = list(found or ())
        if self._source.store is not None:
            told.append(Sample("up", float(found is not None), (self._source.store,)))
        return told

    def _ask(self, now: datetime) -> None:
        try:
            self._answer = list(self._source.samples(now))
        except Exception as failed:  # Whatever it is, the other stores' figures must be served.
            self._tell_away(_log.warning, str(failed) or type(failed).__name__)
        else:
            if self._away:
                self._away = False
                _log.info("metrics: %s answers again", self._name)

    def _tell_away(self, tell: Callable[..., None], why: str) -> None:
        if not self._away:
            self._away = True
            tell("metrics: %s is away: %s", self._name, why)
