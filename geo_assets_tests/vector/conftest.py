"""A temporary PostGIS for these tests, and the two halves of a load joined without a sandbox."""

import json
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from geo_assets.local.postgresql import Cluster, find_binaries, free_port
from geo_assets.vector.models import InspectReport, InspectRequest, LayerPlan, StreamReport, StreamRequest
from geo_assets.vector.reader import layers  # noqa: F401 - forbids drivers before any test imports pyogrio
from geo_assets.vector.reader.inspect import inspect
from geo_assets.vector.reader.stream import stream
from geo_assets.vector.tables.load import stage_table
from geo_assets.vector.tables.publish import PublishedTable
from geo_assets.wire import built, checked, told
from geo_assets_tests.vector.publishing import publish

settings.register_profile("shared machine", deadline=None)  # what an example takes is the neighbours' doing
settings.load_profile("shared machine")

_SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "32MB"}


@pytest.fixture(scope="session")
def dsn(postgres_home):
    """A cluster of our own, faster than it is durable."""
    binaries = find_binaries(postgres_home)
    cluster = Cluster(
        binaries,
        postgres_home / "vector" / "postgres",
        postgres_home / "vector" / "log",
        free_port(),
        "secret",
        _SETTINGS,
    )
    cluster.init()
    cluster.start()
    with psycopg.connect(cluster.dsn(), autocommit=True) as conn:
        for statement in (
            "create extension postgis",
            "create schema vector",
            "create schema vector_staging",
            "create schema vector_versions",
            "create role a_reader",
            "grant usage on schema vector to a_reader",
        ):
            conn.execute(statement)
    yield cluster.dsn()
    cluster.stop("immediate")


class Database:
    """Short queries to the test's database."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.conn = psycopg.connect(dsn, autocommit=True)

    def rows(self, query, *parameters, **names):
        """All rows; `{t}` in the query is the table `t=schema.name`."""
        identifiers = {key: sql.Identifier(*name.split(".")) for key, name in names.items()}
        return self.conn.execute(sql.SQL(query).format(**identifiers), parameters or None).fetchall()

    def value(self, query, *parameters, **names):
        return self.rows(query, *parameters, **names)[0][0]

    def run(self, statement):
        self.conn.execute(statement)

    def staged(self):
        """Names of what is left in `vector_staging`."""
        return [name for (name,) in self.rows("select tablename from pg_tables where schemaname = 'vector_staging'")]

    def published(self):
        return {name for (name,) in self.rows("select tablename from pg_tables where schemaname = 'vector'")}


@pytest.fixture
def db(dsn):
    database = Database(dsn)
    yield database
    for name in database.staged():  # what a failed test left must not fail the next
        database.conn.execute(sql.SQL("drop table {}").format(sql.Identifier("vector_staging", name)))
    database.conn.close()


@dataclass
class Loaded:
    report: InspectReport
    tables: list[PublishedTable]

    @property
    def plan(self) -> LayerPlan:
        return self.report.layers[0]

    @property
    def table(self) -> str:
        return self.tables[0].table


@pytest.fixture
def private(tmp_path):
    """Copies a file (and the files beside it with the same stem) or a folder into a directory of its own."""
    count = 0

    def copy(path: Path) -> Path:
        nonlocal count
        count += 1
        folder = tmp_path / f"source{count}"
        folder.mkdir()
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        for part in path.parent.glob(f"{path.stem}.*"):
            if part.is_file():
                shutil.copy(part, folder)
        return folder / path.name

    return copy


@pytest.fixture
def look(private):
    """`inspect` of a copy of a file."""

    def run(path: Path, **request) -> InspectReport:
        report = inspect(InspectRequest(source=str(private(path)), **request))
        return checked(InspectReport, json.loads(json.dumps(report, default=told)))  # as it crosses the border

    return run


def send(path: Path, plan: LayerPlan) -> tuple[BytesIO, StreamReport]:
    """The stream of one layer and its report."""
    sink = BytesIO()
    report = stream(StreamRequest(source=str(path), plan=plan), sink)
    return BytesIO(sink.getvalue()), report


@pytest.fixture
def load(private, db):
    """A file from its bytes to published tables `vector.<table>`, `vector.<table>_1`, …"""

    def run(path: Path, table: str, **request) -> Loaded:
        source = private(path)
        report = inspect(InspectRequest(source=str(source), **request))
        tables = []
        for i, plan in enumerate(report.layers):
            file, sent = send(source, built(LayerPlan, json.loads(json.dumps(plan, default=told))))
            staged = stage_table(
                db.dsn,
                plan,
                f"{table}_{i}" if i else table,
                file,
                lambda sent=sent: sent,
                staging_suffix=f"t{i}",
                source=path.name,
            )
            tables.append(publish(db.conn, staged))
        assert db.staged() == []
        return Loaded(report, tables)

    return run
