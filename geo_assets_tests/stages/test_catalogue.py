"""From converted files to items, by the stages themselves: a real ledger, real COGs, pgstac; no Dagster."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import geopandas as gpd
import numpy as np
import psycopg
import pytest
import rasterio
from psycopg.types.json import Jsonb
from pypgstac.hydration import hydrate
from rasterio.crs import CRS
from rasterio.transform import from_origin
from shapely.geometry import box

from geo_assets.accounts import AzureAccount, LocalAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import Job, validate_parameters
from geo_assets.settings import Settings
from geo_assets.stac.item import former_item_id
from geo_assets.stages import catalogue, cogs, read_back, vector_tables
from geo_assets.stages.claim import claim_job
from geo_assets.stages.container_inventory import take_inventory
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import CatalogueReport, JobRef
from geo_assets.submissions.boundary import handle
from geo_assets_tests.azurite import ACCOUNTS
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_kept_blocks import blocks, jpeg


class World:
    """A container, and the job that ingests it."""

    def __init__(self, context: StageContext, submitter, dagster) -> None:
        self.context, self.submitter, self.dagster = context, submitter, dagster
        self.name = f"c{time.monotonic_ns()}"
        self.folder = context.settings.home / "containers" / self.name
        self.folder.mkdir(parents=True)

    def ingest(
        self, before: Callable[[JobRef], None] = lambda job: None, *, force: bool = False, **parameters
    ) -> tuple[JobRef, CatalogueReport]:
        """Convert the files of the container and register them; `before` is called between the two."""
        body = {"job_type": "ingest_container", "parameters": {"container": self.name, **parameters}, "force": force}
        assert handle(self.submitter, raw(body)).submitted
        return self.work(Job.of(validate_parameters(body["job_type"], body["parameters"])), before, force=force)

    def work(
        self,
        asked: Job,
        before: Callable[[JobRef], None] = lambda job: None,
        *,
        force: bool = False,
    ) -> tuple[JobRef, CatalogueReport]:
        """Run the newest attempt of a submitted job."""
        run_id = self.dagster.run(asked, "STARTED")
        job = claim_job(
            self.context,
            partition_key=asked.partition_key,
            run_id=run_id,
            attempt=self.context.jobs.life(asked.job_id).attempt,
            job_types=frozenset({asked.job_type}),
            options={"force": force},
        )
        inventory = take_inventory(self.context, job)
        for chunk in cogs.plan(self.context, inventory)[1]:
            cogs.convert_chunk(self.context, chunk)
        for chunk in vector_tables.plan(self.context, inventory)[1]:
            vector_tables.load_chunk(self.context, chunk)
        before(job)
        registered = catalogue.register(self.context, job)
        catalogue.refresh_collections(self.context, registered)
        self.context.complete(job)
        self.dagster.set(run_id, "SUCCESS")
        return job, registered

    def rows(self, query: str, *values) -> list[tuple]:
        with psycopg.connect(self.context.settings.dsn("pipeline"), autocommit=True) as conn:
            conn.execute("set search_path to pgstac, public")
            found = conn.execute(query, values)
            return found.fetchall() if found.description else []

    def tasks(self, job: JobRef) -> dict[str, tuple]:
        """Task key -> status, error code, message."""
        query = "select task_key, status::text, error_code, error_message from geo.tasks where job_id = %s and listed"
        return {key: rest for key, *rest in self.rows(query, job.job_id)}

    def items(self, *, hydrate_here: bool = False) -> dict[str, dict]:
        """Title -> item, as clients get it; from SQL without nulls, which pgstac's own functions leave out."""
        if hydrate_here:
            ((base,),) = self.rows("select base_item from collections where id = %s", self.name)
            body = {"collections": [self.name], "conf": {"nohydrate": True}}
            ((page,),) = self.rows("select search(%s)", Jsonb(body))
            found = [hydrate(base, item) for item in page["features"]]
        else:
            query = "select get_item(id, collection) from items where collection ^@ %s"
            found = [row[0] for row in self.rows(query, self.name)]
        return {item["properties"]["title"]: item for item in found}


@pytest.fixture
def world(context, submitter, dagster):
    return World(context, submitter, dagster)


def raster(world: World, name: str, value: int = 1, **profile):
    west = 5e5 + 500 * len(list(world.folder.iterdir()))
    return write(
        world.folder / name,
        np.full((1, 40, 50), value, "uint8"),
        **{"transform": from_origin(west, 4e6, 10, 10), **profile},
    )


def test_a_file_whose_item_is_not_valid_is_quarantined_with_the_place_of_the_fault_and_the_others_are_published(world):
    for name in ("a.tif", "b.tif", "c.tif"):
        raster(world, name)

    def spoil(job):
        world.rows(
            "update geo.tasks set receipt = jsonb_set(receipt, '{report,bands,0,valid_percent}', '250')"
            " where job_id = %s and task_key = 'b.tif'",
            job.job_id,
        )

    job, report = world.ingest(before=spoil)
    assert (report.items, report.failed) == (2, 1)
    assert world.items().keys() == {"a.tif", "c.tif"}
    status, code, message = world.tasks(job)["b.tif"]
    assert (status, code) == ("quarantined", "STAC_INVALID")
    assert "/assets/data/bands/0/statistics/valid_percent" in message


def test_warnings_of_a_kind_are_told_with_their_files_page_by_page(world):
    for name in ("a.geojson", "b.geojson", "c.geojson"):
        west = 0 if name == "b.geojson" else -170
        gpd.GeoDataFrame(geometry=[box(west, 0, 170, 10)], crs=4326).to_file(world.folder / name)
    job, _ = world.ingest()
    tasks = world.submitter.tasks
    (first,) = tasks.warned_of_kind(job.job_id, "geometry", limit=1)
    (second,) = tasks.warned_of_kind(job.job_id, "geometry", after=(first.stage, first.task_key), limit=2)
    assert (first.task_key, second.task_key) == ("a.geojson", "c.geojson")
    assert ["1 geometry is wider than half the globe" in said for said in first.warnings] == [True]
    assert first.stac_item.startswith(f"{world.name}-vector/")
    assert tasks.warned_of_kind(job.job_id, "heights", limit=10) == []


def test_whose_a_table_is_can_be_asked_by_its_name(world):
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(world.folder / "fields.geojson")
    job, _ = world.ingest()
    (task,) = world.context.ledger.tasks.records(job.job_id, stage="vector_tables")
    (table,) = task.outputs.all_tables
    named = world.context.ledger.table_names.published_as
    found = named(table.table.removeprefix("vector."))
    assert (found.stac_item, found.source) == (task.outputs.stac_item, "fields.geojson")
    assert named("nobody_s").stac_item is None


def versions(world: World) -> dict[str, str]:
    """The row version of each item and of each collection."""
    return dict(
        world.rows(
            "select id, xmin::text from items where collection ^@ %s union all"
            " select 'of ' || id, xmin::text from collections where id ^@ %s",
            world.name,
            world.name,
        )
    )


def test_a_second_registration_of_the_same_content_touches_no_row_and_of_other_content_only_updated(world, monkeypatch):
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    wedge = np.triu(np.full((40, 50), 1 / 3, "float32"))[None]  # an outline with many digits, in a CRS without a code
    crs = CRS.from_proj4("+proj=laea +lat_0=12.3 +lon_0=4.5 +datum=WGS84")
    write(world.folder / "2024-03-01.tif", wedge, nodata=0, crs=crs, transform=from_origin(1 / 3, 2 / 3, 0.7, 0.7))
    lowest = float(np.finfo("float32").min)
    far = np.where(np.eye(40, 50) > 0, lowest, 1.5).astype("float32")[None]
    write(world.folder / "far.tif", far, nodata=lowest)  # of 39 digits, which JSON numbers come back from as integers
    moments = iter(datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4))
    monkeypatch.setattr(catalogue, "_now", lambda: next(moments))

    asked = {"datetime_regex": "%Y-%m-%d"}
    world.ingest(**asked)
    first, rows = world.items(), versions(world)
    _, again = world.ingest(force=True, **asked)
    assert again.items == 4
    assert versions(world) == rows
    assert world.items() == first

    raster(world, "b.tif", value=7)
    world.ingest(**asked)
    second = world.items()
    assert all(second[name] == first[name] for name in ("a.tif", "2024-03-01.tif", "far.tif"))
    assert {key: second["b.tif"]["properties"][key] for key in ("created", "updated")} == {
        "created": "2026-01-01T00:00:00Z",
        "updated": "2026-01-03T00:00:00Z",
    }

    rows = versions(world)  # now b.tif is stored as what differs from the assets that its collection tells of
    world.ingest(force=True, **asked)
    assert versions(world) == rows


def test_an_item_tells_its_source_file_and_the_software_and_the_link_leads_to_the_bytes(world):
    source = raster(world, "Höhe 1.tif")
    world.ingest()
    item = world.items()["Höhe 1.tif"]
    (link,) = [link for link in item["links"] if link["rel"] == "derived_from"]
    assert Path(url2pathname(urlsplit(link["href"]).path)) == source
    assert link["file:checksum"] == "1220" + hashlib.sha256(source.read_bytes()).hexdigest()
    assert item["properties"]["processing:software"].keys() >= {"geo_assets", "gdal", "proj"}
    assert item["properties"]["processing:lineage"].endswith("compressed without loss (profile web)")


def test_the_item_of_a_cog_that_keeps_the_jpeg_blocks_of_its_source_says_so(world):
    jpeg(world.folder / "a.tif")
    raster(world, "b.tif")
    world.ingest(keep_lossy=True)
    a, b = (world.items()[name]["properties"]["processing:lineage"] for name in ("a.tif", "b.tif"))
    assert a.endswith("with its JPEG blocks as they are, bit by bit, and overviews compressed with loss")
    assert b.endswith("compressed without loss (profile web)")
    href = world.items()["a.tif"]["assets"]["visual"]["href"]
    assert blocks(Path(url2pathname(urlsplit(href).path))) == blocks(world.folder / "a.tif")


def test_on_azure_an_item_names_the_account_and_the_path_that_gdal_opens_and_no_key(world, azurite, monkeypatch):
    account = azurite.account(ACCOUNTS[1])
    given = world.context.settings.model_dump()
    accounts = {"default": LocalAccount(), "azure": AzureAccount.model_validate(account.settings)}
    with StageContext(Settings(**{**given, "accounts": accounts, "output_account": "azure"})) as context:
        world.context = context
        raster(world, "a.tif")
        world.ingest()
    item = world.items()["a.tif"]
    data = item["assets"]["data"]
    assert account.key not in json.dumps(item)
    assert item["properties"]["storage:schemes"]["az"]["account"] == account.name
    assert data["storage:refs"] == ["az"]
    assert data["href"].startswith(f"{account.blob_endpoint}/cogs/")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", account.connection)
    with rasterio.open(data["alternate"]["az"]["href"]) as cog:
        assert list(cog.shape) == item["properties"]["proj:shape"]


def test_a_cog_that_its_item_contradicts_is_not_published_and_the_others_are(world):
    for name in ("a.tif", "b.tif"):
        raster(world, name)

    def spoil(job):
        world.rows(
            "update geo.tasks set receipt = jsonb_set(receipt, '{report,epsg}', '32631')"
            " where job_id = %s and task_key = 'a.tif'",
            job.job_id,
        )

    job, _ = world.ingest(before=spoil)
    assert world.items().keys() == {"b.tif"}
    status, code, message = world.tasks(job)["a.tif"]
    assert (status, code) == ("quarantined", "STAC_CONTRADICTS_ASSET")
    assert message.endswith("proj:code is EPSG:32631, in the file EPSG:32618")

    world.submitter.retry(job.job_id, requested_by="somebody", only=["quarantined"])
    world.work(Job.of(job.parameters))
    assert world.items().keys() == {"a.tif", "b.tif"}


def test_with_on_error_fail_a_cog_that_its_item_contradicts_stops_the_job_before_anything_is_seen(world):
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    gpd.GeoDataFrame({"n": [1]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(world.folder / "c.gpkg")
    jobs = []

    def spoil(job):
        jobs.append(job)
        change = "update geo.tasks set receipt = jsonb_set(receipt, '{report,epsg}', '32631')"
        world.rows(f"{change} where job_id = %s and task_key = 'a.tif'", job.job_id)
        catalogue.gate(world.context, job)

    with pytest.raises(GeoAssetsError, match="1 bad file") as caught:
        world.ingest(before=spoil, on_error="fail")
    assert caught.value.code == "BAD_FILES"
    assert tuple(world.tasks(jobs[0])["a.tif"][:2]) == ("quarantined", "STAC_CONTRADICTS_ASSET")
    assert world.items() == {}


def test_a_cog_that_is_gone_or_shorter_than_it_was_made_is_not_published_and_the_others_are(world):
    for name in ("cut.tif", "empty.tif", "gone.tif", "good.tif"):
        raster(world, name)

    def damage(job):
        made = dict(world.rows("select task_key, outputs->>'cog' from geo.tasks where job_id = %s", job.job_id))
        cut, empty, gone, _ = (world.folder.parent / made[name].partition("/")[2] for name in sorted(made))
        cut.write_bytes(cut.read_bytes()[:-1])
        empty.write_bytes(b"")
        gone.unlink()

    job, _ = world.ingest(before=damage)
    assert world.items().keys() == {"good.tif"}
    ended = world.tasks(job)
    for name in ("cut.tif", "empty.tif", "gone.tif"):
        assert ended[name][:2] == ["failed", "OUTPUT_GONE"]
    assert "the COG that was made of gone.tif is gone at default/" in ended["gone.tif"][2]
    assert "the COG that was made of empty.tif is one of 0 bytes at default/" in ended["empty.tif"][2]


@pytest.mark.parametrize("fetched", [(100, 1 << 20), (700, 1 << 20), (1, 50, 300, 1 << 20)])
def test_a_header_that_is_longer_than_what_was_fetched_first_is_fetched_whole(world, monkeypatch, fetched):
    monkeypatch.setattr(read_back, "_FETCHED", fetched)
    raster(world, "a.tif")
    world.ingest()
    assert world.items().keys() == {"a.tif"}


def found(world: World, **asked) -> set[str]:
    """The titles of the items that a search finds."""
    body = {"collections": [world.name], **asked}
    ((page,),) = world.rows("select search(%s)", Jsonb(body))
    return {item["properties"]["title"] for item in page["features"]}


def test_an_item_of_unknown_time_is_found_by_place_and_id_and_one_of_a_span_by_any_time_within_it(world):
    raster(world, "undated.tif")
    raster(world, "month_2024-03.tif")
    world.ingest(datetime_regex=r"(?P<year>\d{4})-(?P<month>\d\d)")
    items = world.items(hydrate_here=True)
    undated, month = items["undated.tif"]["properties"], items["month_2024-03.tif"]["properties"]
    assert undated["datetime"] is None
    assert {"start_datetime", "end_datetime"} <= undated.keys()
    assert (month["start_datetime"], month["end_datetime"]) == ("2024-03-01T00:00:00Z", "2024-03-31T23:59:59Z")

    assert found(world) == found(world, bbox=[-76, 35, -74, 37]) == {"undated.tif", "month_2024-03.tif"}
    assert found(world, ids=[items["undated.tif"]["id"]]) == {"undated.tif"}
    for moment in ("2024-03-15T12:00:00Z", "2024-03-31T00:00:00Z/2024-04-02T00:00:00Z", "../2024-03-02T00:00:00Z"):
        assert "month_2024-03.tif" in found(world, datetime=moment)
    for moment in ("2024-03-15T12:00:00Z", "2024-01-01T00:00:00Z/..", datetime.now(UTC).isoformat()):
        assert "undated.tif" not in found(world, datetime=moment)
    assert found(world, datetime="2024-04-01T00:00:00Z/..") == set()


def test_an_item_across_the_antimeridian_is_found_from_both_sides_and_not_between_them(world):
    raster(world, "fiji.tif", crs="EPSG:3832", transform=from_origin(3.2e6, 1e6, 1e4, 1e4))
    world.ingest()
    west, south, east, north = world.items()["fiji.tif"]["bbox"]
    assert west > east
    for inside in ([179, south, 180, north], [-180, south, -179, north], [west, south, east, north]):
        assert found(world, bbox=inside) == {"fiji.tif"}
    assert found(world, bbox=[-170, south, 170, north]) == set()


def test_the_item_of_a_table_tells_its_source_and_is_not_touched_when_nothing_changed(world):
    places = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[box(179, 0, 180, 1), box(-180, 0, -179, 1)], crs=4326)
    places.to_file(world.folder / "places.gpkg")
    world.ingest()
    item = world.items()["places.gpkg"]
    (link,) = [link for link in item["links"] if link["rel"] == "derived_from"]
    assert link["file:size"] == (world.folder / "places.gpkg").stat().st_size
    assert item["properties"]["processing:lineage"].endswith("): loaded into 1 table")
    assert item["properties"]["processing:software"].keys() >= {"gdal", "geos"}
    ((asset, table),) = item["assets"].items()
    assert (table["table:row_count"], table["proj:code"]) == (2, "EPSG:4326")
    assert table["href"].endswith(f"?table=vector.{asset}")

    rows = versions(world)
    _, again = world.ingest(force=True)
    assert again.items == 1
    assert versions(world) == rows


def test_files_that_are_delivered_again_unchanged_lead_to_the_same_blobs_and_touch_no_row(world):
    raster(world, "a.tif")
    raster(world, "b.tif", value=2)
    gpd.GeoDataFrame({"name": ["a"]}, geometry=[box(1, 0, 2, 1)], crs=4326).to_file(world.folder / "places.gpkg")
    world.ingest()
    first, rows = world.items(), versions(world)
    for file in world.folder.iterdir():
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)  # another inode, another time: another etag
        os.utime(file, (1, 1))
    _, again = world.ingest()
    assert again.items == 3
    assert world.items() == first
    assert versions(world) == rows
    cogs_of = "select outputs->>'cog' from geo.published where stac_item ^@ %s and outputs ? 'cog' order by 1"
    made = [row[0] for row in world.rows(cogs_of, world.name)]
    assert len(made) == 2
    assert all((world.folder.parent / cog.partition("/")[2]).is_file() for cog in made)
    assert world.rows("select blob from geo.loose_blobs where blob = any(%s)", made) == []


#: Two sources of which the first 60 characters of their slugs and the first 32 bits of their hashes are the same.
DEEP = "2026/survey-of-the-northern-territories/block-17/strip-0042/orthophotos"
ALIKE = (f"{DEEP}/tile_0010264.tif", f"{DEEP}/tile_0075512.tif")


@pytest.fixture
def landing(world):
    """The container for which `ALIKE` are alike."""
    world.name = "landing"
    world.folder = world.folder.with_name(world.name)
    (world.folder / DEEP).mkdir(parents=True, exist_ok=True)  # another test's
    for name, value in zip(ALIKE, (1, 2), strict=True):
        raster(world, name, value)
    return world


def ids(world, collection):
    query = "select content->'properties'->>'title', id from items where collection = %s"
    return dict(world.rows(query, collection))


def test_sources_in_a_deep_folder_have_an_id_each(landing):
    assert len({former_item_id("default", "landing", name) for name in ALIKE}) == 1
    _, report = landing.ingest(collection="deep")
    assert (report.items, report.failed) == (2, 0)
    found = ids(landing, "deep")
    assert found.keys() == set(ALIKE)
    assert found[ALIKE[0]].startswith("territories-block-17-strip-0042-orthophotos-tile-0010264-tif-")


def test_a_published_source_keeps_its_id_and_shares_it_with_no_other(landing, monkeypatch):
    with monkeypatch.context() as former:
        former.setattr(catalogue, "item_id", former_item_id)
        landing.ingest(collection="kept", include=[ALIKE[0]])
    before = ids(landing, "kept")
    (landing.folder / ALIKE[0]).unlink()
    raster(landing, ALIKE[0], 3)
    _, report = landing.ingest(collection="kept")
    assert (report.items, report.failed) == (2, 0)
    after = ids(landing, "kept")
    assert after[ALIKE[0]] == before[ALIKE[0]]
    assert after[ALIKE[1]] != before[ALIKE[0]]
