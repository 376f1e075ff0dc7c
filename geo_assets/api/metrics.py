"""Metrics of the whole service for Prometheus. Whoever may read may scrape.

Here: the route, metrics in the form that a client asks for, and how often and how long the database is asked. Not here:
what is asked (`ledger/measurements.py`).
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from geo_assets import __version__
from geo_assets.accounts import LocalAccount
from geo_assets.api.dependencies import scope
from geo_assets.database.connections import KeptConnection
from geo_assets.ledger import measurements
from geo_assets.ledger.measurements import Answer
from geo_assets.settings import Settings

T = TypeVar("T")

router = APIRouter(tags=["health"], dependencies=[scope("read")])

#: Scrapes within this time have the same answer: several servers of Prometheus cost as much as one.
_FRESH_SECONDS = 1.0

#: A scrape waits no longer: Prometheus gives up after 10 s, and would not know which part does not answer.
_PATIENCE_SECONDS = 5.0

_TYPES, _TEXT = ("text/plain", "application/openmetrics-text"), {"schema": {"type": "string"}}


@router.get("/metrics", response_class=Response, responses={200: {"content": dict.fromkeys(_TYPES, _TEXT)}})
def metrics(request: Request) -> Response:
    """The state of jobs, files, messages, the database and Dagster, as Prometheus or OpenMetrics reads it."""
    registry: CollectorRegistry = request.app.state.metrics
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"Content-Type": media_type})


@contextmanager
def registry_of(settings: Settings) -> Iterator[CollectorRegistry]:
    """The registry that collects the metrics of this service, and nothing of this process alone."""
    with KeptConnection(settings) as connection:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Service(settings, connection))
        yield registry


class _Latest(Generic[T]):
    """Asks at most once at a time, in a thread of its own, and not again while the answer is fresh: what hangs holds up
    no other request, and questions do not pile up.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._begun = -math.inf
        self._answer: Future[T] | None = None

    def __call__(self) -> Future[T]:
        """The answer that is fresh, or under way."""
        with self._lock:
            now = time.monotonic()
            if self._answer is None or (self._answer.done() and now - self._begun > _FRESH_SECONDS):
                self._begun, self._answer = now, Future()
                Thread(target=self._do, args=(self._answer,), name="metrics", daemon=True).start()
            return self._answer

    def _do(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._ask())
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            answer.set_exception(error)


class _Service(Collector):
    """All metrics: what the database says, and what this machine says."""

    def __init__(self, settings: Settings, connection: KeptConnection) -> None:
        self._connection = connection
        self._answers = _Latest(self._ask)
        self._disks = _Latest(partial(_free_disks, settings))

    def collect(self) -> Iterator[Metric]:
        """The metrics; what does not answer is left out, and it is said whether that was the database."""
        started = time.monotonic()
        asked, disks = self._answers(), self._disks()
        both: tuple[Future[Any], ...] = (asked, disks)
        wait(both, timeout=_PATIENCE_SECONDS)
        answers = _answer("the database", asked, [])
        for answer in answers:
            yield from _families(answer)
        free = GaugeMetricFamily("geo_assets_free_disk_bytes", "Room for files, as the API sees it.", labels=["place"])
        for place, room in _answer("the disks", disks, {}).items():
            free.add_metric([place], room)
        yield free
        yield InfoMetricFamily("geo_assets_build", "The release that serves.", value={"version": __version__})
        yield GaugeMetricFamily("geo_assets_scrape_ok", "Whether the database answered: 0 or 1.", value=bool(answers))
        yield GaugeMetricFamily(
            "geo_assets_scrape_duration_seconds", "How long it took.", value=time.monotonic() - started
        )

    def _ask(self) -> list[Answer]:
        with self._connection() as conn:
            return list(measurements.ask(conn))


def _answer(whose: str, asked: Future[T], otherwise: T) -> T:
    try:
        return asked.result(timeout=0)
    except Exception as error:  # noqa: BLE001 - whatever it is, the rest is scraped
        logging.getLogger(__name__).warning("no metrics of %s: %s: %s", whose, type(error).__name__, error)
        return otherwise


def _families(answer: Answer) -> Iterator[Metric]:
    for metric in answer.question.metrics:
        if metric.kind == "histogram":
            yield _histogram(metric, answer)
            continue
        family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(
            metric.name, metric.help, labels=answer.question.labels
        )
        for row in answer.rows:
            if row[metric.column] is not None:
                family.add_metric([str(row[label]) for label in answer.question.labels], float(row[metric.column]))
        yield family


def _histogram(metric: measurements.Metric, answer: Answer) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.help, labels=answer.question.labels)
    buckets: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    sums: dict[tuple[str, ...], float] = {}
    for row in answer.rows:
        series = tuple(str(row[label]) for label in answer.question.labels)
        bound = repr(row[f"{metric.column}_le"]).replace("inf", "+Inf")
        buckets.setdefault(series, []).append((bound, float(row[f"{metric.column}_count"])))
        sums[series] = float(row[f"{metric.column}_sum"])
    for series, counts in buckets.items():
        family.add_metric(series, counts, sum_value=sums[series])
    return family


def _free_disks(settings: Settings) -> dict[str, int]:
    """Free bytes for scratch files, and in accounts that are directories; a place that cannot be asked is left out."""
    folders = {"scratch": settings.home / "scratch"} | {
        f"account {alias}": account.root
        for alias, account in settings.storage_accounts.items()
        if isinstance(account, LocalAccount) and account.root
    }
    free = {}
    for place, folder in folders.items():
        there = next(path for path in (folder, *folder.parents) if path.is_dir())  # where it is, or will be made
        with suppress(OSError):
            free[place] = shutil.disk_usage(there).free
    return free
