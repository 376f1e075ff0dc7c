"""What a STAC asset points at opens as it is, whatever the source is called."""

import numpy as np
import psycopg
import pytest
import rasterio

from geo_assets_tests.oracle import settings_of
from geo_assets_tests.raster.test_cog import write

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("name", ["Lieferung 3/Höhe über NN (Süd).tif", "正射影像/图 1.tif", "100%/a#b?c&d.tif"])
def test_the_href_of_a_file_with_any_name_is_opened_by_gdal(cli, name):
    folder = cli.home / "containers" / "odd-hrefs"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write(folder / name, np.arange(400, dtype="uint8").reshape(1, 20, 20))
    job = cli.json("submit", "stage_raster", "--param", "container=odd-hrefs", "--wait")
    (task,) = [t for t in cli.json("tasks", job["job_id"]) if t["task_key"] == name]
    assert task["status"] in {"succeeded", "skipped"}, task
    collection, _, identity = task["outputs"]["stac_item"].partition("/")
    with psycopg.connect(settings_of(cli).dsn("pipeline")) as db:
        query = (
            "select content->'assets'->'data'->>'href', content->'properties'->>'title' from pgstac.items where"
            " collection = %s and id = %s"
        )
        ((href, title),) = db.execute(query, (collection, identity)).fetchall()
    assert title == name
    with rasterio.open(href) as cog:
        assert cog.read(1).shape == (20, 20)
