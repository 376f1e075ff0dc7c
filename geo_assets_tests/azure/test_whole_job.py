"""Whole jobs on Azurite: what is written where, what is refused, and that no secret is in anything that is kept."""

import http.client
import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from psycopg import sql
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from geo_assets_tests.azurite import ACCOUNTS, KEY
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.azure

#: Kept for the stack itself, 0600.
OWN_SECRETS = {"stack.env", "stack.json"}

#: Names that Azure takes, and a file system, a URL or another system would not.
ODD = (
    "a//b.tif",
    "dot./c.tif",
    "con",
    "line\nbreak.tif",
    "Case.tif",
    "case.tif",
    "caf\u00e9.tif",
    "cafe\u0301.tif",
    "tail ",
    "slash.tif/",
    "p%2Fq.tif",
    "q?sig=1#x.tif",
    "long/" + "y" * 1019,
)

#: One that only a client of one's own can write: every other resolves it.
UPWARDS = "up/../../cogs/x.tif"


@pytest.fixture(scope="module")
def service(azurite):
    from azure.storage.blob import BlobServiceClient

    return BlobServiceClient.from_connection_string(azurite.account(ACCOUNTS[2]).connection)


def queue(azurite, name="geospatial-jobs"):
    from azure.storage.queue import QueueClient

    return QueueClient.from_connection_string(azurite.account(ACCOUNTS[2]).connection, name)


def ended(cli, collection: str, seconds: float = 120):
    with connect(cli) as db:
        (job_id,) = until(
            lambda: db.execute(
                """select job_id from geo.job_status
                    where parameters->>'collection' = %s and status not in ('queued', 'processing')""",
                (collection,),
            ).fetchone(),
            seconds,
        )
    return cli.json("job", job_id)


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    path = tmp_path_factory.mktemp("raster") / "scan.tif"
    write(path, np.ones((3, 64, 64), "uint8"), photometric="RGB")
    return path.read_bytes()


def raster_of(pixels) -> bytes:
    with MemoryFile() as memory:
        count, height, width = pixels.shape
        with memory.open(
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype=pixels.dtype,
            crs="EPSG:32618",
            transform=from_origin(5e5, 4e6, 10, 10),
        ) as opened:
            opened.write(pixels)
        return bytes(memory.read())


def put_upwards(endpoint: str, container: str, sas: str, content: bytes) -> None:
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    path = f"{parts.path}/{container}/{UPWARDS.replace('..', '%2E%2E')}?{sas}"
    connection.request("PUT", path, content, {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2024-11-04"})
    assert connection.getresponse().status == 201
    connection.close()


@pytest.fixture(scope="module")
def delivered(azure_cli, azurite, service, raster, sas):
    """A job by a message: sources by a SAS, outputs, thumbnails and receipts by a key. Beside it a job whose SAS
    expired.
    """
    container = service.create_container("delivery")
    container.upload_blob("good.tif", raster)
    for name in ODD:
        container.upload_blob(name, raster)
    put_upwards(azurite.account(ACCOUNTS[2]).blob_endpoint, "delivery", sas, raster)
    box = queue(azurite)
    parameters = {"account": "shared", "container": "delivery", "collection": "delivered"}
    box.send_message(json.dumps({"job_type": "ingest_container", "parameters": parameters}))
    box.send_message("{")
    refused = azure_cli.run("submit", "ingest_container", "--param", "account=expired", "--param", "container=delivery")
    return ended(azure_cli, "delivered"), refused


def test_every_blob_is_accounted_for_under_its_exact_name(azure_cli, delivered, service):
    job, _ = delivered
    tasks = {t["task_key"]: t for t in azure_cli.json("tasks", job["job_id"])}
    assert set(tasks) == {"good.tif", UPWARDS, *ODD}
    codes = {key: task["error_code"] for key, task in tasks.items()}
    assert {key for key, code in codes.items() if code == "UNSAFE_PATH"} == {
        "a//b.tif",
        "line\nbreak.tif",
        UPWARDS,
    }
    assert codes["slash.tif/"] == "UNSUPPORTED_FORMAT"  # a folder's name
    done = {key for key, code in codes.items() if code is None}
    assert done >= {"good.tif", "Case.tif", "case.tif", "caf\u00e9.tif", "cafe\u0301.tif", "p%2Fq.tif", "dot./c.tif"}
    cogs = {blob.name for blob in service.get_container_client("cogs").list_blobs()}
    written = [tasks[key]["outputs"]["cog"].split("/", 2)[2] for key in done]
    assert len(set(written)) == len(done)  # twins of case or of Unicode have outputs of their own
    assert set(written) <= cogs
    for kind in ("stac_item", "thumbnail"):
        assert all(tasks[key]["outputs"].get(kind) for key in done), kind


def test_a_message_that_is_none_is_in_the_queue_of_poison(delivered, azurite):
    until(lambda: queue(azurite).get_queue_properties().approximate_message_count == 0, 60)
    assert queue(azurite, "geospatial-jobs-poison").get_queue_properties().approximate_message_count == 1


def test_an_expired_sas_is_refused_for_good_in_a_line_without_it(azure_cli, delivered):
    _, refused = delivered
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "STORAGE_FORBIDDEN" in said or "is refused" in said
    assert "sig=" not in said
    assert "Traceback" not in said


def test_a_deleted_blob_and_a_snapshot_are_no_sources(azure_cli, service, raster):
    container = service.create_container("undead")
    for name in ("kept.tif", "deleted.tif"):
        container.upload_blob(name, raster)
        container.get_blob_client(name).create_snapshot()
    container.delete_blob("deleted.tif", delete_snapshots="include")
    plan = azure_cli.json(
        "submit", "list_container", "--param", "account=shared", "--param", "container=undead", "--wait"
    )
    assert plan["status"] == "completed"
    assert azure_cli.json("tasks", plan["job_id"])[0]["outputs"]["sources"] == {"raster": 1}


def test_a_job_in_a_storm_goes_on_afterwards_and_its_account_is_exact(azure_cli, service, storms):
    container = service.create_container("stormy")
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 255, (3, 400, 400)).astype("uint8")
        container.upload_blob(f"{number:02}.tif", raster_of(pixels))
    job = azure_cli.json("submit", "ingest_container", "--param", "account=stormy", "--param", "container=stormy")
    with connect(azure_cli) as db:
        converted = "select count(*) from geo.tasks where job_id = %s and receipt is not null"
        until(lambda: db.execute(converted, (job["job_id"],)).fetchone()[0] >= 2, 60)
        storm = storms.begin(503, Retry_After="2")
        until(lambda: db.execute("select max(failures) from geo.circuits").fetchone()[0], 120)
        assert azure_cli.json("job", job["job_id"])["status"] == "processing"
        storms.end()
    until(lambda: azure_cli.json("job", job["job_id"])["status"] != "processing", 240)
    told = azure_cli.json("job", job["job_id"])
    assert (told["status"], told["attempt"]) == ("completed", 1)
    assert len(storm.refused) < 16 * 20
    tasks = azure_cli.json("tasks", job["job_id"])
    assert {(task["status"], task["error_code"]) for task in tasks} == {("succeeded", None)}
    assert len(tasks) == 16


def test_no_key_and_no_sas_is_in_the_database_in_a_log_or_in_an_output(azure_cli, delivered, service, sas):
    signature = parse_qs(sas)["sig"][0]
    encoded = sas.partition("sig=")[2].partition("&")[0]
    secrets = {KEY, signature, encoded}
    with connect(azure_cli) as db:
        tables = db.execute(
            "select table_schema, table_name from information_schema.tables"
            " where table_schema in ('dagster', 'geo', 'pgstac') and table_type = 'BASE TABLE'"
        ).fetchall()
        assert len(tables) > 30
        for schema, table in tables:
            found = db.execute(
                sql.SQL(
                    "select count(*) from {} as t where exists (select from unnest(%s::text[]) s where strpos(t::text, s) > 0)"
                ).format(sql.Identifier(schema, table)),
                (sorted(secrets),),
            ).fetchone()
            assert found == (0,), (schema, table)
    for file in azure_cli.home.rglob("*"):
        if file.is_file() and file.name not in OWN_SECRETS and "postgresql" not in file.parts:
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), file
    for container in ("cogs", "thumbnails"):
        for blob in service.get_container_client(container).list_blobs():
            content = service.get_container_client(container).download_blob(blob.name).readall()
            assert not any(secret.encode() in content for secret in secrets), blob.name
    job, _ = delivered
    for command in (("job", job["job_id"]), ("tasks", job["job_id"]), ("doctor",)):
        said = azure_cli.run(*command)
        assert not any(secret in said.stdout + said.stderr for secret in secrets), command
