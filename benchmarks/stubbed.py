"""Jobs of which only the files are not there: a container that lists some that are in no store, and a conversion that
takes a known time and converts nothing.

Here: what is put in place of the store and of the child, and jobs in this process or in several. Ledger, event log and
pgstac are as they are. Not here: what is measured (`scale.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psycopg

#: Files of a page of a store, as Azure's and S3's have at most.
_PAGE = 5000

#: The container of `job`, and the seconds of its conversions: a step in another process has them of its environment.
FILES, SECONDS = "STUBBED_FILES", "STUBBED_SECONDS"


class Listed:
    """A container of files that are in no store."""

    alias, etags_are_proof = "default", True

    def __init__(self, files: int) -> None:
        self.name, self._files = f"scale{files}", files

    def __str__(self) -> str:
        return f"{self.alias}/{self.name}"

    def exists(self) -> bool:
        """It does."""
        return True

    def list(self, prefix: str = "", *, exact: bool = False) -> Iterator[list[Any]]:  # noqa: ARG002 - a container's
        """Pages of small rasters, in the order of their names."""
        from geo_assets.storage.blobs import Blob

        modified = datetime(2026, 1, 1, tzinfo=UTC)
        for first in range(0, self._files, _PAGE):
            numbers = range(first, min(first + _PAGE, self._files))
            yield [
                Blob(path=f"{n // 1000:05}/tile_{n:07}.tif", size=20_000, etag=f"e{n}", last_modified=modified)
                for n in numbers
            ]

    def href(self, path: str) -> str:
        """An address."""
        return f"https://example.org/{self.name}/{path}"


def list_nothing(files: int) -> Listed:
    """Put such a container in the place of all others."""
    from geo_assets.stages import planning
    from geo_assets.stages.context import StageContext
    from geo_assets.submissions import submit

    listed = Listed(files)
    StageContext.source_container = lambda *_: listed  # type: ignore[assignment,method-assign,return-value]
    planning.existing_container = submit.existing_container = lambda *_, **__: listed  # type: ignore[assignment,attr-defined,return-value]
    return listed


def convert_nothing(seconds: float) -> None:
    """Replace the conversion by one that waits, and tells what a real one told of its raster.

    Raises:
        RuntimeError: no raster was converted before.
    """
    from geo_assets.outcomes import CogOutputs, CogReceipt, FetchedFile
    from geo_assets.settings import load_settings
    from geo_assets.stages import catalogue, checks, cogs
    from geo_assets.storage.blobs import FirstBytes

    with psycopg.connect(load_settings().dsn("pipeline")) as conn:
        row = conn.execute("select receipt from geo.tasks where receipt is not null limit 1").fetchone()
    if row is None:
        raise RuntimeError("no raster was converted before")
    told = CogReceipt.model_validate(row[0])

    def convert(context: Any, job: Any, work: Any) -> Any:
        time.sleep(seconds)
        name = work.task_key.replace("/", "_")
        outputs = CogOutputs(
            cog=f"default/cogs/{job.job_id[:8]}/{name}", sha256="0" * 64, thumbnail=f"default/thumbnails/{name}.png"
        )
        member = work.input.members[0]
        fetched = FetchedFile(path=member.path, size=member.size, etag=member.etag, sha256="0" * 64)
        context.tasks.uploading(job.run_id, [outputs.cog, outputs.thumbnail])
        context.tasks.converted(
            job.job_id,
            job.run_id,
            cogs.STAGE,
            work.task_key,
            outputs=outputs,
            receipt=told.model_copy(update={"input": (fetched,)}),
        )
        return outputs

    cogs._convert = convert  # noqa: SLF001 - the one place where files are read
    checks.first_bytes = lambda _, refs, length: (FirstBytes(b"II"[:length], 2) for _ in refs)  # type: ignore[assignment]
    catalogue.beginnings = lambda _context, _made: []  # of the store, and of the child
    catalogue.disagreements = lambda _context, made, _begun: [None] * len(made)
    catalogue._file = lambda _, source, blob: f"https://example.org/{blob}"  # noqa: ARG005, SLF001 - a thumbnail's


def job() -> dg.JobDefinition:
    """The main job with both, in whichever process it is loaded."""
    from geo_assets.definitions import build_defs
    from geo_assets.settings import load_settings

    list_nothing(int(os.environ[FILES]))
    convert_nothing(float(os.environ[SECONDS]))
    return build_defs(load_settings()).resolve_job_def("ingest_container")


def submitted(job_type: str, files: int) -> Any:
    """A job over the files, submitted and not launched."""
    from geo_assets.parameters import Job, validate_parameters
    from geo_assets.settings import load_settings
    from geo_assets.submissions.submit import Submitter

    parameters = validate_parameters(job_type, {"container": list_nothing(files).name})
    with Submitter(load_settings(), launches=False) as submitter:
        submitter.submit(parameters, submitted_by="benchmark")
    return Job.of(parameters)


def insist_on_success(job_id: str) -> None:
    """Raise a RuntimeError unless every file of the job is published."""
    from geo_assets.settings import load_settings

    query = "select status::text, error_message, count(*) from geo.tasks where job_id = %s group by 1, 2"
    with psycopg.connect(load_settings().dsn("pipeline")) as conn:
        bad = [row for row in conn.execute(query, (job_id,)).fetchall() if row[0] != "succeeded"]
    if bad:
        raise RuntimeError(f"not every file succeeded: {bad[:3]}")
