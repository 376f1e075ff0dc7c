"""A container whose rasters and tables are served, and the addresses at which they are."""

import json
import os
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest

from geo_assets_tests.conftest import Cli
from geo_assets_tests.oracle import settings_of
from geo_assets_tests.raster.test_cog import write

COLLECTION = "served-samples"

PLACES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": f"place {n}", "people": n},
            "geometry": {"type": "Point", "coordinates": [8 + n / 10, 50]},
        }
        for n in range(12)
    ],
}


@dataclass
class Served:
    """What was ingested, and where it is served."""

    cli: Cli
    urls: dict[str, str]
    tasks: list[dict]

    @property
    def settings(self):
        return settings_of(self.cli)

    @property
    def env(self):
        return patch.dict(os.environ, self.cli.env)

    def item_of(self, name: str) -> tuple[str, str]:
        """(collection, id) of what a file became."""
        (task,) = [t for t in self.tasks if t["task_key"] == name and "stac_item" in t["outputs"]]
        collection, _, identity = task["outputs"]["stac_item"].partition("/")
        return collection, identity


def hills(rows: int, columns: int, base: float = 0.0) -> np.ndarray:
    """Heights, as an elevation model has them, with some columns without data."""
    y, x = np.mgrid[0:rows, 0:columns]
    heights = base + 400 + 80 * np.sin(x / 17) * np.cos(y / 23) + x / 4
    heights[:, :3] = -9999
    return heights[np.newaxis].astype("float32")


@pytest.fixture(scope="session")
def ingested(cli):
    pytest.importorskip("tipg")
    folder = cli.home / "containers" / "to-be-served"
    (folder / "Blatt 3").mkdir(parents=True, exist_ok=True)
    utm = {"crs": "EPSG:32632", "nodata": -9999}
    write(folder / "dem_west.tif", hills(256, 256), **utm, transform=_at(500_000, 5_540_000))
    write(folder / "dem_ost.tif", hills(256, 256, 64), **utm, transform=_at(502_560, 5_540_000))
    write(folder / "Blatt 3/Höhe über NN (Süd) 100%#1.tif", hills(256, 256), **utm, transform=_at(600_000, 5_500_000))
    (folder / "places.geojson").write_text(json.dumps(PLACES))
    job = cli.json(
        *("submit", "ingest_container", "--param", "container=to-be-served"),
        *("--param", f"collection={COLLECTION}", "--param", "datetime=2024-05-06T07:08:09Z", "--wait"),
    )
    tasks = [t for t in cli.json("tasks", job["job_id"]) if t["status"] == "succeeded"]
    return Served(cli, cli.json("serve", "--detach"), tasks)


def _at(east: float, north: float):
    from rasterio.transform import from_origin

    return from_origin(east, north, 10, 10)
