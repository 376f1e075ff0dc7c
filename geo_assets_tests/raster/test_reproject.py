import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.warp import calculate_default_transform, reproject

from geo_assets.errors import GeoAssetsError
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field, made

WEB_EDGE = 20037508.342789244


def dem(path, nodata=-9999.0, **profile):
    heights = (field() * 800).astype("float32")
    heights[0, :100, :150] = nodata
    return write(path, heights, nodata=nodata, crs="EPSG:4326", transform=from_origin(7, 50, 1e-3, 1e-3), **profile)


def by_gdal(source, crs: str, resampling: Resampling) -> np.ndarray:
    with rasterio.open(source) as dataset:
        transform, width, height = calculate_default_transform(dataset.crs, crs, dataset.width, dataset.height, *dataset.bounds)
        out = np.full((dataset.count, height, width), dataset.nodata or 0, dataset.dtypes[0])
        reproject(
            rasterio.band(dataset, dataset.indexes),
            out,
            dst_transform=transform,
            dst_crs=crs,
            dst_nodata=dataset.nodata,
            resampling=resampling,
        )
    return out


def test_reprojection_is_what_gdals_warper_makes(tmp_path):
    source = dem(tmp_path / "in.tif")
    made(source, target_crs="EPSG:3857")
    expected = by_gdal(source, "EPSG:3857", Resampling.bilinear)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        ours = dataset.read()
        assert dataset.crs.to_epsg() == 3857
    assert ours.shape == expected.shape
    both = (ours != -9999) & (expected != -9999)
    assert ((ours == -9999) != (expected == -9999)).mean() < 0.001
    off = np.abs(ours - expected)[both]
    assert off.max() < 1  # its tolerance is an eighth of a pixel, and slopes here are some metres a pixel
    assert off.mean() < 0.01


def test_metadata_goes_along_and_statistics_of_other_pixels_do_not(tmp_path):
    source = dem(tmp_path / "in.tif")
    with rasterio.open(source, "r+") as dataset:
        dataset.descriptions, dataset.units = ("height",), ("m",)
        dataset.update_tags(SENSOR="lidar")
        dataset.update_tags(1, STATISTICS_MAXIMUM="7")
    made(source, target_crs="EPSG:3857")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.descriptions, dataset.units, dataset.tags()["SENSOR"]) == (("height",), ("m",), "lidar")
        assert "STATISTICS_MAXIMUM" not in dataset.tags(1)


def test_an_image_without_nodata_gets_a_mask_for_the_corners(tmp_path):
    source = write(tmp_path / "in.tif", (field(3) * 200 + 20).astype("uint8"), photometric="RGB")
    made(source, target_crs="EPSG:4326")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        mask = dataset.dataset_mask()
        assert (mask == 0).any()
        assert dataset.read()[:, mask > 0].min() >= 10


def test_classes_stay_classes_whatever_resampling_is_asked_for(tmp_path):
    classes = np.random.default_rng(0).choice([10, 20, 200], (1, 300, 300)).astype("uint8")
    source = write(tmp_path / "in.tif", classes, nodata=0)
    made(source, target_crs="EPSG:4326", resampling="cubic")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert set(np.unique(dataset.read())) <= {0, 10, 20, 200}


def test_the_resolution_that_is_asked_for_is_the_one_that_comes(tmp_path):
    made(dem(tmp_path / "in.tif"), target_crs="EPSG:3857", resolution=500)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.res == (500, 500)


def test_web_tiles_lie_on_the_grid_of_web_map_tiles(tmp_path):
    made(dem(tmp_path / "in.tif"), web_tiles=True)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        zoom = np.log2(2 * WEB_EDGE / 256 / dataset.transform.a)
        assert zoom == pytest.approx(round(zoom))
        tile = 256 * dataset.transform.a
        assert ((dataset.transform.c + WEB_EDGE) / tile) == pytest.approx(round((dataset.transform.c + WEB_EDGE) / tile))
        assert ((WEB_EDGE - dataset.transform.f) / tile) == pytest.approx(round((WEB_EDGE - dataset.transform.f) / tile))
        assert dataset.width % 256 == dataset.height % 256 == 0
        assert (dataset.read() != -9999).mean() > 0.2


def test_a_raster_in_the_target_crs_is_copied_exactly(tmp_path):
    source = dem(tmp_path / "in.tif")
    made(source, target_crs="EPSG:4326")
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert a.transform == b.transform
        assert np.array_equal(a.read(), b.read())


def test_a_raster_across_the_antimeridian_is_reprojected_in_one_piece(tmp_path):
    heights = (field() * 800).astype("float32")
    source = write(tmp_path / "in.tif", heights, nodata=-1.0, crs="EPSG:32760", transform=from_origin(7e5, 8e6, 500, 500))
    report = made(source, target_crs="EPSG:3832")  # the Pacific's own Mercator
    west, _, east, _ = report.bbox_4326
    assert west > east
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.read() != -1).mean() > 0.8


def test_the_pole_is_reprojected(tmp_path):
    source = write(
        tmp_path / "in.tif",
        (field(1, 400, 400) * 800).astype("float32"),
        nodata=-1.0,
        crs="EPSG:3031",
        transform=from_origin(-1e6, 1e6, 5000, 5000),
    )
    report = made(source, target_crs="EPSG:3976", resolution=10_000)
    assert report.bbox_4326[1] == -90
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.read() != -1).mean() > 0.9


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"target_crs": "EPSG:3857", "resampling": "magic"}, "INVALID_PARAMETERS"),
        ({"target_crs": "EPSG:4326", "web_tiles": True}, "INVALID_PARAMETERS"),
        ({"resolution": 10.0}, "INVALID_PARAMETERS"),
        ({"target_crs": "EPSG:3857", "resolution": 1e-4}, "TOO_LARGE"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_left(tmp_path, request_, code):
    with pytest.raises(GeoAssetsError) as error:
        made(dem(tmp_path / "in.tif"), **request_)
    assert error.value.code == code
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]
