"""The page that Prometheus scrapes: GET /metrics over HTTP. Owns the prometheus-client library.

`claude-audit metrics --serve` opens it, and whoever runs several services in one process may
too. It listens on this machine only unless told otherwise: the figures name no agent and no
content, but there is no password on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from audit_flows.exporter.figures import FIGURES, PREFIX, Figure, Sample
from audit_flows.exporter.scrape import DEADLINE_SECONDS, Scraper
from audit_flows.exporter.sources import sources_of
from claude_max_audit.settings import Settings

DEFAULT_HOST = "127.0.0.1"
"""Reached from this machine only: a scraper elsewhere is let in by naming another address."""

DEFAULT_PORT = 9779
"""Among Prometheus' exporters, and none of the well-known ones."""


class MetricsEndpoint:
    """Open it with `with`: it serves, in threads of its own, until the context closes.

    Port 0 takes a free one; `url` tells which. Raises `OSError` where the address is taken.
    """

    def __init__(
        self,
        settings: Settings,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._host = host
        self._port = port
        self._registry = CollectorRegistry(auto_describe=False)
        scraper = Scraper(sources_of(settings), deadline_seconds)
        self._registry.register(ScrapedFigures(scraper))

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}/metrics"

    def __enter__(self) -> MetricsEndpoint:
        try:
            self._server, self._thread = start_http_server(
                self._port, addr=self._host, registry=self._registry
            )
        except OSError as refused:
            raise OSError(
                refused.errno,
                f"{self._host}:{self._port} cannot be listened on "
                f"({refused.strerror}); name another with --port or --host",
            ) from refused
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ScrapedFigures(Collector):
    """What the registry asks at each scrape: `Scraper`'s samples in the library's own form."""

    def __init__(self, scraper: Scraper) -> None:
        self._scraper = scraper

    def collect(self) -> Iterator[Metric]:
        """Give every figure that has samples now."""
        return families(self._scraper.samples())


def families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """Group samples by figure, in the order of `FIGURES`."""
    by_name: dict[str, list[Sample]] = {name: [] for name in FIGURES}
    for sample in samples:
        by_name[sample.name].append(sample)
    for name, found in by_name.items():
        if found:
            yield _family(name, FIGURES[name], found)


def _family(name: str, figure: Figure, samples: Iterable[Sample]) -> Metric:
    family: GaugeMetricFamily | CounterMetricFamily | SummaryMetricFamily
    if figure.kind == "summary":
        family = SummaryMetricFamily(PREFIX + name, figure.help, labels=figure.labels)
    elif figure.kind == "counter":
        family = CounterMetricFamily(PREFIX + name, figure.help, labels=figure.labels)
    else:
        family = GaugeMetricFamily(PREFIX + name, figure.help, labels=figure.labels)
    for sample in samples:
        if isinstance(family, SummaryMetricFamily):
            assert isinstance(sample.value, tuple)
            count, seconds = sample.value
            family.add_metric(sample.labels, int(count), seconds)
        else:
            assert isinstance(sample.value, int | float)
            family.add_metric(sample.labels, sample.value)
    return family
