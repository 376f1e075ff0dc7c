"""items.parquet of a collection: made when a job ends, only where something changed, never half visible, swept."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import rustac
from psycopg.types.json import Jsonb

from geo_assets.accounts import AzureAccount
from geo_assets.settings import Settings
from geo_assets.stac import geoparquet
from geo_assets.stac.pgstac import load_items, read_collection, read_items
from geo_assets.stages import items_file
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.stages.reconcile import reconcile
from geo_assets.stages.unpublish import unpublish_collection, unpublish_item
from geo_assets.storage.containers import open_container
from geo_assets_tests.azurite import ACCOUNTS
from geo_assets_tests.stac.test_geoparquet import plain
from geo_assets_tests.stac.test_retries import item
from geo_assets_tests.stages.test_catalogue import raster, world  # noqa: F401 - the fixture


def asset(settings, collection):
    return read_collection(settings, collection).get("assets", {}).get("geoparquet-items")


def file_of(settings, collection) -> Path:
    return Path(asset(settings, collection)["href"].removeprefix("file://"))


def files(settings, collection) -> list[Path]:
    folder = settings.home / "containers" / "cogs" / "_collections" / collection
    return [path for path in folder.rglob("*") if path.is_file()]


def ids(path: Path) -> list[str]:
    return [found["id"] for found in rustac.read_sync(str(path))["features"]]


def load(settings, collection, *names):
    items = [item(name, collection) for name in names]
    load_items(settings, collection, items, guard=lambda conn: None, record=lambda conn: None)


def row_version(settings, collection):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        return conn.execute("select xmin::text from pgstac.collections where id = %s", (collection,)).fetchone()


def test_when_a_job_ends_its_collections_have_all_their_items_as_a_file(world):  # noqa: F811
    s = world.context.settings
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    world.ingest()
    told, path = asset(s, world.name), file_of(s, world.name)
    assert (told["roles"], told["type"]) == (["stac-items"], "application/vnd.apache.parquet")
    assert path.name == "items.parquet"
    assert (told["file:size"], told["file:checksum"]) == (
        path.stat().st_size,
        f"1220{hashlib.sha256(path.read_bytes()).hexdigest()}",
    )
    back = [plain(found) for found in rustac.read_sync(str(path))["features"]]
    assert back == [plain(stored) for stored in read_items(s, world.name)]
    found = reconcile(s, collections=[world.name], grace=timedelta(0), deep=True)
    assert found.differences == ()


def test_a_job_that_changes_nothing_writes_no_file_and_leaves_the_collection_alone(world):  # noqa: F811
    s = world.context.settings
    raster(world, "a.tif")
    world.ingest()
    before = (row_version(s, world.name), [(p, p.stat().st_mtime_ns) for p in files(s, world.name)])
    world.ingest()
    world.ingest(force=True)
    assert (row_version(s, world.name), [(p, p.stat().st_mtime_ns) for p in files(s, world.name)]) == before


def test_a_new_item_makes_a_new_file_beside_the_old_one_which_is_then_deleted(world):  # noqa: F811
    s = world.context.settings
    raster(world, "a.tif")
    world.ingest()
    old = file_of(s, world.name)
    raster(world, "b.tif")
    world.ingest()
    new = file_of(s, world.name)
    assert new != old
    assert files(s, world.name) == [new]
    assert len(ids(new)) == 2


def test_a_file_that_cannot_be_made_fails_no_file_of_the_job_and_the_next_one_makes_it(world, monkeypatch):  # noqa: F811
    s = world.context.settings
    raster(world, "a.tif")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(geoparquet, "write_items", fail)
        job, registered = world.ingest()
    assert registered.items == 1
    assert world.tasks(job)["a.tif"][0] == "succeeded"
    assert asset(s, world.name) is None
    ((code,),) = world.rows("select distinct code from geo.errors where job_id = %s", job.job_id)
    assert code == "DISK_FULL"
    world.ingest()
    assert len(ids(file_of(s, world.name))) == 1


def test_a_file_that_was_lost_is_named_by_reconcile_and_made_again_by_the_next_job(world):  # noqa: F811
    s = world.context.settings
    raster(world, "a.tif")
    world.ingest()
    lost = file_of(s, world.name)
    content = lost.read_bytes()
    lost.unlink()
    (difference,) = reconcile(s, collections=[world.name], grace=timedelta(0)).differences
    assert difference.what.endswith("items.parquet")
    version = row_version(s, world.name)
    world.ingest()
    assert lost.read_bytes() == content
    assert row_version(s, world.name) == version


def test_what_is_unpublished_leaves_the_file_too_and_an_empty_collection_has_none(settings):
    load(settings, "shrinking", "a", "b")
    assert refresh_items_file(settings, "shrinking", run="test")
    unpublish_item(settings, "shrinking/a", by="cli")
    assert ids(file_of(settings, "shrinking")) == ["b"]
    unpublish_item(settings, "shrinking/b", by="cli")
    assert (asset(settings, "shrinking"), files(settings, "shrinking")) == (None, [])
    assert "stac_extensions" not in read_collection(settings, "shrinking")


def test_in_azure_the_file_is_where_the_collection_says_and_names_no_key(settings, azurite):
    account = azurite.account(ACCOUNTS[1])
    accounts = {"azure": AzureAccount.model_validate(account.settings)}
    in_azure = Settings(**{**settings.model_dump(), "accounts": accounts, "output_account": "azure"})
    load(settings, "in-azure", "a")
    assert refresh_items_file(in_azure, "in-azure", run="test")
    told = asset(settings, "in-azure")
    assert told["href"].startswith(f"{account.blob_endpoint}/cogs/_collections/in-azure/")
    assert account.key not in json.dumps(told)
    path = told["href"].removeprefix(f"{account.blob_endpoint}/cogs/")
    found = open_container(in_azure, "azure", "cogs").head(path)
    assert found.size == told["file:size"]
    assert not refresh_items_file(in_azure, "in-azure", run="test")


def test_a_collection_that_is_deleted_takes_its_file_along(settings):
    load(settings, "deleted-with-file", "a")
    refresh_items_file(settings, "deleted-with-file", run="test")
    assert len(files(settings, "deleted-with-file")) == 1
    unpublish_collection(settings, "deleted-with-file", by="cli")
    assert files(settings, "deleted-with-file") == []


def test_what_others_write_while_the_file_is_made_is_in_it(settings, monkeypatch):
    load(settings, "meanwhile", "a")
    upload, late = items_file._uploaded, ["b", "c"]

    def others_write(*arguments):
        if late:
            load(settings, "meanwhile", late.pop(0))
        return upload(*arguments)

    monkeypatch.setattr(items_file, "_uploaded", others_write)
    assert refresh_items_file(settings, "meanwhile", run="test")
    assert ids(file_of(settings, "meanwhile")) == ["a", "b", "c"]


def test_the_janitor_sweeps_a_file_that_no_collection_names_and_no_other(settings):
    load(settings, "swept", "a")
    refresh_items_file(settings, "swept", run="test")
    named = file_of(settings, "swept")
    lost = named.parent.parent / "0123456789abcdef" / "items.parquet"
    lost.parent.mkdir()
    lost.write_bytes(b"of a process that was killed")
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        for path in (named, lost):
            blob = f"default/cogs/{path.relative_to(settings.home / 'containers' / 'cogs')}"
            conn.execute(
                "insert into geo.loose_blobs (blob, since, run_id) values (%s, now() - interval '3 days', 'killed')",
                (blob,),
            )
    sweep_orphans(settings)
    assert (named.exists(), lost.exists()) == (True, False)


def test_an_edited_collection_keeps_the_asset_and_its_other_assets(settings):
    load(settings, "has-others", "a")
    other = {"href": "https://x.example/report.pdf", "roles": ["metadata"]}
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("set search_path to pgstac, public")
        content = read_collection(settings, "has-others") | {"assets": {"report": other}}
        conn.execute("select update_collection(%s)", (Jsonb(content),))
    refresh_items_file(settings, "has-others", run="test")
    stored = read_collection(settings, "has-others")
    assert stored["assets"]["report"] == other
    assert asset(settings, "has-others") is not None
    assert json.dumps(stored).count("file/v2.1.0") == 1
    assert not refresh_items_file(settings, "has-others", run="test")


@pytest.mark.parametrize("collection", ["never-made"])
def test_a_collection_that_is_not_there_has_no_file(settings, collection):
    assert not refresh_items_file(settings, collection, run="test")
    assert files(settings, collection) == []
