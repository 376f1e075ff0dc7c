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


@pytest.fixture(scope="session")
def settings(postgres_home, open_folder):
    """Settings of a database of its own, migrated as the stack does it."""
    folder = open_folder()
    cluster = Cluster(find_binaries(postgres_home), folder / "postgres", folder / "log", free_port(), "secret", {"fsync": "off"})
    cluster.init()
    cluster.start()
    settings = Settings(
        home=folder,
        pg_port=cluster.port,
        migrator_password="m",
        pipeline_password="p",
        reader_password="r",
        webserver_port=free_port(),
        allowed_hosts=("testserver",),  # what httpx's client of an application calls it
    )
    bootstrap(cluster.dsn(), settings)
    migrate(settings)
    with psycopg.connect(settings.dsn("pipeline")) as conn:  # what the status view asks of Dagster
        conn.execute(
            "create table dagster.runs (id bigserial, run_id text, status text, create_timestamp timestamp default now(), start_time float, end_time float)"
        )
        conn.execute("create table dagster.run_tags (run_id text, key text, value text)")
    yield settings
    cluster.stop("immediate")


@pytest.fixture
def submitter(settings):
    with Submitter(settings, launches=False) as submitter:
        yield submitter


def raw(body: bytes | dict, **changes) -> RawMessage:
    """A message as a queue would deliver it."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    defaults = {"source": "test", "source_id": str(uuid.uuid4()), "body": data, "size_bytes": len(data), "correlation_id": "c"}
    return RawMessage(**{**defaults, **changes})


def hello(n: int = 1, message: str | None = None) -> dict:
    return {"job_type": "hello_world", "parameters": {"n": n, "message": message or f"m{time.monotonic_ns()}"}}


class Dagster:
    """Run states as Dagster would write them."""

    def __init__(self, settings: Settings) -> None:
        self.conn = psycopg.connect(settings.dsn("pipeline"), autocommit=True)

    def run(self, job, status: str) -> str:
        run_id = str(uuid.uuid4())
        self.conn.execute(
            "insert into dagster.runs (run_id, status, start_time) values (%s, %s, extract(epoch from now()))", (run_id, status)
        )
        self.conn.execute("insert into dagster.run_tags values (%s, 'dagster/partition', %s)", (run_id, job.partition_key))
        return run_id

    def set(self, run_id: str, status: str) -> None:
        self.conn.execute("update dagster.runs set status = %s where run_id = %s", (status, run_id))


@pytest.fixture
def dagster(settings):
    world = Dagster(settings)
    yield world
    world.conn.close()
