"""What an alert says: what happened, how many, what to do about it, where to look.

Here: the words, from what the ledger knows. Not here: in which form they are posted (`bodies.py`).

A job is one alert, however many of its files are bad; messages in poison that are told of together are one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from geo_assets.errors import ERRORS, GeoAssetsError, for_job
from geo_assets.ledger.alerts import AlertRecord
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import JobRecord
from geo_assets.redaction import redacted
from geo_assets.settings import Settings
from geo_assets.task_status import LIST_BAD
from geo_assets.text import how_many, one_line

#: Codes that have a line of their own, and alerts that a digest names.
_CODES, _NAMED = 10, 20

#: Characters of a title and of a line; Slack takes 3,000 of a text.
_LONGEST_TITLE, _LONGEST_LINE = 250, 400


@dataclass(frozen=True, slots=True)
class Reason:
    """Files, messages or jobs that ended with one code.

    Attributes:
        code: of the error.
        count: how many there are.
        example: the name of one, or what was said of it.
        remedy: what to do about it.
    """

    code: str
    count: int
    example: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Alert:
    """What is posted.

    Attributes:
        event: of the same event there is one alert; sent again, it has the same.
        kind: of the event.
        severity: an error needs somebody; a warning, somebody who has time.
        title: what happened, in one line.
        reasons: why, how often, and what to do.
        link: where to look.
        at: when it happened.
        job: of a job's: its id, type, attempt, run and the container that it reads.
        correlation_id: by which lines of logs are found.
        repeated: whether it may have come before: its sender died while it was being sent.
    """

    event: str
    kind: str
    severity: Literal["error", "warning"]
    title: str
    reasons: tuple[Reason, ...]
    link: str
    at: datetime
    job: dict[str, str | int]
    correlation_id: str | None = None
    repeated: bool = False

    @property
    def lines(self) -> list[str]:
        """Everything below the title, a line each."""
        said = [_line(f"{r.count:,} × {r.code}: {r.example} → {r.remedy}") for r in self.reasons]
        return [*said, *(["It may have come before: its sender died."] if self.repeated else [])]

    @property
    def text(self) -> str:
        """All of it, as of an e-mail."""
        return "\n".join([self.title, *self.lines, self.link])


class Composer:
    """Makes alerts of records of the ledger."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger

    def of(self, record: AlertRecord) -> Alert:
        """The alert of one event."""
        job = self._job(record)
        title, reasons = self._said(record, job)
        return Alert(
            event=record.event,
            kind=record.kind,
            severity="error" if record.kind == "job_failed" else "warning",
            title=_title(title),
            reasons=reasons,
            link=self._link(record, job),
            at=record.at,
            job=_named(record, job),
            correlation_id=record.correlation_id,
            repeated=_is_repeated([record]),
        )

    def of_messages(self, records: Sequence[AlertRecord]) -> Alert:
        """One alert of some messages in poison."""
        last = records[-1]
        counts = Counter(record.error_code or "INTERNAL" for record in records)
        examples = {record.error_code or "INTERNAL": record.error_message or "" for record in records}
        reasons = tuple(
            Reason(
                code,
                count,
                redacted(examples[code]),
                ERRORS[code].remedy if code in ERRORS else "geo-assets poison list",
            )
            for code, count in counts.most_common(_CODES)
        )
        return Alert(
            event=f"{last.event} and {len(records) - 1} before" if len(records) > 1 else last.event,
            kind="poison",
            severity="warning",
            title=_title(f"{how_many(len(records), 'message')} could not be accepted: geo-assets poison list"),
            reasons=reasons,
            link=f"{self._settings.api_url}/api/db/messages?state=poison",
            at=last.at,
            job={},
            correlation_id=last.correlation_id if len(records) == 1 else None,
            repeated=_is_repeated(records),
        )

    def digest(self, groups: Sequence[Sequence[AlertRecord]]) -> Alert:
        """One alert instead of many that have become due together."""
        records = [record for group in groups for record in group]
        kinds = Counter(record.kind.replace("_", " ") for record in records)
        named = [self.of_messages(g) if g[0].kind == "poison" else self.of(g[0]) for g in groups[:_NAMED]]
        more = len(groups) - len(named)
        remedy = "geo-assets jobs" + (f"; {more:,} more are in: geo-assets alert" if more else "")
        return Alert(
            event=f"{records[-1].event} and {len(records) - 1} before",
            kind="digest",
            severity="error" if any(alert.severity == "error" for alert in named) else "warning",
            title=_title(f"{len(records):,} alerts: {', '.join(f'{n:,} × {kind}' for kind, n in kinds.most_common())}"),
            reasons=(
                *(Reason(each.kind, 1, each.title, each.link) for each in named),
                Reason("digest", len(records), "all of them", remedy),
            ),
            link=f"{self._settings.dagster_url}/runs",
            at=records[-1].at,
            job={},
            repeated=_is_repeated(records),
        )

    def _job(self, record: AlertRecord) -> JobRecord | None:
        return self._ledger.jobs.find(record.job_id) if record.job_id else None

    def _said(self, record: AlertRecord, job: JobRecord | None) -> tuple[str, tuple[Reason, ...]]:
        """The title, and why."""
        what = _name(job) if job else "geo_assets"
        code, message = record.error_code or "INTERNAL", record.error_message or ""
        own = (Reason(code, 1, redacted(message), _remedy(code, record.job_id)),)
        if record.kind == "run_died":
            return f"{what}: the run of attempt {record.attempt} died, and another attempt is under way", own
        if record.kind == "note" or job is None:
            return f"{what}: {code}: {message}", own
        bad = self._ledger.alerts.bad_files(job.job_id)
        files = tuple(Reason(b.code, b.count, redacted(b.example), _remedy(b.code, job.job_id)) for b in bad[:_CODES])
        if record.kind == "job_failed":
            return f"{what} failed: {code}: {message}", (*own, *files)
        count = sum(each.count for each in bad)
        more = f"; each: geo-assets tasks {job.job_id[:12]} {LIST_BAD}"
        return f"{what} is done, and {how_many(count, 'file is', 'files are')} bad{more}", files

    def _link(self, record: AlertRecord, job: JobRecord | None) -> str:
        run = record.run_id or (job.run_id if job else None)
        if run:
            return f"{self._settings.dagster_url}/runs/{run}"
        return f"{self._settings.api_url}/api/jobs/status/{job.job_id}" if job else self._settings.dagster_url


def sample(settings: Settings) -> Alert:
    """An alert that says that alerts arrive."""
    now = datetime.now(UTC)
    return Alert(
        event=f"sample {now:%Y-%m-%dT%H:%M:%S.%f}",
        kind="sample",
        severity="warning",
        title="geo_assets: this is a test, and alerts arrive",
        reasons=(Reason("UNREADABLE", 3, "scans/0042.tif", _remedy("UNREADABLE", None)),),
        link=settings.dagster_url,
        at=now,
        job={},
    )


def _is_repeated(records: Sequence[AlertRecord]) -> bool:
    """Whether one of them was taken before, and nobody said what became of it."""
    return any(record.tries > 1 and record.fault is None for record in records)


def _name(job: JobRecord) -> str:
    container = job.parameters.get("container")
    return f"{job.job_type}{f' of {container}' if container else ''} ({job.job_id[:12]})"


def _named(record: AlertRecord, job: JobRecord | None) -> dict[str, str | int]:
    if job is None:
        return {}
    told = {"attempt": record.attempt, "run_id": record.run_id, "container": job.parameters.get("container")}
    return {"job_id": job.job_id, "job_type": job.job_type, **{name: value for name, value in told.items() if value}}


def _remedy(code: str, job_id: str | None) -> str:
    remedy = ERRORS[code].remedy if code in ERRORS else GeoAssetsError("INTERNAL", "").remedy
    return for_job(remedy, job_id) if job_id else remedy


def _title(text: str) -> str:
    return redacted(one_line(text))[:_LONGEST_TITLE]


def _line(text: str) -> str:
    return redacted(one_line(text))[:_LONGEST_LINE]
