"""Migrated databases without Dagster, for tests that need no stack: one cluster a session, in it a database for each
module.

Here: the cluster, the databases, and fixtures that begin with these; `conftest.py` hands them to every test. Not here:
the stack (`conftest.py`); what a module puts into its database.
"""

import shutil
import uuid
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.migrate import migrate, migrations
from geo_assets.home import project_file
from geo_assets.local.debian_packages import UNPACKED
from geo_assets.local.postgresql import Cluster, find_binaries, free_port
from geo_assets.settings import Settings
from geo_assets.submissions.submit import Submitter

#: What the status view asks of Dagster.
DAGSTER_TABLES = """
    create table dagster.runs (id bigserial, run_id text, pipeline_name text, status text, create_timestamp timestamp default now(), start_time float, end_time float);
    create table dagster.run_tags (run_id text, key text, value text);
    create table dagster.dynamic_partitions (id bigserial, partitions_def_name text, partition text, create_timestamp timestamp default now(),
        unique (partitions_def_name, partition));
"""

_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


def before_migration(number: str, cluster: Cluster, settings: Settings, folder: Path) -> Settings:
    """A database of its own as it was before a migration and those after it, which are still to be applied.

    Args:
        number: with which the migration's name begins.
        cluster: where it is made.
        settings: of another database there.
        folder: empty, for the older migrations.
    """
    older = settings.model_copy(update={"pg_database": f"before_{number}"})
    bootstrap(cluster.dsn(), older)
    for migration in migrations():
        if migration.name < number:
            shutil.copy(project_file("sql") / migration.name, folder)
    migrate(older, folder=folder)
    return older


@pytest.fixture(scope="session")
def cluster(postgres_home, open_folder):
    """A PostgreSQL of the tests' own. Who stops it, or harms it, makes another."""
    folder = open_folder()
    cluster = Cluster(
        find_binaries(postgres_home), folder / "postgres", folder / "log", free_port(), "secret", _SETTINGS
    )
    cluster.init()
    cluster.start()
    yield cluster
    cluster.stop("immediate")


class Databases:
    """Copies of one database that was migrated as the stack does it: a copy takes a tenth of the time."""

    def __init__(self, cluster: Cluster, home: Path, postgres_home: Path) -> None:
        self.cluster = cluster
        self._postgres_home = postgres_home
        self._numbers = count()
        self._template = Settings(
            home=home,
            pg_port=cluster.port,
            pg_database="migrated",
            migrator_password="m",
            pipeline_password="p",
            reader_password="r",
            webserver_port=free_port(),
            allowed_hosts=("testserver",),  # what httpx's client of an application calls it
        )
        bootstrap(cluster.dsn(), self._template)
        migrate(self._template)
        with psycopg.connect(self._template.dsn("pipeline")) as conn:
            conn.execute(DAGSTER_TABLES)

    def make(self, home: Path) -> Settings:
        """Settings of a new database."""
        link_postgresql(self._postgres_home, home)
        made = self._template.model_copy(update={"home": home, "pg_database": f"of_tests_{next(self._numbers)}"})
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as conn:
            conn.execute(
                sql.SQL("create database {} owner {} template migrated").format(
                    sql.Identifier(made.pg_database), sql.Identifier(made.migrator_user)
                )
            )
            # what a copy has not: the privileges on the database itself, and a name of its own for its feed of changes
            conn.execute(
                "update pg_database set datacl = (select datacl from pg_database where datname = 'migrated') where"
                " datname = %s",
                (made.pg_database,),
            )
        with psycopg.connect(self.cluster.dsn(made.pg_database)) as conn:
            conn.execute("update geo.change_feed set feed = default")
        return made

    def end_sessions(self, settings: Settings) -> None:
        """That one module leaves open none that another counts. The database stays: its end would be a checkpoint."""
        with psycopg.connect(self.cluster.dsn()) as conn:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (settings.pg_database,)
            )


@pytest.fixture(scope="session")
def databases(cluster, open_folder, postgres_home):
    return Databases(cluster, open_folder(), postgres_home)


def link_postgresql(postgres_home: Path, home: Path) -> None:
    """Let a home have the PostgreSQL that was unpacked for the tests; that of the machine it has anyway. A home may get
    several databases.
    """
    unpacked, place = postgres_home / UNPACKED, home / UNPACKED
    if unpacked.is_dir() and not place.exists():
        place.symlink_to(unpacked.resolve())


@pytest.fixture(scope="module")
def settings(databases, open_folder):
    """Settings of the module's own database and home."""
    settings = databases.make(open_folder())
    yield settings
    databases.end_sessions(settings)


def environment(settings: Settings) -> dict[str, str]:
    """The variables by which a program finds the database and the files."""
    place = {"HOME": settings.home, "PG_PORT": settings.pg_port, "PG_DATABASE": settings.pg_database}
    secrets = {"MIGRATOR_PASSWORD": "m", "PIPELINE_PASSWORD": "p", "READER_PASSWORD": "r"}
    return {f"GEO_ASSETS_{name}": str(value) for name, value in {**place, **secrets}.items()}


@pytest.fixture
def submitter(settings):
    with Submitter(settings, launches=False) as submitter:
        yield submitter


class Dagster:
    """Run states as Dagster would write them."""

    def __init__(self, settings: Settings) -> None:
        self.conn = psycopg.connect(settings.dsn("pipeline"), autocommit=True)

    def run(self, job, status: str, job_type: str = "") -> str:
        run_id = str(uuid.uuid4())
        self.conn.execute(
            "insert into dagster.runs (run_id, pipeline_name, status, start_time) values (%s, %s, %s, extract(epoch"
            " from now()))",
            (run_id, job_type or job.job_type, status),
        )
        self.conn.execute(
            "insert into dagster.run_tags values (%s, 'dagster/partition', %s)", (run_id, job.partition_key)
        )
        return run_id

    def delete(self, run_id: str) -> None:
        """As `DagsterInstance.delete_run`."""
        self.conn.execute("delete from dagster.run_tags where run_id = %s", (run_id,))
        self.conn.execute("delete from dagster.runs where run_id = %s", (run_id,))

    def set(self, run_id: str, status: str) -> None:
        self.conn.execute("update dagster.runs set status = %s where run_id = %s", (status, run_id))


@pytest.fixture
def dagster(settings):
    world = Dagster(settings)
    yield world
    world.conn.close()
