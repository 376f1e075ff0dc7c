import os
import struct
import time
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest

SAMPLES = Path(os.environ.get("GEO_ASSETS_SAMPLES", "/nonexistent")) / "raster"


def write(path: Path, pixels: np.ndarray, **profile) -> Path:
    count, height, width = pixels.shape
    base = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        "crs": "EPSG:32618",
    }
    with rasterio.open(path, "w", **{**base, "transform": from_origin(5e5, 4e6, 10, 10), **profile}) as dataset:
        dataset.write(pixels)
    return path


def cog_of(source: Path) -> Path:
    destination = source.with_name("out.cog.tif")
    convert(ConvertRequest(source=str(source), destination=str(destination)))
    return destination


def assert_faithful(source: Path, cog: Path) -> None:
    assert cog_validate(str(cog), strict=True)[0]
    with rasterio.open(source) as a, rasterio.open(cog) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        np.testing.assert_array_equal(a.dataset_mask(), b.dataset_mask())
        assert (a.crs, a.transform, a.dtypes, a.colorinterp, a.scales, a.offsets) == (
            b.crs,
            b.transform,
            b.dtypes,
            b.colorinterp,
            b.scales,
            b.offsets,
        )
        assert repr(a.nodata) == repr(b.nodata)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_common_type_is_copied_exactly_and_large_enough_for_overviews(tmp_path, dtype):
    pixels = np.random.default_rng(1).integers(0, 200, (2, 700, 600)).astype(dtype)
    source = write(tmp_path / "in.tif", pixels)
    cog = cog_of(source)
    assert_faithful(source, cog)
    with rasterio.open(cog) as dataset:
        assert dataset.overviews(1)


def test_nan_nodata_is_kept(tmp_path):
    pixels = np.full((1, 20, 30), np.nan, "float32")
    pixels[0, 5:] = 7
    source = write(tmp_path / "in.tif", pixels, nodata=np.nan)
    assert_faithful(source, cog_of(source))


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["uint8", "int16", "uint16", "float32"]), hnp.array_shapes(min_dims=3, max_dims=3, max_side=40)
    )
)
def test_any_small_array_comes_back_bit_for_bit(tmp_path_factory, pixels):
    source = write(tmp_path_factory.mktemp("r") / "in.tif", pixels)
    assert_faithful(source, cog_of(source))


def test_a_file_without_a_crs_is_refused_with_a_remedy(tmp_path):
    source = write(tmp_path / "in.tif", np.ones((1, 8, 8), "uint8"), crs=None)
    with pytest.raises(GeoAssetsError) as caught:
        cog_of(source)
    assert caught.value.code == "RASTER_NO_CRS"
    assert "source_crs" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "UNREADABLE"),
        (b"not a raster", "UNSUPPORTED_FORMAT"),
        (b'<VRTDataset rasterXSize="1" rasterYSize="1"/>', "UNSUPPORTED_FORMAT"),
        (b"II*\x00\x08\x00\x00\x00", "UNREADABLE"),
        (b"\x89HDF\r\n\x1a\n", "RASTER_SUBDATASETS"),
    ],
)
def test_what_is_no_raster_leaves_nothing_behind(tmp_path, content, code):
    source = tmp_path / "in.tif"
    source.write_bytes(content)
    with pytest.raises(GeoAssetsError) as caught:
        cog_of(source)
    assert caught.value.code == code
    assert "in.tif" in caught.value.message
    assert not (tmp_path / "out.cog.tif").exists()


def test_a_truncated_file_is_refused(tmp_path):
    source = write(tmp_path / "in.tif", np.random.default_rng(2).integers(0, 255, (3, 300, 300)).astype("uint8"))
    source.write_bytes(source.read_bytes()[:100_000])
    with pytest.raises(GeoAssetsError) as caught:
        cog_of(source)
    assert caught.value.code == "UNREADABLE"
    assert not (tmp_path / "out.cog.tif").exists()


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="GEO_ASSETS_SAMPLES is not set")
def test_every_sample_is_faithful(tmp_path):
    for source in sorted(SAMPLES.glob("*.tif*")):
        copy = tmp_path / source.name
        copy.write_bytes(source.read_bytes())
        assert_faithful(copy, cog_of(copy))


@pytest.mark.parametrize(
    ("software", "expected"),
    [("Adobe Photoshop", None), (None, "2024-04-01T09:16:46Z"), ("UltraMap", "2024-04-01T09:16:46Z")],
)
def test_the_time_of_a_tiff_is_that_of_capture_only_where_no_editor_saved_it(tmp_path, software, expected):
    source = write(tmp_path / "in.tif", np.zeros((1, 8, 8), "uint8"))
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(
            TIFFTAG_DATETIME="2024:04:01 09:16:46", **({"TIFFTAG_SOFTWARE": software} if software else {})
        )
    report = convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif")))
    assert (report.datetime, report.datetime_from) == (expected, expected and "TIFFTAG_DATETIME")


def test_a_persons_word_on_the_time_goes_before_the_paths_and_that_before_the_files(tmp_path):
    source = write(tmp_path / "LC08_L2SP_193024_20230821_20230826_02_T1_SR_B4.TIF", np.zeros((1, 8, 8), "uint8"))
    request = {"source": str(source), "destination": str(tmp_path / "out.tif")}
    assert convert(ConvertRequest(**request)).datetime == "2023-08-21T00:00:00Z"
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(ACQUISITIONDATETIME="2023-08-21T09:58:02Z")
    assert convert(ConvertRequest(**request)).datetime == "2023-08-21T09:58:02Z"
    request |= {"datetime_regex": "/%Y/", "known_as": "in/2019/x.tif"}
    assert convert(ConvertRequest(**request)).datetime == "2019-01-01T00:00:00Z"
    report = convert(ConvertRequest(**request, datetime="2001-02/2001-03"))
    assert (report.datetime, report.end_datetime, report.datetime_from) == (
        "2001-02-01T00:00:00Z",
        "2001-03-31T23:59:59Z",
        "datetime",
    )


@pytest.mark.parametrize("codec", ["NONE", "LZW", "DEFLATE"])
def test_strips_of_one_row_cost_no_multiple_of_what_gdal_takes(tmp_path, codec):
    rows = np.arange(60_000)[:, None] // 50 + np.random.default_rng(0).integers(0, 30, (60_000, 32))
    source = write(tmp_path / "in.tif", rows[None].astype("uint8"), blockysize=1, compress=codec)
    start = time.process_time()
    rasterio.shutil.copy(
        source, tmp_path / "gdal.tif", driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", OVERVIEW_RESAMPLING="AVERAGE"
    )
    gdals = time.process_time() - start
    start = time.process_time()
    convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif"), threads=2))
    assert time.process_time() - start < 4 * gdals  # between 0.9 and 2; it was 11


@pytest.mark.parametrize("beside", [False, True])
def test_a_wrong_crs_is_overruled_only_when_that_is_asked_for_and_it_is_said(tmp_path, beside):
    source, cog = (
        write(
            tmp_path / "a.tif", np.arange(600, dtype="uint16").reshape(1, 20, 30), crs=None if beside else "EPSG:32618"
        ),
        tmp_path / "c.tif",
    )
    if beside:
        (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_epsg(32618).to_wkt(version="WKT1_ESRI"))
    request = {"source": str(source), "destination": str(cog), "source_crs": "EPSG:32619"}
    kept = convert(ConvertRequest(**request))
    assert kept.epsg == 32618
    assert (
        "source_crs EPSG:32619 is not used: the file has a CRS of its own (override_crs makes it count)"
        in kept.warnings
    )
    overruled = convert(ConvertRequest(**request, override_crs=True))
    assert overruled.epsg == 32619
    assert "its CRS is EPSG:32619, as was asked for, and not the file's own: EPSG:32618" in overruled.warnings
    with rasterio.open(source) as a, rasterio.open(cog) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert (b.crs.to_epsg(), b.transform) == (32619, a.transform)
    moved = convert(ConvertRequest(**request, override_crs=True, target_crs="EPSG:4326"))
    assert moved.bbox[0] == pytest.approx(overruled.bbox_4326[0], abs=1e-4)


@pytest.mark.parametrize(
    ("code", "pixel"),
    [("IAU_2015:30100", 0.1), ("IAU_2015:49900", 0.1), ("IAU_2015:30135", 100.0)],
    ids=["moon", "mars", "metres"],
)
def test_a_raster_of_another_planet_becomes_a_cog_that_no_catalogue_of_the_earth_takes(tmp_path, code, pixel):
    pixels = np.arange(600, dtype="uint16").reshape(1, 20, 30)
    source = write(
        tmp_path / "a.tif", pixels, crs=pyproj.CRS(code).to_wkt(), transform=from_origin(10, 20, pixel, pixel)
    )
    request = {"source": str(source), "destination": str(tmp_path / "c.tif")}
    with pytest.raises(GeoAssetsError, match="its CRS is not of the Earth") as caught:
        convert(ConvertRequest(**request))
    assert caught.value.code == "INVALID_CRS"
    report = convert(ConvertRequest(**request, require_crs=False))
    assert any("not of the Earth" in warning for warning in report.warnings)
    assert (report.footprint, report.bbox_4326, report.gsd) == (None, None, 100 if pixel == 100 else None)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "c.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert (a.crs, a.transform) == (b.crs, b.transform)


@pytest.mark.parametrize("profile", ["web", "archive"])  # by our writer, by GDAL's driver
@pytest.mark.parametrize("beside", [False, True], ids=["as requested", "in a prj beside it"])
def test_a_vertical_crs_that_is_given_gives_a_band_without_a_unit_its_own(tmp_path, profile, beside):
    source, cog = write(tmp_path / "in.tif", np.ones((2, 600, 600), "float32"), crs=None), tmp_path / "out.tif"
    with rasterio.open(source, "r+") as dataset:
        dataset.units = ("m", "")
    given = rasterio.CRS.from_user_input("EPSG:2263+8228")  # feet of the United States along, international ones up
    if beside:
        source.with_suffix(".prj").write_text(given.to_wkt())
    asked = {} if beside else {"source_crs": "EPSG:7415"}
    convert(ConvertRequest(source=str(source), destination=str(cog), profile=profile, **asked))
    with rasterio.open(cog) as dataset:
        assert dataset.units == ("m", "foot" if beside else "metre")
        assert dataset.crs == given if beside else dataset.crs.to_epsg() == 7415


def test_that_the_orientation_of_a_photograph_is_not_used_is_said(tmp_path):
    source = write(tmp_path / "in.tif", np.arange(600, dtype="uint8").reshape(1, 20, 30))
    samples, orientation = struct.pack("<HHIHH", 277, 3, 1, 1, 0), struct.pack("<HHIHH", 274, 3, 1, 6, 0)
    assert samples in source.read_bytes()  # one sample is the default
    source.write_bytes(source.read_bytes().replace(samples, orientation))
    report = convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif")))
    assert [told for told in report.warnings if "orientation (6)" in told]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.shape == (20, 30)
