"""A migrated database without Dagster: the boundary needs no more."""

import json
import time
import uuid

import psycopg
import pytest

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.migrate import migrate
from geo_assets.ledger.messages import RawMessage
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


@pytest.fixture(scope="session")
def cluster(postgres_home, open_folder):
    """A PostgreSQL of these tests' own."""
    folder = open_folder()
    cluster = Cluster(
        find_binaries(postgres_home), folder / "postgres", folder / "log", free_port(), "secret", {"fsync": "off"}
    )
    cluster.init()
    cluster.start()
    yield cluster
    cluster.stop("immediate")


@pytest.fixture(scope="session")
def settings(cluster, open_folder):
    """Settings of a database of its own, migrated as the stack does it."""
    settings = Settings(
        home=open_folder(),
        pg_port=cluster.port,
        migrator_password="m",
        pipeline_password="p",
        reader_password="r",
        webserver_port=free_port(),
        allowed_hosts=("testserver",),  # what httpx's client of an application calls it
    )
    bootstrap(cluster.dsn(), settings)
    migrate(settings)
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute(DAGSTER_TABLES)
    return settings


@pytest.fixture
def submitter(settings):
    with Submitter(settings, launches=False) as submitter:
        yield submitter


def raw(body: bytes | dict, **changes) -> RawMessage:
    """A message as a queue would deliver it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    defaults = {
        "source": "test",
        "source_id": str(uuid.uuid4()),
        "body": data,
        "size_bytes": len(data),
        "correlation_id": "c",
    }
    return RawMessage(**{**defaults, **changes})


def hello(n: int = 1, message: str | None = None) -> dict:
    return {"job_type": "hello_world", "parameters": {"n": n, "message": message or f"m{time.monotonic_ns()}"}}


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
