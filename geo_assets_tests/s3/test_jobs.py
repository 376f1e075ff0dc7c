"""Whole jobs of which everything is in S3."""

import numpy as np
import psycopg
import pytest

from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.s3.conftest import SECRET

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def job(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("delivery")
    for number in range(3):
        write(folder / f"tile {number}.tif", np.full((3, 64, 64), number + 1, "uint8"))
    (folder / "bad.tif").write_bytes(b"II*\0 nothing")
    assert cli.run("upload", str(folder), "lake/delivery").returncode == 0
    asked = ("--param", "account=lake", "--param", "container=delivery")
    return cli.json("submit", "ingest_container", *asked, "--wait")


def test_every_file_is_accounted_for(cli, job):
    assert job["status"] == "completed_with_errors"
    statuses = sorted(task["status"] for task in cli.json("tasks", job["job_id"]))
    assert statuses == ["quarantined", "succeeded", "succeeded", "succeeded"]


def test_items_say_where_their_assets_are_and_hold_no_secret(cli, job, s3):
    with connect(cli) as db:
        items = [row[0] for row in db.execute("select pgstac.get_item(id, collection) from pgstac.items").fetchall()]
    assert len(items) == 3
    for item in items:
        data = next(asset for asset in item["assets"].values() if "data" in asset["roles"])
        assert data["href"].startswith(f"{s3['endpoint']}/cogs/")
        assert data["alternate"]["s3"]["href"].startswith("/vsis3/cogs/")
        schemes = item["properties"]["storage:schemes"]
        assert {(scheme["type"], scheme["platform"]) for scheme in schemes.values()} == {("custom-s3", s3["endpoint"])}


def test_verify_reads_every_byte_there(cli, job):
    assert cli.run("verify", "--all", "--deep").returncode == 0


def test_the_same_again_changes_nothing(cli, job):
    asked = ("--param", "account=lake", "--param", "container=delivery")
    again = cli.json("submit", "ingest_container", *asked, "--wait")
    assert again["job_id"] == job["job_id"]
    with connect(cli) as db:
        assert db.execute("select count(*) from pgstac.items").fetchone() == (3,)


def test_doctor_finds_the_account_and_its_buckets(cli, job):
    found = {finding["what"]: finding["level"] for finding in cli.json("doctor")}
    assert found["account lake"] == found["output lake/cogs"] == "ok"


def test_the_secret_is_in_no_table_and_no_log(cli, job):
    with connect(cli) as db:
        texts = db.execute(
            "select table_schema, table_name, column_name from information_schema.columns where table_schema in ('geo',"
            " 'dagster') and data_type in ('text', 'character varying', 'jsonb', 'json')"
        ).fetchall()
        for schema, table, column in texts:
            query = psycopg.sql.SQL("select count(*) from {}.{} where {}::text like {}").format(
                *map(psycopg.sql.Identifier, (schema, table, column)), psycopg.sql.Literal(f"%{SECRET}%")
            )
            try:
                assert db.execute(query).fetchone() == (0,), (schema, table, column)
            except psycopg.errors.InsufficientPrivilege:
                continue
    for log in (cli.home / "logs").glob("*.log"):
        assert SECRET not in log.read_text(errors="replace"), log.name
