"""A job's receipt, what verifying it names, and a lost database that is made again from it; all as a user does it."""

import gzip
import json
import re
from contextlib import contextmanager

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from shapely.geometry import Point, box

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.migrate import migrate
from geo_assets_tests.conftest import Cli
from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.integration.test_reconcile import executed, stored
from geo_assets_tests.oracle import settings_of
from geo_assets_tests.raster.test_cog import write

pytestmark = pytest.mark.faults  # a minute of jobs before the first test

NAME = "accounted"


@pytest.fixture(scope="module")
def job(cli, tmp_path_factory):
    """A job with rasters, tables and a bad file, and its tasks."""
    folder = tmp_path_factory.mktemp(NAME)
    rng = np.random.default_rng(1)
    write(folder / "größe 1.tif", rng.integers(0, 255, (1, 300, 300), "uint8"))
    write(folder / "b.tif", rng.integers(0, 255, (3, 60, 60), "uint8"))
    gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(1, 1, 2, 2)], crs=4326).to_file(folder / "c.gpkg")
    places = folder / "d.gpkg"
    gpd.GeoDataFrame({"n": [1]}, geometry=[Point(0, 0)], crs=4326).to_file(places, layer="one")
    gpd.GeoDataFrame({"n": [1, 2, 3]}, geometry=[Point(0, i) for i in range(3)], crs=4326).to_file(places, layer="two")
    (folder / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    upload(cli, folder, NAME)
    return ingest(cli, NAME)


def receipts_of(cli, job):
    return sorted((cli.home / "containers" / "cogs" / "_receipts" / job["job_id"]).iterdir())


def path_of(cli, blob):
    return cli.home / "containers" / blob.removeprefix("default/")


def verified(cli, *words, code=1):
    """(code, what) of each fault."""
    done = cli.run("verify", *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return [(fault["code"], fault["what"]) for fault in json.loads(done.stdout)["faults"]]


@contextmanager
def changed(path, change):
    good = path.read_bytes()
    path.write_bytes(change(good))
    try:
        yield
    finally:
        path.write_bytes(good)


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_the_receipt_of_a_job_is_beside_its_cogs_when_the_job_ends_and_is_what_is_printed(cli, job):
    record, tasks = job
    (file,) = receipts_of(cli, record)
    beside, printed = json.loads(file.read_bytes()), cli.json("receipt", record["job_id"])
    assert beside["receipt"]["status"] == record["status"] == "completed_with_errors"
    for document in (beside, printed):
        document["receipt"] |= {"number": 0, "written_at": ""}
    assert beside == printed
    by_key = {task["task_key"]: task for task in beside["tasks"]}
    assert by_key["broken.tif"]["error_code"] == tasks["broken.tif"]["error_code"]
    assert by_key["c.gpkg"]["receipt"]["input"][0]["sha256"]
    assert {row["item"]["properties"]["title"] for row in beside["published"]} == {
        "größe 1.tif", "b.tif", "c.gpkg", "d.gpkg",
    }  # fmt: skip
    assert {row["content"]["id"] for row in beside["collections"]} == {
        NAME, f"{NAME}-vector", f"{NAME}-visual",
    }  # fmt: skip
    assert [a["outcome"] for a in beside["receipt"]["attempts"]] == ["completed"]


def test_what_was_not_touched_verifies_deeply(cli, job):
    record, _ = job
    of_job, of_collections = "4 items, 4 files", "4 items, 7 files"  # with the files of all items of a collection
    for words, told in (
        ((record["job_id"][:12],), of_job),
        ((record["job_id"], "--deep"), of_job),
        (("--collection", NAME, "--deep"), of_collections),
    ):
        done = cli.run("verify", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"all is as it was published: {told}" in done.stdout
        assert "3 tables" in done.stdout


def test_one_flipped_bit_is_named_with_its_file_and_what_to_do(cli, job):
    record, tasks = job
    blob = tasks["größe 1.tif"]["outputs"]["cog"]
    with changed(path_of(cli, blob), flipped):
        done = cli.run("verify", record["job_id"])
        assert done.returncode == 1
        assert f"BLOB_CHANGED: {blob}: " in done.stdout
        assert "--force" in done.stdout
        deep = cli.run("verify", record["job_id"], "--deep").stdout
        assert re.search(r"its pixels are (not )?those of its stamp; .*the checksum of tile \(0, 0\) is wrong", deep)
    thumbnail = tasks["b.tif"]["outputs"]["thumbnail"]
    with changed(path_of(cli, thumbnail), flipped):
        assert verified(cli, record["job_id"]) == [("BLOB_CHANGED", thumbnail)]


def test_a_missing_file_and_a_missing_receipt_are_named(cli, job):
    record, tasks = job
    blob = tasks["b.tif"]["outputs"]["thumbnail"]
    moved = path_of(cli, blob).rename(cli.home / "aside.png")
    try:
        assert verified(cli, record["job_id"]) == [("BLOB_GONE", blob)]
    finally:
        moved.rename(path_of(cli, blob))
    (file,) = receipts_of(cli, record)
    with changed(file, lambda data: data[: len(data) // 2]):
        assert verified(cli, record["job_id"], "--deep")[0][0] == "RECEIPT_UNREADABLE"
    content = file.read_bytes()
    file.unlink()
    assert verified(cli, record["job_id"]) == [("RECEIPT_GONE", record["job_id"])]
    assert cli.run("receipt", record["job_id"], "--write").returncode == 0
    (again,) = receipts_of(cli, record)
    written, before = json.loads(again.read_bytes()), json.loads(content)
    moments = {written["receipt"].pop("written_at"), before["receipt"].pop("written_at")}
    assert len(moments) == 2
    assert written == before
    assert verified(cli, record["job_id"], "--deep", code=0) == []


def test_a_changed_and_a_deleted_item_are_named(cli, job):
    record, tasks = job
    name = tasks["b.tif"]["outputs"]["stac_item"]
    collection, _, identity = name.partition("/")
    where = f"collection = '{collection}' and id = '{identity}'"
    said = """update pgstac.items set content = jsonb_set(content, '{properties,gsd}', '7') where """
    with stored(cli, "pgstac.items", where, said + where):
        assert verified(cli, record["job_id"]) == [("ITEM_CHANGED", name)]
    with stored(cli, "pgstac.items", where, f"delete from pgstac.items where {where}"):
        assert verified(cli, "--collection", NAME) == [("ITEM_GONE", name)]
    row = f"stac_item = '{name}'"
    with stored(cli, "geo.published", row, f"delete from geo.published where {row}"):
        assert ("ITEM_NOT_PUBLISHED", name) in verified(cli, record["job_id"])


def test_a_changed_row_count_and_a_changed_account_are_named(cli, job):
    record, tasks = job
    (table,) = (t["table"] for t in tasks["c.gpkg"]["outputs"]["tables"])
    more = f"insert into {table} (n, geom) select n, geom from {table} where gid = 1"
    with executed(cli, more, f"delete from {table} where gid > 2"):
        assert verified(cli, record["job_id"]) == [("ROWS_CHANGED", table)]
    assert cli.run("receipt", record["job_id"], "--write").returncode == 0  # what other tests changed is told
    where = f"job_id = '{record['job_id']}' and task_key = 'broken.tif'"
    with stored(cli, "geo.tasks", where, f"delete from geo.tasks where {where}"):
        assert verified(cli, record["job_id"]) == [("ACCOUNT_CHANGED", record["job_id"])]
    assert verified(cli, record["job_id"], "--deep", code=0) == []


@pytest.mark.parametrize("words", [(), ("--all", "--collection", "x"), ("--collection", "nowhere")])
def test_what_cannot_be_verified_is_one_line(cli, words):
    done = cli.run("verify", *words)
    assert done.returncode == 1
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_item_that_a_later_job_replaced_is_superseded_for_the_earlier_one(cli, tmp_path):
    upload(cli, write(tmp_path / "a.tif", np.ones((1, 30, 30), "uint8")), "replacing")
    old, _ = ingest(cli, "replacing")
    new, _ = ingest(cli, "replacing", "profile=archive")
    done = cli.run("verify", old["job_id"])
    assert done.returncode == 0, done.stdout
    assert "superseded" in done.stdout
    assert "0 items" in done.stdout
    assert verified(cli, new["job_id"], "--deep", code=0) == []


def test_a_large_receipt_is_compressed(cli, job, monkeypatch):
    from geo_assets.receipts import write as module

    record, _ = job
    monkeypatch.setattr(module, "_LARGE", 1)
    assert module.write_now(settings_of(cli), record["job_id"]).endswith(".json.gz")
    newest = receipts_of(cli, record)[-1]
    with gzip.open(newest, "rb") as file:
        assert json.load(file)["receipt"]["number"] == int(newest.name[:6])
    assert verified(cli, record["job_id"], "--deep", code=0) == []


# -- the database is lost ----------------------------------------------------------------------------------------------


@pytest.fixture
def lost(cli):
    """A new database beside the stack's, for the same containers, as after the loss of the old one."""
    settings = settings_of(cli).model_copy(update={"pg_database": "lost"})
    stack = json.loads((cli.home / "stack.json").read_text())
    dsn = f"postgresql://postgres:{stack['passwords']['superuser']}@127.0.0.1:{stack['ports']['postgres']}/postgres"
    bootstrap(dsn, settings)
    migrate(settings)
    yield Cli(cli.home, GEO_ASSETS_PG_DATABASE="lost")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("drop database lost with (force)")


def items(cli, job):
    """name -> item, as loaded, of what a job has in the catalogue."""
    return {row["stac_item"]: [row["item"], row["outputs"]] for row in cli.json("receipt", job["job_id"])["published"]}


def normal(found):
    """Without the name of the database, in which the two differ."""
    return json.loads(json.dumps(found).replace("/lost?table=", "/geo_assets?table="))


def test_ledger_catalogue_and_tables_of_a_lost_database_are_made_again(cli, job, lost):
    record, _ = job
    done = lost.run("rebuild", "--from", "default/cogs", "--json")
    assert done.returncode in {0, 1}, done.stderr  # other tests have deleted their sources
    missing = [fault for fault in json.loads(done.stdout)["missing"] if fault["what"].startswith(f"{NAME}")]
    assert missing == []
    assert normal(items(lost, record)) == items(cli, record)
    for document in (before := cli.json("receipt", record["job_id"]), after := lost.json("receipt", record["job_id"])):
        document["receipt"] |= {"written_at": "", "number": 0}
        document["vector_loads"] = [
            {k: row[k] for k in ("table_name", "source", "table_rows", "load_key")} for row in document["vector_loads"]
        ]
        for row in document["published"]:
            row.pop("item_hash")
        for row in document["collections"]:
            if row["content"]["id"] == f"{NAME}-vector":  # the file of items that name their database
                del row["content"]["assets"]["geoparquet-items"]
    assert normal(after) == before
    assert verified(lost, record["job_id"], "--deep", code=0) == []
    assert verified(lost, "--collection", NAME, "--deep", code=0) == []
    again = lost.json("rebuild", "--from", "default/cogs")
    assert (again["jobs"], again["items"]) == (0, 0)


def test_a_table_whose_source_has_changed_is_named_and_the_rest_is_there(cli, job, lost):
    record, tasks = job
    with changed(cli.home / "containers" / NAME / "c.gpkg", flipped):
        done = lost.json("rebuild", "--from", "default/cogs")
    named = {fault["what"]: fault["code"] for fault in done["missing"]}
    name = tasks["c.gpkg"]["outputs"]["stac_item"]
    assert named[name] == "SOURCE_CHANGED"
    assert items(lost, record).keys() == items(cli, record).keys() - {name}
    assert {what for what in named if what.startswith(NAME)} == {name}


def test_sources_that_are_not_mounted_yet_are_no_loss(cli, job, lost):
    record, tasks = job
    sources = cli.home / "containers" / NAME
    away = sources.rename(sources.with_name(f"{NAME}-away"))
    before = [file.name for file in receipts_of(cli, record)]
    try:
        done = lost.json("rebuild", "--from", "default/cogs")
    finally:
        away.rename(sources)
    named = {fault["what"] for fault in done["missing"]}
    assert {tasks[key]["outputs"]["stac_item"] for key in ("c.gpkg", "d.gpkg")} <= named
    assert lost.run("receipt", record["job_id"], "--write").returncode == 1
    assert [file.name for file in receipts_of(cli, record)] == before
    lost.run("rebuild", "--from", "default/cogs")
    assert normal(items(lost, record)) == items(cli, record)
    assert verified(lost, record["job_id"], "--deep", code=0) == []
    assert [file.name for file in receipts_of(cli, record)] != before
