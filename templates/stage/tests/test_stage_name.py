"""The engine in a sandboxed child as geo_assets runs it, with a good file and a bad one; and what is offered."""

import json

import numpy as np
import pytest
import rasterio
from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.parameters import JOB_TYPES, Job
from geo_assets.sandbox.pool import SandboxPool
from rasterio.transform import from_origin

from geo_assets_stage_name.job import STAGE, StageName
from geo_assets_stage_name.models import Report, Request


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with SandboxPool(tmp_path_factory.mktemp("scratch")) as pool:
        yield pool


def measure(pool, write):
    """The report on a raster that `write` puts into the child's workspace, and what the child made of it."""
    with pool.workspace() as folder:
        source, destination = folder / "dem.tif", folder / "histogram.json"
        write(source)
        request = Request(source=str(source), destination=str(destination), bins=2, max_pixels=1_000)
        report = pool.call("geo_assets_stage_name.engine:measure", request, Report)
        return report, json.loads(destination.read_text())


def raster(values):
    def write(path):
        profile = {"driver": "GTiff", "width": 4, "height": 2, "count": 1, "dtype": "float32", "crs": "EPSG:25832"}
        grid = from_origin(500_000, 5_000_000, 10, 10)
        with rasterio.open(path, "w", **profile, transform=grid, nodata=-9999) as dataset:
            dataset.write(np.array(values, "float32").reshape(1, 2, 4))

    return write


def test_the_values_of_a_raster_are_counted_without_its_nodata(pool):
    report, made = measure(pool, raster([0, 1, 1, 2, 2, 2, -9999, -9999]))
    assert made == {"edges": [0, 1, 2], "counts": [1, 5]}
    west, south, east, north = report.bbox_4326
    assert 8.9 < west < east < 9.1
    assert 45 < south < north < 45.2


def test_a_raster_without_a_valid_pixel_is_refused_with_the_code_of_this_package(pool):
    with pytest.raises(GeoAssetsError) as refused:
        measure(pool, raster([-9999] * 8))
    assert (refused.value.code, refused.value.remedy) == ("STAGE_NAME_NO_VALUES", ERRORS["STAGE_NAME_NO_VALUES"].remedy)


def test_a_file_that_is_no_raster_is_refused(pool):
    with pytest.raises(GeoAssetsError, match=r"dem\.tif"):
        measure(pool, lambda path: path.write_bytes(b"II*\0 this is no raster"))


def test_the_job_type_is_offered_and_the_same_request_is_the_same_job():
    assert JOB_TYPES["stage_name"] is StageName
    assert Job.of(StageName(container="landing")).job_id == Job.of(StageName(container="landing", bins=10)).job_id
    assert Job.of(StageName(container="landing")).job_id != Job.of(StageName(container="landing", bins=20)).job_id
    assert STAGE.recipe == 1  # raise it where the output for the same file changes
