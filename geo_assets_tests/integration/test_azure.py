"""A whole stack in an Azure account in which nothing was prepared: sources, outputs, inbox and queue. And the account
goes away.
"""

import json

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import box

from geo_assets_tests.azurite import ACCOUNTS
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.integration.test_take_along import delivery  # noqa: F401 - the fixture
from geo_assets_tests.otlp import PARENT
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.azure


@pytest.fixture(scope="module")
def service(azurite):
    from azure.storage.blob import BlobServiceClient

    return BlobServiceClient.from_connection_string(azurite.account(ACCOUNTS[1]).connection)


def queue(azurite, name="geospatial-jobs"):
    from azure.storage.queue import QueueClient

    return QueueClient.from_connection_string(azurite.account(ACCOUNTS[1]).connection, name)


def test_an_ingest_works_in_an_account_in_which_nothing_was_prepared(azure_cli, azurite, service, tmp_path):
    folder = tmp_path / "delivery"
    (folder / "sub").mkdir(parents=True)
    write(folder / "scan.tif", np.ones((3, 64, 64), "uint8"), photometric="RGB")
    gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(1, 1, 2, 2)], crs=4326).to_file(
        folder / "sub" / "parcels.gpkg"
    )
    (folder / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    (folder / "plan.dwg").write_bytes(b"x")
    there = {c.name for c in service.list_containers()}
    assert there >= {"cogs", "thumbnails"}  # `up` made what is written to
    assert "landing" not in there
    done = azure_cli.run("upload", str(folder), "azure/landing")
    assert done.returncode == 0, done.stderr
    azure_cli.run("upload", str(folder / "scan.tif"), "azure/landing/a")
    service.get_container_client("landing").upload_blob(
        "a//twice.tif", b"x"
    )  # a name that Azure takes and clients do not
    queue(azurite).send_message(
        json.dumps(
            {
                "job_type": "ingest_container",
                "parameters": {"account": "azure", "container": "landing", "collection": "azured"},
                "correlation_id": "order-queue",
                "traceparent": PARENT,
            }
        )
    )
    queue(azurite).send_message("{")
    with connect(azure_cli) as db:  # a command each time would take the job's time
        (job_id,) = until(
            lambda: db.execute(
                """select job_id from geo.job_status
                    where parameters->>'collection' = 'azured' and status not in ('queued', 'processing')"""
            ).fetchone(),
            240,
        )
    job = azure_cli.json("job", job_id)
    tasks = {t["task_key"]: t for t in azure_cli.json("tasks", job["job_id"])}
    assert {k: t["error_code"] for k, t in tasks.items()} == {
        "scan.tif": None,
        "delivery/scan.tif" if "delivery/scan.tif" in tasks else "a/scan.tif": None,
        "sub/parcels.gpkg": None,
        "broken.tif": "UNREADABLE",
        "plan.dwg": "UNSUPPORTED_FORMAT",
        "a//twice.tif": "UNSAFE_PATH",
    }
    assert job["status"] == "completed_with_errors"
    _, _, path = tasks["scan.tif"]["outputs"]["cog"].split("/", 2)
    told = service.get_blob_client("cogs", path).get_blob_properties().content_settings
    assert told.content_type == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert "immutable" in told.cache_control
    _, _, path = tasks["scan.tif"]["outputs"]["thumbnail"].split("/", 2)
    assert (
        service.get_blob_client("thumbnails", path).get_blob_properties().content_settings.content_type == "image/png"
    )
    with connect(azure_cli) as db:
        (item,) = db.execute(
            "select content->'assets' from pgstac.items where collection = 'azured' limit 1"
        ).fetchone()
        assert "sig=" not in json.dumps(item)
        kept = db.execute(
            "select correlation_id, traceparent from geo.attempts where job_id = %s", (job["job_id"],)
        ).fetchall()
        tags = db.execute("select key, value from dagster.run_tags where run_id = %s", (job["run_id"],)).fetchall()
    assert kept == [("order-queue", PARENT)]
    assert {("geo_assets/correlation_id", "order-queue"), ("geo_assets/traceparent", PARENT)} <= set(tags)
    until(lambda: queue(azurite).get_queue_properties().approximate_message_count == 0, 30)
    assert queue(azurite, "geospatial-jobs-poison").get_queue_properties().approximate_message_count == 1
    findings = {f["what"]: f for f in azure_cli.json("doctor")}
    for what in ("account azure", "output azure/cogs", "output azure/thumbnails", "queue geospatial-jobs"):
        assert findings[what]["level"] == "ok", findings[what]


def test_an_export_in_azure_names_no_account_and_holds_no_secret(azure_cli, azurite, service, delivery):  # noqa: F811
    account = azurite.account(ACCOUNTS[1])
    assert azure_cli.run("upload", str(delivery), "azure/to-be-taken").returncode == 0
    parameters = ("account=azure", "container=to-be-taken", "export_tables=geoparquet")
    job = azure_cli.json("submit", "ingest_container", *(w for p in parameters for w in ("--param", p)), "--wait")
    assert job["status"] == "completed"
    told = azure_cli.json("export", "to-be-taken", "azure/taken/2026")
    container = service.get_container_client("taken")
    blobs = {blob.name: blob for blob in container.list_blobs()}
    assert len(blobs) == told["files"]
    assert blobs["2026/catalog.json"].last_modified == max(blob.last_modified for blob in blobs.values())
    kinds = {name.rpartition(".")[2]: blob.content_settings.content_type for name, blob in blobs.items()}
    assert kinds["tif"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert kinds["pmtiles"] == "application/vnd.pmtiles"
    for name in blobs:
        content = container.download_blob(name).readall()
        assert b"sig=" not in content
        assert account.settings["account_key"].encode() not in content
        if name.endswith(".json") and json.loads(content)["type"] == "Feature":
            assets = json.loads(content)["assets"].values()
            assert all(asset["href"].startswith("./") and "alternate" not in asset for asset in assets)
            assert "storage:schemes" not in json.loads(content)["properties"]
    shown = json.loads(azure_cli.run("collection", "show", "to-be-taken").stdout)
    stored = shown["assets"]["geoparquet-items"]
    assert stored["href"].startswith("http")
    assert "?" not in stored["href"]
    again = azure_cli.run("export", "to-be-taken", "azure/taken/2026")
    assert "is not empty" in again.stderr


@pytest.mark.slow
def test_a_store_that_goes_away_in_the_middle_of_a_job_is_waited_for_and_no_file_is_taken_for_gone(
    azure_cli, azurite, tmp_path
):
    for i in range(40):
        write(tmp_path / f"tile_{i:02}.tif", np.random.default_rng(i).integers(0, 255, (3, 600, 600)).astype("uint8"))
    assert azure_cli.run("upload", str(tmp_path), "azure/outage").returncode == 0
    job = azure_cli.json("submit", "stage_raster", "--param", "account=azure", "--param", "container=outage")

    def converted():
        with connect(azure_cli) as db:
            return db.execute(
                "select count(*) from geo.tasks where job_id = %s and receipt is not null", (job["job_id"],)
            ).fetchone()[0]

    until(lambda: converted() >= 3)
    azurite.stop()
    try:
        until(lambda: "open" in circuits(azure_cli).values(), 60)
        findings = {f["what"]: f for f in azure_cli.json("doctor")}
        assert findings["account azure"]["level"] == "failure"
        assert "does not answer" in findings["account azure"]["found"]
        other = azure_cli.json("submit", "list_container", "--param", "account=azure", "--param", "container=outage")
        assert azure_cli.json("job", job["job_id"])["status"] == "processing"
        assert converted() < 40
    finally:
        azurite.start()
    for waiting in (job, other):
        until(lambda waiting=waiting: azure_cli.json("job", waiting["job_id"])["status"] == "completed", 150)
    ended = azure_cli.json("job", job["job_id"])
    assert (ended["attempt"], ended["run_id"]) == (1, ended["run_id"])
    with connect(azure_cli) as db:
        assert db.execute("select count(*) from pgstac.items where collection = 'outage'").fetchone() == (40,)
        said = db.execute(
            "select distinct severity, code from geo.errors where job_id = %s", (job["job_id"],)
        ).fetchall()
    assert said == [("alert", "STORAGE_UNAVAILABLE")]
    until(lambda: circuits(azure_cli)["storage azure"] == "closed", 60)


def circuits(cli) -> dict[str, str]:
    with connect(cli) as db:
        return dict(db.execute("select name, state from geo.circuits where name = 'storage azure'").fetchall())
