"""An exported catalogue is whole, opens without a network, and is twice the same; nothing is left of one that failed."""

import hashlib
import json
import os
from pathlib import Path

import geopandas as gpd
import psycopg
import pystac
import pytest
import rasterio
import rustac
from pmtiles.reader import MemorySource, Reader
from shapely.geometry import Point

from geo_assets.accounts import AzureAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.stac.pgstac import load_items, read_items
from geo_assets.stac.validation import _CORE, _validator, validated
from geo_assets.stages.context import StageContext
from geo_assets.stages.export import Data, _free, export
from geo_assets.stages.export_target import open_target
from geo_assets.storage.blobs import BlobRef
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.databases import Dagster
from geo_assets_tests.stac.test_collections import box_item
from geo_assets_tests.stages.test_catalogue import World, raster, world  # noqa: F401 - the fixture


def deliver(world):  # noqa: F811
    """Two rasters and a table, published."""
    for name in ("a.tif", "über dem Fluß.tif"):
        raster(world, name)
    places = {"name": ["x", "y", None], "people": [1, None, 3]}
    frame = gpd.GeoDataFrame(places, geometry=[Point(5, 50), Point(6, 51), None], crs=4326)
    frame.to_file(world.folder / "places.gpkg")
    world.ingest(license="CC-BY-4.0")
    return world


def delivered(settings):
    """Yield a delivery; for fixtures."""
    dagster = Dagster(settings)
    with Submitter(settings, launches=False) as submitter, StageContext(settings) as context:
        yield deliver(World(context, submitter, dagster))
    dagster.conn.close()


@pytest.fixture(scope="module")
def made(settings):
    """For tests that only export it."""
    yield from delivered(settings)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def documents(folder: Path, kind: str) -> list[dict]:
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.rglob("*.json"))]
    return [document for document in found if document["type"] == kind]


def hrefs(folder: Path):
    """(file that says it, href) of every asset and every link within the catalogue."""
    for path in folder.rglob("*.json"):
        document = json.loads(path.read_text("utf-8"))
        for asset in document.get("assets", {}).values():
            yield path, asset["href"]
        for link in document["links"]:
            if link["rel"] != "derived_from":
                yield path, link["href"]


def test_an_export_opens_without_a_network_and_leads_to_every_file_by_relative_hrefs(made, tmp_path, monkeypatch):
    context, name = made.context, made.name
    told = []
    done = export(context.settings, name, str(tmp_path / "out"), told=told.append)
    assert (done.items, done.collections) == (3, {name: 2, f"{name}-vector": 1})
    assert (len(told), done.files) == (3, len(hashes(tmp_path / "out")))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it asks the network"))
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    catalog = pystac.Catalog.from_file(str(tmp_path / "elsewhere" / "catalog.json"))
    items = {item.properties["title"]: item for item in catalog.get_items(recursive=True)}
    assert items.keys() == {"a.tif", "über dem Fluß.tif", "places.gpkg"}
    assert {c.id for c in catalog.get_children()} == {name, f"{name}-vector"}
    assert items["a.tif"].get_collection().license == "CC-BY-4.0"
    assert items["a.tif"].get_root() is catalog
    for path, href in hrefs(tmp_path / "elsewhere"):
        assert href.startswith(("./", "../")), f"{path} leads to {href}"
        assert (path.parent / href).resolve().is_relative_to(tmp_path / "elsewhere")
        assert (path.parent / href).is_file()
    monkeypatch.undo()
    with rasterio.open(items["a.tif"].assets["data"].get_absolute_href()) as cog:
        assert cog.shape == (40, 50)
    (table,) = items["places.gpkg"].assets.values()
    rows = gpd.read_parquet(table.get_absolute_href())
    assert (rows.name.tolist()[:2], rows.people.tolist()[0], len(rows), rows.crs.to_epsg()) == (["x", "y"], 1, 3, 4326)
    assert table.extra_fields["file:size"] == Path(table.get_absolute_href()).stat().st_size


def test_every_document_of_an_export_is_valid_without_a_network(made, tmp_path):
    export(made.context.settings, made.name, str(tmp_path / "out"))
    for kind, count in (("Feature", 3), ("Collection", 2)):
        found = documents(tmp_path / "out", kind)
        assert len(found) == count
        assert all(validated(document) for document in found)
    (catalog,) = documents(tmp_path / "out", "Catalog")
    assert _validator(f"{_CORE}/catalog-spec/json-schema/catalog.json", ()).is_valid(catalog)


@pytest.mark.parametrize("data", list(Data))
def test_a_second_export_of_the_same_catalogue_is_the_same_byte_for_byte(made, tmp_path, data):
    for name in ("one", "two"):
        export(made.context.settings, made.name, str(tmp_path / name), data=data)
    first = hashes(tmp_path / "one")
    assert first == hashes(tmp_path / "two")
    assert any(name.endswith(".tif") for name in first) == (data is not Data.NONE)
    assert any(name.endswith("places.parquet") for name in first) == (data is not Data.NONE)


def test_links_share_the_files_and_copies_do_not(made, tmp_path):
    for data in (Data.COPY, Data.LINK):
        export(made.context.settings, made.name, str(tmp_path / data), data=data)
    (cog, *_) = (made.context.settings.home / "containers" / "cogs" / made.name).rglob("*.tif")
    same = {
        data: any(path.samefile(cog) for path in (tmp_path / data).rglob("*.tif")) for data in (Data.COPY, Data.LINK)
    }
    assert same == {Data.COPY: False, Data.LINK: True}


def test_without_data_the_hrefs_lead_to_where_the_files_are(made, tmp_path):
    export(made.context.settings, made.name, str(tmp_path / "out"), data=Data.NONE)
    stored = {item["id"]: item for item in read_items(made.context.settings, made.name)}
    for item in documents(tmp_path / "out", "Feature"):
        if item["id"] in stored:
            assert item["assets"] == stored[item["id"]]["assets"]


def test_an_export_tells_no_path_of_this_machine(made, tmp_path):
    export(made.context.settings, made.name, str(tmp_path / "out"))
    for path in (tmp_path / "out").rglob("*.json"):
        assert "file:/" not in path.read_text("utf-8"), path
    for path in (tmp_path / "out").rglob("items.parquet"):
        read = json.dumps(rustac.read_sync(str(path)))
        assert "./collection.json" in read
        assert "file:/" not in read
        assert str(made.context.settings.home) not in read
    lineages = [item["properties"]["processing:lineage"] for item in documents(tmp_path / "out", "Feature")]
    assert any("a.tif" in lineage for lineage in lineages)


def test_no_two_files_of_an_item_have_one_name():
    taken = {"item.json"}
    wanted = [("ITEM.json", "a"), ("x.tif", "b"), ("c-x.tif", "c"), ("x.tif", "c"), ("X.tif", "c"), ("x.tif", "c")]
    names = [_free(name, key, taken) for name, key in wanted]
    assert len({"item.json", *(name.lower() for name in names)}) == len(wanted) + 1
    assert names[1] == "x.tif"


def test_what_is_written_where_a_link_lies_leaves_the_linked_file_alone(settings, tmp_path):
    cogs = settings.home / "containers" / "cogs"
    cogs.mkdir(parents=True, exist_ok=True)
    (cogs / "linked.tif").write_bytes(b"one")
    (cogs / "copied.tif").write_bytes(b"two")
    one, two = (BlobRef("default", "cogs", f"{name}.tif") for name in ("linked", "copied"))
    with open_target(settings, str(tmp_path / "out")) as target:
        assert target.link(settings, one, "x.tif", sha256=None)
        target.copy(settings, two, "x.tif", media_type="", sha256=None)
    assert (tmp_path / "out" / "x.tif").read_bytes() == b"two"
    assert (cogs / "linked.tif").read_bytes() == b"one"


@pytest.mark.parametrize("place", [".", "linked", "made/here"])
def test_an_empty_folder_takes_an_export_whatever_it_is_called(settings, tmp_path, monkeypatch, place):
    items = [box_item("one", "any-place", 5.0, 50.0, 6.0, 51.0)]
    load_items(settings, "any-place", items, guard=lambda conn: None, record=lambda conn: None)
    for name in ("empty", "made/here"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "linked").symlink_to("empty")
    monkeypatch.chdir(tmp_path / "empty" if place == "." else tmp_path)
    export(settings, "any-place", place)
    assert (Path(place) / "catalog.json").is_file(), "it is seen from where one stands"
    assert sorted(path.name for path in Path(place).iterdir()) == ["any-place", "catalog.json"]
    assert (tmp_path / "linked").is_symlink()


def test_a_link_to_nothing_is_refused_before_the_work(settings, tmp_path):
    load_items(
        settings,
        "any-place",
        [box_item("one", "any-place", 5.0, 50.0, 6.0, 51.0)],
        guard=lambda conn: None,
        record=lambda conn: None,
    )
    (tmp_path / "link").symlink_to("nowhere")
    told = []
    with pytest.raises(GeoAssetsError, match="is a link to nothing"):
        export(settings, "any-place", str(tmp_path / "link"), told=told.append)
    assert told == []
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_the_rights_of_an_export_are_those_that_its_user_gives_to_files(settings, tmp_path):
    items = [box_item("one", "any-place", 5.0, 50.0, 6.0, 51.0)]
    load_items(settings, "any-place", items, guard=lambda conn: None, record=lambda conn: None)
    before = os.umask(0o077)
    try:
        export(settings, "any-place", str(tmp_path / "out"))
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_alone_leaves_out_the_collection_of_the_tables(made, tmp_path):
    assert export(made.context.settings, made.name, str(tmp_path / "out"), alone=True).collections == {made.name: 2}
    assert export(made.context.settings, f"{made.name}-vector", str(tmp_path / "t")).collections == {
        f"{made.name}-vector": 1
    }


def test_an_export_into_a_container_is_the_same_as_into_a_folder(made, tmp_path):
    export(made.context.settings, made.name, str(tmp_path / "out"))
    done = export(made.context.settings, made.name, f"default/export-of-{made.name}/2026")
    assert done.to == f"default/export-of-{made.name}/2026"
    there = made.context.settings.home / "containers" / f"export-of-{made.name}" / "2026"
    assert hashes(there) == hashes(tmp_path / "out")
    newest = max(there.rglob("*"), key=lambda path: path.stat().st_mtime_ns if path.is_file() else 0)
    assert newest.name == "catalog.json", "it comes last"
    with pytest.raises(GeoAssetsError, match="is not empty"):
        export(made.context.settings, made.name, f"default/export-of-{made.name}/2026")


def test_what_cannot_be_exported_is_refused_in_one_line_and_nothing_is_made(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    away = AzureAccount(kind="azure", account_name="away", endpoint="http://127.0.0.1:9", account_key="a2V5")
    settings: Settings = made.context.settings.model_copy(
        update={"accounts": {**made.context.settings.accounts, "away": away}}
    )
    vars(settings).pop("storage_accounts", None)  # computed once
    for collection, to, code in (
        (made.name, str(tmp_path / "full"), "INVALID_PARAMETERS"),
        (made.name, str(tmp_path / "full" / "x"), "INVALID_PARAMETERS"),
        ("never-made", str(tmp_path / "new"), "COLLECTION_NOT_FOUND"),
        ("never-made", "default/never-made", "COLLECTION_NOT_FOUND"),
        (made.name, "nosuch/landing", "UNKNOWN_ACCOUNT"),
        (made.name, "away/landing", "STORAGE_UNAVAILABLE"),
    ):
        with pytest.raises(GeoAssetsError) as refused:
            export(settings, collection, to)
        assert refused.value.code == code
        assert "\n" not in refused.value.message
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "x"]
    assert not (settings.home / "containers" / "never-made").exists()


def test_footprints_are_drawn_on_both_sides_of_the_antimeridian(settings, tmp_path):
    items = [
        box_item("fiji", "both-sides", 179.0, -17.0, -179.0, -16.0),
        box_item("here", "both-sides", 5.0, 50.0, 6.0, 51.0),
    ]
    load_items(settings, "both-sides", items, guard=lambda conn: None, record=lambda conn: None)
    export(settings, "both-sides", str(tmp_path / "out"))
    reader = Reader(MemorySource((tmp_path / "out" / "both-sides" / "footprints.pmtiles").read_bytes()))
    header = reader.header()
    assert (header["min_zoom"], header["max_zoom"]) == (0, 5)
    west, east, middle = (reader.get(3, x, 4) for x in (0, 7, 3))
    assert west is not None
    assert east is not None
    assert middle is None, "nothing is drawn between"
    (collection,) = documents(tmp_path / "out", "Collection")
    assert collection["assets"]["footprints"]["href"] == "./footprints.pmtiles"


def test_an_item_of_a_foreign_id_has_a_folder_that_every_file_system_takes(settings, tmp_path):
    ids = ["..", "a/b", "ä", "x" * 250, "CON:", "plain"]
    items = [box_item(identity, "foreign-ids", 5.0, 50.0, 6.0, 51.0) for identity in ids]
    load_items(settings, "foreign-ids", items, guard=lambda conn: None, record=lambda conn: None)
    export(settings, "foreign-ids", str(tmp_path / "out"))
    catalog = pystac.Catalog.from_file(str(tmp_path / "out" / "catalog.json"))
    assert sorted(item.id for item in catalog.get_items(recursive=True)) == sorted(ids)
    assert hashes(tmp_path / "out").keys() >= {"foreign-ids/plain/plain.json"}


def test_items_that_were_loaded_before_and_after_the_collection_changed_are_exported_as_they_are(
    settings,
    tmp_path,
):
    def load(identity):
        made = box_item(identity, "edited", 5.0, 50.0, 6.0, 51.0)
        made["assets"]["data"] = {"href": f"https://x.example/{identity}.tif", "roles": ["data"], "title": "T"}
        load_items(settings, "edited", [made], guard=lambda conn: None, record=lambda conn: None)

    load("first")
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("set search_path to pgstac, public")
        conn.execute(
            """select update_collection(content || '{"item_assets": {"data": {"title": "T", "roles": ["data"]}}}')
                 from collections where id = 'edited'"""
        )
    load("second")
    export(settings, "edited", str(tmp_path / "out"))
    exported = {item["id"]: item for item in documents(tmp_path / "out", "Feature")}
    for item in read_items(settings, "edited"):
        assert exported[item["id"]]["assets"] == item["assets"]
        assert item["assets"]["data"]["title"] == "T"
    assert len(exported) == 2
