"""`export_tables: geoparquet`: each table of a source also as a file in the output account.

Here: writing the files of a task whose tables are published, before its item is. Not here: the format
(`vector/tables/export.py`), the item (`catalogue.py`).

A file is named after its bytes, so one that is visible is never overwritten. The task names it in the commit that
publishes its item; until then, and once nothing names it any more, it is swept as any blob without a name.
"""

from __future__ import annotations

from pathlib import Path

from geo_assets.ledger.models import Converted
from geo_assets.outcomes import TableFile, TableOutputs
from geo_assets.parameters import IngestContainer
from geo_assets.sandbox.scratch import held_folder
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import FOR_EVER
from geo_assets.storage.local import sha256_of
from geo_assets.vector.geoparquet import PARQUET
from geo_assets.vector.tables.export import write_table
from geo_assets.vector.tables.session import Session, open_session


def with_table_files(context: StageContext, job: JobRef, task: Converted) -> Converted:
    """The task with the files of its tables, where the job asks for them.

    Raises:
        GeoAssetsError: OUTPUT_GONE, a table is not there; what the store answers.
    """
    outputs = task.outputs
    if not isinstance(outputs, TableOutputs) or job.parameters_as(IngestContainer).export_tables is None:
        return task
    with (
        held_folder(context.settings.home / "scratch") as folder,
        open_session(context.settings.dsn("pipeline")) as session,
    ):
        files = [_exported(context, job, session, table.table, folder) for table in outputs.tables]
    return task.model_copy(update={"outputs": outputs.model_copy(update={"geoparquet": tuple(files)})})


def _exported(context: StageContext, job: JobRef, session: Session, label: str, folder: Path) -> TableFile:
    p, name = job.parameters_as(IngestContainer), label.partition(".")[2]
    file = folder / f"{name}.parquet"
    write_table(session, name, file)
    sha256, size = sha256_of(file), file.stat().st_size
    path = f"{p.collection}/{p.account}/{p.container}/{name}_{sha256[:16]}.parquet"
    ref = BlobRef(context.settings.output_account, context.settings.cog_container, path)
    context.tasks.uploading(job.run_id, [str(ref)])
    context.output_container(ref.container).upload(file, path, media_type=PARQUET, cache_control=FOR_EVER)
    file.unlink()
    return TableFile(table=label, blob=str(ref), sha256=sha256, bytes=size)
