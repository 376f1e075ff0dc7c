"""Metrics of the whole service for Prometheus, and a few of this process. Whoever may read may scrape.

Here: the route, metrics in the form that a client asks for, and how often and how long database, disks and inboxes are
asked. Not here: what is asked (`ledger/measurements.py`), how long requests take (`traffic.py`).
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
from geo_assets.accounts import AzureAccount, LocalAccount
from geo_assets.api.dependencies import scope
from geo_assets.database.connections import KeptConnection, tried_again
from geo_assets.ledger import measurements, questions
from geo_assets.ledger.measurements import Answer
from geo_assets.settings import Settings
from geo_assets.submissions.inboxes.base import Waiting
from geo_assets.submissions.inboxes.intake import waiting

T = TypeVar("T")

Connections = Callable[[], tuple[int, int]]

router = APIRouter(tags=["health"], dependencies=[scope("read")])

#: Scrapes within this time have the same answer: several servers of Prometheus cost as much as one.
_FRESH_SECONDS = 1.0

#: Inboxes may be services that are paid for by the question.
_INBOX_FRESH_SECONDS = 10.0

#: A scrape waits no longer: Prometheus gives up after 10 s, and would not know which part does not answer.
_PATIENCE_SECONDS = 5.0

#: Nor longer for a store: what it knows is not what an alert needs first.
_INBOX_PATIENCE_SECONDS = 1.0

_TYPES, _TEXT = ("text/plain", "application/openmetrics-text"), {"schema": {"type": "string"}}


@router.get("/metrics", response_class=Response, responses={200: {"content": dict.fromkeys(_TYPES, _TEXT)}})
def metrics(request: Request) -> Response:
    """The state of jobs, files, messages, the database and Dagster, as Prometheus or OpenMetrics reads it."""
    registry: CollectorRegistry = request.app.state.metrics
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), headers={"Content-Type": media_type})


@contextmanager
def registry_of(settings: Settings, connections: Connections, traffic: Collector) -> Iterator[CollectorRegistry]:
    """The registry that collects the metrics of this service and of this process.

    Args:
        settings: of the stack.
        connections: tells how many of the database's this process uses, and how many wait for one.
        traffic: how long requests take.
    """
    with KeptConnection(settings) as connection:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Service(settings, connection))
        registry.register(_Process(settings, connections))
        registry.register(traffic)
        yield registry


class _Latest(Generic[T]):
    """Asks at most once at a time, in a thread of its own, and not again while the answer is fresh: what hangs holds up
    no other request, and questions do not pile up.
    """

    def __init__(self, ask: Callable[[], T], fresh: float = _FRESH_SECONDS) -> None:
        self._ask, self._fresh = ask, fresh
        self._lock = Lock()
        self._begun = -math.inf
        self._answer: Future[T] | None = None

    def __call__(self) -> Future[T]:
        """The answer that is fresh, or under way."""
        with self._lock:
            now = time.monotonic()
            if self._answer is None or (self._answer.done() and now - self._begun > self._fresh):
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
        self._inboxes = _Latest(partial(waiting, settings), _INBOX_FRESH_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """The metrics; what does not answer is left out, and it is said whether that was the database."""
        started = time.monotonic()
        asked, disks, inboxes = self._answers(), self._disks(), self._inboxes()
        both: tuple[Future[Any], ...] = (asked, disks)
        wait(both, timeout=_PATIENCE_SECONDS)
        wait((inboxes,), timeout=_INBOX_PATIENCE_SECONDS)
        answers = _answer("the database", asked, [])
        for answer in answers:
            yield from _families(answer)
        free = GaugeMetricFamily("geo_assets_free_disk_bytes", "Room for files, as the API sees it.", labels=["place"])
        for place, room in _answer("the disks", disks, {}).items():
            free.add_metric([place], room)
        yield free
        yield from _queues(_answer("the inboxes", inboxes, {}))
        yield InfoMetricFamily("geo_assets_build", "The release that serves.", value={"version": __version__})
        yield GaugeMetricFamily("geo_assets_scrape_ok", "Whether the database answered: 0 or 1.", value=bool(answers))
        yield GaugeMetricFamily(
            "geo_assets_scrape_duration_seconds", "How long it took.", value=time.monotonic() - started
        )

    def _ask(self) -> list[Answer]:
        with self._connection() as conn:
            return list(measurements.ask(conn))


class _Process(Collector):
    """What no other process knows: connections and tries of this one, and the settings that it was started with."""

    def __init__(self, settings: Settings, connections: Connections) -> None:
        self._settings, self._connections = settings, connections

    def collect(self) -> Iterator[Metric]:
        """The metrics; nothing is asked."""
        in_use, waiting_for_one = self._connections()
        yield GaugeMetricFamily("geo_assets_db_pool_in_use", "Connections of this process at work.", value=in_use)
        yield GaugeMetricFamily(
            "geo_assets_db_pool_waiting", "Requests of this process that wait for one.", value=waiting_for_one
        )
        tries = CounterMetricFamily(
            "geo_assets_db_retries", "Statements of this process that are worth another try.", labels=["reason"]
        )
        for reason, count in tried_again().items():
            tries.add_metric([reason], count)
        yield tries
        ends = GaugeMetricFamily(
            "geo_assets_sas_expires_timestamp_seconds", "When the SAS of an account ends.", labels=["account"]
        )
        for alias, account in self._settings.storage_accounts.items():
            if isinstance(account, AzureAccount) and account.sas_expires:
                ends.add_metric([alias], account.sas_expires.timestamp())
        yield ends


def _queues(depths: dict[str, Waiting]) -> Iterator[Metric]:
    """Messages that nobody has taken; an inbox that does not answer is left out."""
    count = GaugeMetricFamily("geo_assets_queue_messages", "Messages in an inbox, about.", labels=["queue"])
    age = GaugeMetricFamily(
        "geo_assets_queue_oldest_message_age_seconds", "Since the oldest of them was put there.", labels=["queue"]
    )
    for queue, depth in depths.items():
        count.add_metric([queue], depth.messages)
        age.add_metric([queue], depth.oldest_seconds)
    yield count
    yield age


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


def _histogram(metric: questions.Metric, answer: Answer) -> HistogramMetricFamily:
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
