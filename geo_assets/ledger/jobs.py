"""Jobs: the one object for all that is recorded of them.

Here: reading jobs, one or many. Not here: asking for attempts (`attempts.py`), claiming and ending them (`claims.py`),
which `Jobs` inherits; tasks (`tasks.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, LiteralString

from geo_assets.database.connections import DictConnection, retrying
from geo_assets.errors import ERRORS, GeoAssetsError, for_job
from geo_assets.ledger.attempts import Attempts
from geo_assets.ledger.claims import Claims
from geo_assets.ledger.deltas import counts as delta_counts
from geo_assets.ledger.models import JobRecord, JobStatus, StageCounts, StageWork
from geo_assets.ledger.progress import progress_of
from geo_assets.ledger.published import superseding
from geo_assets.ledger.warnings import counted, of_tasks
from geo_assets.ledger.work import efficiency, stage_work
from geo_assets.parameters import JOB_TYPES, Parameters, PublishContainer, stored_parameters

#: Remarks that are shown with a job; `geo.errors` has all.
_MOST_REMARKS = 20


class Jobs(Attempts, Claims):
    """Statements on `geo.jobs`, `geo.attempts` and `geo.job_status`."""

    @retrying
    def find(self, job_id: str) -> JobRecord:
        """One job by its id, or by the first characters of it (at least 6).

        Raises:
            GeoAssetsError: JOB_NOT_FOUND, none or several.
        """
        with self._pool.connection() as conn:
            rows = (
                conn.execute("select * from geo.job_status where job_id ^@ %s limit 2", (job_id,)).fetchall()
                if len(job_id) >= 6
                else []
            )
            if len(rows) != 1:
                found = "more than one job" if rows else "no job"
                short = "" if len(job_id) >= 6 else "; give six characters of it at least"
                raise GeoAssetsError("JOB_NOT_FOUND", f"{found} has an id that starts with {job_id!r}{short}")
            stages = conn.execute(
                "select * from geo.stage_counts where job_id = %s order by first_started_at nulls last, stage",
                (rows[0]["job_id"],),
            ).fetchall()
            works = stage_work(conn, str(rows[0]["job_id"]))
            record = _record(rows[0], [{**stage, **_told(works.get(str(stage["stage"])))} for stage in stages])
            more: dict[str, Any] = {
                "efficiency": efficiency(works.values()),
                "progress": progress_of(conn, record.job_id, record.job_type, record.status),
            }
            if issubclass(JOB_TYPES.get(record.job_type, Parameters), PublishContainer):
                more["delta"] = delta_counts(conn, record.job_id)
            if record.status.is_final:  # a caller that waits for the end asks every second
                more["warnings"] = counted(said for _, said in of_tasks(conn, record.job_id))
                more["remarks"] = tuple(_remarks(conn, record))
                more["superseded_by"] = superseding(conn, record.job_id)
        return record.model_copy(update=more)

    @retrying
    def parameters(self, job_id: str) -> Parameters:
        """What a job was asked to do.

        Raises:
            GeoAssetsError: JOB_NOT_FOUND; INVALID_PARAMETERS, this release does not take what another took.
        """
        with self._pool.connection() as conn:
            row = conn.execute("select job_type, parameters from geo.jobs where job_id = %s", (job_id,)).fetchone()
        if row is None:
            raise GeoAssetsError("JOB_NOT_FOUND", f"there is no job {job_id}")
        return stored_parameters(str(row["job_type"]), row["parameters"])  # type: ignore[arg-type]

    @retrying
    def newest(
        self,
        *,
        limit: int = 50,
        status: JobStatus | None = None,
        job_type: str | None = None,
        before: datetime | None = None,
    ) -> list[JobRecord]:
        """The newest jobs first."""
        where: LiteralString = (
            "where (%(status)s::text is null or status = %(status)s) and (%(type)s::text is null or job_type ="
            " %(type)s) and (%(before)s::timestamptz is null or created_at < %(before)s)"
        )
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select * from geo.job_status " + where + " order by created_at desc limit %(limit)s",  # noqa: S608
                {"status": status, "type": job_type, "limit": limit, "before": before},
            ).fetchall()
            counts = conn.execute(
                "select * from geo.stage_counts where job_id = any(%s) order by first_started_at nulls last, stage",
                ([r["job_id"] for r in rows],),
            ).fetchall()
        by_job: dict[object, list[dict[str, Any]]] = {}
        for count in counts:
            by_job.setdefault(count["job_id"], []).append(count)
        return [_record(row, by_job.get(row["job_id"], [])) for row in rows]


def _told(work: StageWork | None) -> dict[str, Any]:
    return work.model_dump() if work else {}


def _remarks(conn: DictConnection, record: JobRecord) -> Iterator[str]:
    """Problems that did not stop the newest run."""
    found = conn.execute(
        "select message, remedy from geo.errors where job_id = %s and run_id = %s and severity = 'warning'"
        " order by error_id limit %s",
        (record.job_id, record.run_id, _MOST_REMARKS),
    )
    for said in found:
        yield ": ".join(str(text) for text in (said["message"], said["remedy"]) if text)


def _record(row: dict[str, Any], stages: list[dict[str, Any]]) -> JobRecord:
    counts = tuple(StageCounts.model_validate(stage) for stage in stages)
    kind = ERRORS.get(row.get("error_code") or "")
    remedy = for_job(kind.remedy, row["job_id"]) if kind else None
    return JobRecord.model_validate({**row, "stages": counts, "remedy": remedy})
