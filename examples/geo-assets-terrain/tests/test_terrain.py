"""The engine in a sandboxed child as geo_assets runs it: against gdaldem, against geometry, and with bad files."""

import shutil
import subprocess

import numpy as np
import pytest
import rasterio
from affine import Affine
from geo_assets_terrain.job import Terrain
from geo_assets_terrain.models import Report, Request
from rasterio.transform import from_origin

from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.parameters import JOB_TYPES, Job
from geo_assets.sandbox.pool import SandboxPool

UTM = {"crs": "EPSG:25832", "transform": from_origin(500_000, 5_000_000, 30, 30)}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with SandboxPool(tmp_path_factory.mktemp("scratch")) as pool:
        yield pool


def write(path, heights, **profile):
    bands = np.atleast_3d(heights.T).T if heights.ndim == 2 else heights
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **{**UTM, **shape, **profile}) as dataset:
        dataset.write(bands)


def derive(pool, put, **light):
    """Hillshade and slope of what `put` writes into the child's workspace."""
    with pool.workspace() as folder:
        source, made = folder / "dem.tif", {key: folder / f"{key}.tif" for key in ("hillshade", "slope")}
        put(source)
        asked = {"azimuth": 315, "altitude": 45, "z_factor": 1, **light}
        request = Request(source=str(source), **{key: str(path) for key, path in made.items()}, **asked)
        pool.call("geo_assets_terrain.engine:derive", request, Report)
        return [rasterio.open(path).read(1, masked=True) for path in made.values()]


def hills(dtype="float32"):
    x, y = np.meshgrid(np.linspace(0, 9, 70), np.linspace(0, 7, 50))
    return (300 * (np.sin(x) + np.cos(1.3 * y) + 0.1 * x * y) + 500).astype(dtype)


def test_a_plane_that_rises_to_the_east_has_the_slope_and_the_shade_that_geometry_says(pool):
    plane = np.tan(np.radians(30)) * 30 * np.arange(12)[None, :] + np.zeros((9, 1))
    shade, slope = derive(pool, lambda path: write(path, plane.astype("float64")))
    assert np.ma.allclose(slope[1:-1, 1:-1], 30, atol=1e-5)
    # (sin 45 + cos 45 tan 30 sin 45) / sqrt(1 + tan² 30) = 0.8624; 1 + 254 times that
    assert np.unique(shade[1:-1, 1:-1].compressed()).tolist() == [220]
    assert slope.mask[0].all()
    assert slope.mask[:, -1].all()


def test_a_level_field_in_feet_or_metres_is_as_bright_as_the_light_is_high(pool):
    for altitude in (30, 90):
        shade, slope = derive(
            pool, lambda path: write(path, np.full((5, 5), 7, "int16")), altitude=altitude, z_factor=0.3
        )
        assert slope.compressed().tolist() == [0] * 9
        assert set(shade.compressed()) == {round(1 + 254 * np.sin(np.radians(altitude)))}


@pytest.mark.skipif(not shutil.which("gdaldem"), reason="gdaldem is not installed")
@pytest.mark.parametrize("dtype", ["float32", "int16"])
@pytest.mark.parametrize("light", [{}, {"azimuth": 120, "altitude": 20, "z_factor": 2.5}])
def test_shade_and_slope_are_those_of_gdaldem(pool, tmp_path, dtype, light):
    heights = hills(dtype)
    heights[20:23, 30:34] = -32768
    write(tmp_path / "dem.tif", heights, nodata=-32768)
    shade, slope = derive(pool, lambda path: write(path, heights, nodata=-32768), **light)
    z = str(light.get("z_factor", 1))
    lit = ["-az", str(light.get("azimuth", 315)), "-alt", str(light.get("altitude", 45)), "-z", z]
    steep = ["-s", str(1 / light.get("z_factor", 1))]
    for ours, command, within in ((shade, ["hillshade", *lit], 1), (slope, ["slope", *steep], 0.001)):
        there = tmp_path / f"{command[0]}.tif"
        mode, *options = command
        subprocess.run(["gdaldem", mode, "-q", tmp_path / "dem.tif", there, *options], check=True)
        theirs = rasterio.open(there).read(1, masked=True)
        assert np.array_equal(np.ma.getmaskarray(ours), np.ma.getmaskarray(theirs))
        assert np.abs(ours.astype("float64") - theirs.astype("float64")).max() <= within


def test_degrees_are_as_long_as_they_are_at_their_latitude(pool):
    at_60 = {"crs": "EPSG:4326", "transform": from_origin(10, 60.0005, 0.001, 0.001)}
    rising = np.arange(5)[None, :] * 55.66 + np.zeros((5, 1))  # a thousandth of a degree at 60 north, in metres
    _, slope = derive(pool, lambda path: write(path, rising, **at_60))
    assert slope[1:-1, 1:-1].mean() == pytest.approx(45, abs=0.01)


BAD = {
    "is no raster": (lambda path: path.write_bytes(b"II*\0 this is no raster"), "UNREADABLE"),
    "has three bands": (lambda path: write(path, np.zeros((3, 5, 5), "uint8")), "TERRAIN_NO_HEIGHTS"),
    "holds complex numbers": (lambda path: write(path, np.zeros((5, 5), "complex64")), "TERRAIN_NO_HEIGHTS"),
    "names no CRS": (lambda path: write(path, hills(), crs=None), "RASTER_NO_CRS"),
    "is turned": (
        lambda path: write(path, hills(), transform=Affine(30, 5, 500_000, 5, -30, 5_000_000)),
        "RASTER_UNSUPPORTED",
    ),
}


@pytest.mark.parametrize(("put", "code"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_elevation_model_is_refused_with_its_name_and_a_remedy(pool, put, code):
    with pytest.raises(GeoAssetsError, match=r"dem\.tif") as refused:
        derive(pool, put)
    assert refused.value.code == code
    assert refused.value.remedy


def test_the_job_type_is_offered_and_another_light_is_another_job():
    assert JOB_TYPES["terrain"] is Terrain
    assert ERRORS["TERRAIN_NO_HEIGHTS"].remedy
    assert Job.of(Terrain(container="dems")).job_id == Job.of(Terrain(container="dems", azimuth=315)).job_id
    assert Job.of(Terrain(container="dems")).job_id != Job.of(Terrain(container="dems", azimuth=90)).job_id
