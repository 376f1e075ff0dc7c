"""The demo: the bundled data through the main job, and how to look at each thing that was made.

Here: which files, which job, which hints. Not here: anything that a user's own folder would not also go through.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from geo_assets.home import PACKAGE_ROOT
from geo_assets.ledger.models import JobRecord, TaskRecord
from geo_assets.ledger.outputs import told
from geo_assets.local.stack import Stack
from geo_assets.settings import Settings
from geo_assets.storage.containers import open_container, place
from geo_assets.storage.sources import Member, sorted_sources
from geo_assets.storage.uploads import upload_tree
from geo_assets.task_status import BAD_INPUT, ENDED

CONTAINER = "demo"

#: Real data of public domain, and two files that are bad on purpose (demo_data/README.md).
DATA = PACKAGE_ROOT / "demo_data"

#: The error codes of the bad ones; every other file succeeds.
BAD = {"damaged_upload.tif": "UNREADABLE", "world/sites_without_coordinates.csv": "VECTOR_NO_GEOMETRY"}


def _files() -> list[Path]:
    return [p for p in sorted(DATA.rglob("*")) if p.is_file() and p.suffix not in {".md", ".py"}]


def upload_demo(settings: Settings) -> int:
    """Put the demo's files into `default/demo`; returns how many. Files that are there unchanged keep their etag."""
    container = open_container(settings, "default", CONTAINER)
    container.ensure()
    present = {blob.path: blob.size for page in container.list() for blob in page}
    files = _files()
    for file in files:
        path = file.relative_to(DATA)
        if present.get(path.as_posix()) != file.stat().st_size:
            list(upload_tree(container, file, path.parent.as_posix().removeprefix(".")))
    return len(files)


def rows(tasks: list[TaskRecord]) -> Iterator[tuple[str, str, str]]:
    """(file, what became of it, how to look at it), for every task."""
    for task in tasks:
        if task.error_message:
            yield task.task_key, f"{task.status}: {task.error_code}", task.error_message
        elif cogs := task.outputs.all_cogs:
            yield task.task_key, "COG", cogs[0].cog
        else:
            yield task.task_key, "table", ", ".join(told(table) for table in task.outputs.all_tables)


def unexpected(tasks: list[TaskRecord]) -> list[str]:
    """The demo's files that did not end as intended; a sentence each."""
    became = {(task.task_key, task.error_code) for task in tasks if task.status in ENDED}
    wrong = []
    paths = [path.relative_to(DATA).as_posix() for path in _files()]
    for file in (source.path for source in sorted_sources(Member(path=path, size=0, etag="") for path in paths)):
        codes = {code for key, code in became if key == file}
        if codes != {BAD.get(file)}:
            found = " and ".join(sorted(code or "well" for code in codes)) or "not at all"
            wrong.append(f"{file} ended {found}, not {BAD.get(file) or 'well'}")
    return wrong


def hints(settings: Settings, job: JobRecord, tasks: list[TaskRecord]) -> dict[str, str]:
    """How to look at the outputs: tool -> what to type or open. None of it changes anything."""
    tables = [table.table for task in tasks for table in task.outputs.all_tables]
    cogs = [cog.cog for task in tasks for cog in task.outputs.all_cogs]
    items = [task.outputs.stac_item for task in tasks if task.outputs.stac_item]
    looks: dict[str, str] = {"Dagster": f"{settings.stack_webserver_url}/runs/{job.run_id}"}
    if cogs:
        looks["QGIS, COG"] = place(settings, cogs[0])
    if tables:
        looks["QGIS, PostGIS"] = (
            f"host {settings.pg_host} port {settings.pg_port} database {settings.pg_database} user"
            f" {settings.reader_user}, with the password below"
        )
        looks["its password"] = (
            '(eval "$(geo-assets env --reader)"; echo "$PGPASSWORD")'  # in a shell of its own: what is exported stays
        )
        looks["a table"] = (
            f'geo-assets psql -c "\\d {tables[0]}" '  # noqa: S608 - shown, not run
            f'-c "select count(*), st_extent(geom) from {tables[0]}"'
        )
    if items:
        looks["STAC search"] = (
            'geo-assets psql -c "'
            f'''select search('{{\\"ids\\": [\\"{items[0].partition("/")[2]}\\"]}}')"'''
        )
    looks["where files went"] = f"geo-assets tasks {job.job_id[:12]}"
    looks["why a file is bad"] = f"geo-assets tasks {job.job_id[:12]} --status {BAD_INPUT}"
    if Stack().serves(settings):
        looks["the page"] = settings.served["page"]
    return looks
