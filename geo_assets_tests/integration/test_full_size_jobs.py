"""Whole jobs upon one collection: four at once, and the same input again."""

import json
import shutil

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from rasterio.transform import from_origin
from shapely.geometry import box

from geo_assets.stac.collection import Described
from geo_assets.stac.pgstac import create_collection, read_collection
from geo_assets_tests.oracle import assert_reconciled, settings_of
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stac.test_full_size import Searcher
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.slow

JOBS, FILES = 4, 40


def rows(cli, query, *values):
    with psycopg.connect(settings_of(cli).dsn("pipeline")) as conn:
        return conn.execute(query, values).fetchall()


def test_four_jobs_at_once_write_one_monthly_collection_while_two_search(cli, tmp_path):
    settings, name = settings_of(cli), "jobs-at-once"
    create_collection(settings, name, Described())
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("update pgstac.collections set partition_trunc = 'month' where id = %s", (name,))
    for job in range(JOBS):
        folder = tmp_path / str(job)
        folder.mkdir()
        for n in range(FILES):
            place = from_origin(5e5 + 1000 * (n * JOBS + job), 4e6, 10, 10)
            pixels = np.full((1, 20, 20), n, "uint8")
            write(folder / f"j{job}_{n}_2024{1 + n % 12:02}15.tif", pixels, transform=place)
        assert cli.run("upload", str(folder), f"default/{name}-{job}").returncode == 0
    searchers = [Searcher(settings, name) for _ in range(2)]
    for searcher in searchers:
        searcher.start()
    asked = ("--param", f"collection={name}", "--param", "datetime_regex=%Y%m%d")
    jobs = [cli.json("submit", "ingest_container", "--param", f"container={name}-{n}", *asked) for n in range(JOBS)]
    # to submit what has ended would begin another attempt, to which all is unchanged
    ended = {"completed", "completed_with_errors", "failed"}
    done = [until(lambda which=j["job_id"]: (d := cli.json("job", which))["status"] in ended and d, 300) for j in jobs]
    for searcher in searchers:
        searcher.over.set()
        searcher.join(60)
    assert [searcher.fault for searcher in searchers] == [None, None]
    assert [(d["job_id"], d["status"]) for d in done] == [(j["job_id"], "completed") for j in jobs]
    assert [d["delta"] for d in done] == [{"new": FILES, "changed": 0, "gone": 0, "unchanged": 0}] * JOBS
    found = rows(cli, "select pgstac.get_item(id, collection) from pgstac.items where collection = %s", name)
    assert len({item["id"] for (item,) in found}) == len(found) == JOBS * FILES
    extent = read_collection(settings, name)["extent"]
    boxes = list(zip(*(item["bbox"] for (item,) in found), strict=True))
    assert extent["spatial"]["bbox"] == [[*map(min, boxes[:2]), *map(max, boxes[2:])]]
    assert extent["temporal"]["interval"] == [["2024-01-15T00:00:00Z", "2024-12-15T23:59:59Z"]]


def test_the_same_input_again_leaves_every_row_of_the_catalogue_and_of_publications_alone(cli, tmp_path):
    name = "same-again"
    for n in range(30):
        write(tmp_path / f"t{n}_20240{1 + n % 9}01.tif", np.full((1, 30, 30), n, "uint8"))
    for n in range(3):
        gpd.GeoDataFrame({"n": [n]}, geometry=[box(n, 0, n + 1, 1)], crs=4326).to_file(tmp_path / f"v{n}.gpkg")
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 50]}, "properties": {"name": "a"}}
    (tmp_path / "wells.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))

    def ingest(*more):
        asked = ("--param", f"container={name}", "--param", "datetime_regex=%Y%m%d")
        job = cli.json("submit", "ingest_container", *asked, *more, "--wait")
        assert job["status"] == "completed"
        return job

    def catalogue():
        both = [name, f"{name}-vector"]
        return (
            rows(cli, "select id, xmin::text, content from pgstac.items where collection = any(%s) order by id", both),
            rows(cli, "select id, xmin::text, content from pgstac.collections where id = any(%s) order by id", both),
        )

    def publications():
        return rows(cli, "select xmin::text, p from geo.published p where stac_item ^@ %s order by stac_item", name)

    assert cli.run("upload", str(tmp_path), f"default/{name}").returncode == 0
    first = ingest()
    assert first["delta"] == {"new": 34, "changed": 0, "gone": 0, "unchanged": 0}
    stored, published = catalogue(), publications()
    assert len(stored[0]) == len(published) == 34
    again = ingest()
    assert again["delta"] == {"new": 0, "changed": 0, "gone": 0, "unchanged": 34}
    assert (catalogue(), publications()) == (stored, published)

    shutil.rmtree(cli.home / "containers" / name)  # the same bytes, delivered once more
    assert cli.run("upload", str(tmp_path), f"default/{name}").returncode == 0
    delivered = ingest()
    assert delivered["delta"] == {"new": 0, "changed": 0, "gone": 0, "unchanged": 34}
    assert catalogue() == stored
    assert ingest("--force")["delta"]["unchanged"] == 34
    assert catalogue() == stored
    assert_reconciled(cli, name)
