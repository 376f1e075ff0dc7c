"""Whole jobs of which everything is in S3."""

import json

import boto3
import numpy as np
import psycopg
import pytest

from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.oracle import settings_of
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.s3.conftest import KEY, SECRET
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def sdk(s3):
    account = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": s3["region"]}
    return boto3.client("s3", endpoint_url=s3["endpoint"], **account)


def keys(sdk, bucket: str, prefix: str = "") -> list[str]:
    return [blob["Key"] for blob in sdk.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())]


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


def test_tiles_are_drawn_of_what_is_in_s3_with_the_accounts_key(cli, job, monkeypatch):
    pytest.importorskip("titiler.pgstac")
    from fastapi.testclient import TestClient

    from geo_assets.serving.app import serving_app

    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    with connect(cli) as db:
        collection, identity = db.execute("select collection, id from pgstac.items limit 1").fetchone()
    with TestClient(serving_app(settings_of(cli)), base_url="http://127.0.0.1:8080") as client:
        answer = client.get(f"/tiles/collections/{collection}/items/{identity}/preview.png?assets=visual")
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"\x89PNG")


def test_an_export_into_s3_names_no_account_and_holds_no_secret(cli, job, sdk, s3):
    told = cli.json("export", "delivery", "lake/taken/2026")
    names = keys(sdk, "taken")
    assert len(names) == told["files"]
    assert sum(name.endswith(".tif") for name in names) == 3
    for name in names:
        content = sdk.get_object(Bucket="taken", Key=name)["Body"].read()
        assert SECRET.encode() not in content
        if name.endswith(".json") and json.loads(content)["type"] == "Feature":
            assert all(asset["href"].startswith("./") for asset in json.loads(content)["assets"].values())
    assert "is not empty" in cli.run("export", "delivery", "lake/taken/2026").stderr


def test_what_is_gone_from_a_bucket_is_retired_there(cli, sdk, tmp_path):
    for name in ("kept", "gone"):
        write(tmp_path / f"{name}.tif", np.full((1, 30, 30), len(name), "uint8"))
    assert cli.run("upload", str(tmp_path), "lake/shrinking").returncode == 0
    asked = ("account=lake", "container=shrinking", "deleted=retire", "max_retire_percent=100")
    submitted = ("submit", "ingest_container", *(word for said in asked for word in ("--param", said)), "--wait")
    cli.json(*submitted)
    assert len(keys(sdk, "cogs", "shrinking/")) == 2
    sdk.delete_object(Bucket="shrinking", Key="gone.tif")
    assert cli.json(*submitted)["status"] == "completed"
    with connect(cli) as db:
        assert db.execute("select count(*) from pgstac.items where collection = 'shrinking'").fetchone() == (1,)
    until(lambda: len([name for name in keys(sdk, "cogs", "shrinking/") if name.endswith(".tif")]) == 1, 60)


def test_the_same_manifest_in_the_inbox_twice_is_two_messages_of_one_job(cli, sdk):
    """Its etag, which S3 makes of the bytes, is the same both times."""
    message = json.dumps({"job_type": "hello_world", "parameters": {"n": 3}}).encode()
    sdk.create_bucket(Bucket="submissions", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for times in (1, 2):
        sdk.put_object(Bucket="submissions", Key="inbox/hello.json", Body=message)
        until(lambda times=times: len(keys(sdk, "submissions", "done/")) == times, 120)
        # it is copied to where it is done, then deleted where it was claimed
        until(lambda: keys(sdk, "submissions", "inbox/") == keys(sdk, "submissions", "claimed/") == [], 30)
    with connect(cli) as db:
        messages = "select count(*), count(distinct job_id) from geo.messages where source = 'blob:lake/submissions'"
        assert db.execute(messages).fetchone() == (2, 1)
