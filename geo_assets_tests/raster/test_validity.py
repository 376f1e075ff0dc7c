"""One notion of what is valid, for statistics, footprint, thumbnail, overviews and reprojection: the mask, or else
nodata; alpha; NaN.
"""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.warp import transform_geom

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.cog import convert
from geo_assets.raster.header import headers
from geo_assets.raster.models import ConvertReport, ConvertRequest, HeadersRequest
from geo_assets.raster.pixels import can_hold
from geo_assets.raster.validate import validate_cog
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import made

SIDE, CUT = 1200, 401

#: The value of invalid pixels: it must not show anywhere.
GARBAGE = 7


def upper_part_invalid() -> np.ndarray:
    return np.arange(SIDE)[:, None] < np.full((1, SIDE), CUT)


def with_alpha(path, dtype: str, count: int, alpha: int, opaque: float = 255, **profile):
    """100 where alpha is `opaque`, garbage where it is 0."""
    pixels = np.full((count, SIDE, SIDE), 100, dtype)
    pixels[:, :CUT] = GARBAGE
    pixels[alpha - 1] = np.where(upper_part_invalid(), 0, opaque)
    write(path, pixels, photometric="MINISBLACK", **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [
            ColorInterp.alpha if b == alpha else ColorInterp.gray if b == 1 else ColorInterp.undefined
            for b in dataset.indexes
        ]
    return path


def masked(path, pixels: np.ndarray, mask: np.ndarray, **profile):
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        write(path, pixels, **profile)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
    return path


def levels(path) -> list[np.ndarray]:
    with rasterio.open(path) as dataset:
        overviews = len(dataset.overviews(1))
    out = []
    for level in range(overviews):
        with rasterio.open(path, OVERVIEW_LEVEL=level) as dataset:
            out.append(dataset.read())
    return out


def part_of_the_grid(report: ConvertReport, path) -> float:
    with rasterio.open(path) as dataset:
        there = shapely.geometry.shape(transform_geom("EPSG:4326", dataset.crs, report.footprint))
        return there.area / abs(dataset.transform.determinant * dataset.width * dataset.height)


ALPHAS = [
    ("uint16", 6, 6),
    ("uint16", 6, 3),
    ("float32", 2, 2),
    ("float32", 5, 5),
    ("uint8", 5, 5),
    ("uint8", 3, 1),
    ("int16", 4, 4),
]


@pytest.mark.parametrize("profile", ["web", "archive"])  # our writer and GDAL's
@pytest.mark.parametrize(("dtype", "count", "alpha"), ALPHAS)
def test_alpha_in_any_band_of_any_type_says_what_is_valid(tmp_path, dtype, count, alpha, profile):
    source = with_alpha(tmp_path / "in.tif", dtype, count, alpha)
    thumbnail = tmp_path / "out.png"
    report = convert(
        ConvertRequest(
            source=str(source), destination=str(tmp_path / "out.tif"), profile=profile, thumbnail=str(thumbnail)
        )
    )
    share = 100 * (1 - CUT / SIDE)
    for band, told in enumerate(report.bands, 1):
        if band != alpha:
            assert (told.minimum, told.maximum, told.valid_percent) == (100, 100, pytest.approx(share, abs=1e-3))
    assert part_of_the_grid(report, tmp_path / "out.tif") == pytest.approx(1 - CUT / SIDE, abs=0.01)
    with rasterio.open(thumbnail) as png:
        assert (png.read(4) == 0).mean() == pytest.approx(CUT / SIDE, abs=0.02)
    for overview in levels(tmp_path / "out.tif"):
        seen = overview[:, overview[alpha - 1] > 0]
        assert {100} == set(np.unique(np.delete(seen, alpha - 1, axis=0)))
    assert validate_cog(tmp_path / "out.tif") == []


@pytest.mark.parametrize("opaque", [1, 255])
@pytest.mark.parametrize(("dtype", "count", "alpha"), ALPHAS)
def test_reprojection_keeps_alpha_whatever_its_band_and_its_scale(tmp_path, dtype, count, alpha, opaque):
    made(with_alpha(tmp_path / "in.tif", dtype, count, alpha, opaque), target_crs="EPSG:4326")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        pixels = dataset.read()
    seen = pixels[alpha - 1] > 0
    assert 0.6 < seen.mean() < 0.67
    assert pixels[alpha - 1].max() == opaque
    assert np.delete(pixels, alpha - 1, axis=0)[:, seen].min() >= 99


def masked_with_nodata(path, dtype: str, nodata: float):
    """100 and, in the left third, the nodata value; garbage above, where the mask is 0."""
    pixels = np.full((1, SIDE, SIDE), 100, dtype)
    pixels[0, :, :CUT] = nodata
    pixels[0, :CUT] = GARBAGE
    return masked(path, pixels, ~upper_part_invalid(), nodata=nodata)


MASK_AND_NODATA = pytest.mark.parametrize(
    ("dtype", "nodata"), [("float32", -9999), ("uint8", 0), ("uint8", 255), ("int16", -1)]
)


@MASK_AND_NODATA
def test_where_there_is_a_mask_a_nodata_value_is_a_number_like_any_other(tmp_path, dtype, nodata):
    source, thumbnail = masked_with_nodata(tmp_path / "in.tif", dtype, nodata), tmp_path / "out.png"
    report = convert(
        ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif"), thumbnail=str(thumbnail))
    )
    assert {report.bands[0].minimum, report.bands[0].maximum} == {nodata, 100}
    assert report.bands[0].valid_percent == pytest.approx(100 * (1 - CUT / SIDE), abs=1e-3)
    assert part_of_the_grid(report, tmp_path / "out.tif") == pytest.approx(1 - CUT / SIDE, abs=0.01)
    with rasterio.open(thumbnail) as png:
        assert (png.read(4) == 0).mean() == pytest.approx(CUT / SIDE, abs=0.02)
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        assert np.array_equal(before.dataset_mask(), after.dataset_mask())
        assert after.nodata == nodata
    for level in range(2):
        with rasterio.open(tmp_path / "out.tif", OVERVIEW_LEVEL=level) as dataset:
            shown = dataset.read_masks(1) > 0
            assert shown.mean() == pytest.approx(1 - CUT / SIDE, abs=0.01)
            values, counts = np.unique(dataset.read(1)[shown], return_counts=True)
        mixed = 1 - int(counts[np.isin(values, (nodata, 100))].sum()) / int(counts.sum())
        assert mixed < 0.01  # the one column in which both are averaged
        assert int(counts[values == nodata].sum()) / int(counts.sum()) == pytest.approx(CUT / SIDE, abs=0.01)
    assert validate_cog(tmp_path / "out.tif") == []


@MASK_AND_NODATA
def test_reprojection_keeps_what_the_mask_leaves_and_the_nodata_value_under_it(tmp_path, dtype, nodata):
    report = made(masked_with_nodata(tmp_path / "in.tif", dtype, nodata), target_crs="EPSG:3857")
    alone = np.full((1, SIDE, SIDE), 100, dtype)
    (tmp_path / "alone").mkdir()
    made(masked(tmp_path / "alone" / "in.tif", alone, ~upper_part_invalid()), target_crs="EPSG:3857")
    with rasterio.open(tmp_path / "out.tif") as dataset, rasterio.open(tmp_path / "alone" / "out.tif") as by_mask:
        valid, pixels = dataset.dataset_mask() > 0, dataset.read(1)
        assert np.array_equal(valid, by_mask.dataset_mask() > 0)  # also in the first rows
        assert dataset.nodata == nodata
    assert (pixels[valid] == nodata).mean() == pytest.approx(CUT / SIDE, abs=0.01)
    assert set(np.unique(pixels[~valid])) == {nodata}
    assert {report.bands[0].minimum, report.bands[0].maximum} == {nodata, 100}


def test_reprojection_keeps_a_mask_beside_alpha(tmp_path):
    pixels = np.full((2, SIDE, SIDE), 100, "uint8")
    pixels[:, :CUT], pixels[1, :, :CUT] = GARBAGE, 0
    source = masked(tmp_path / "in.tif", pixels, ~upper_part_invalid(), photometric="MINISBLACK", alpha="YES")
    made(source, target_crs="EPSG:3857")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.read(2) > 0).mean() == pytest.approx((1 - CUT / SIDE) ** 2, abs=0.01)


def test_a_nodata_value_of_one_band_is_not_mixed_into_its_neighbours_where_another_band_has_data(tmp_path):
    pixels = np.full((2, 300, 300), 100, "float32")
    pixels[0, :, :90] = -9999
    made(write(tmp_path / "in.tif", pixels, nodata=-9999), target_crs="EPSG:4326")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert set(np.unique(dataset.read())) == {-9999, 100}


def test_a_channel_that_is_zero_stays_zero_where_zero_is_nodata(tmp_path):
    pixels = np.full((3, 300, 300), 200, "uint8")
    pixels[1:, :, :90] = 0  # pure red
    made(write(tmp_path / "in.tif", pixels, nodata=0, photometric="RGB"), target_crs="EPSG:4326")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert set(np.unique(dataset.read())) == {0, 200}


def test_alpha_beside_nodata_begins_with_nothing_in_the_corners(tmp_path):
    source = with_alpha(tmp_path / "in.tif", "float32", 2, 2, nodata=-9999)
    made(source, target_crs="EPSG:4326")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert set(np.unique(dataset.read(2).round())) == {0, 255}


@pytest.mark.parametrize("space", ["CMYK", "CIELAB"])
def test_colours_that_are_not_red_green_and_blue_are_said_to_be_turned_into_them(tmp_path, space):
    pixels = np.random.default_rng(0).integers(0, 255, (4 if space == "CMYK" else 3, 64, 64)).astype("uint8")
    warnings = made(write(tmp_path / "in.tif", pixels, photometric=space)).warnings
    assert any(space in w and "not those of the file" in w for w in warnings)


def test_islands_on_both_sides_of_180_degrees_are_bounded_across_it(tmp_path):
    pixels = np.zeros((1, 360, 720), "int16")
    pixels[0, 210:220, 700:716] = 5
    pixels[0, 212:230, 4:10] = 6
    report = made(
        write(tmp_path / "in.tif", pixels, crs="EPSG:4326", transform=from_origin(-180, 90, 0.5, 0.5), nodata=0)
    )
    west, south, east, north = report.bbox_4326
    assert (west, east) == (pytest.approx(170, abs=0.6), pytest.approx(-175, abs=0.6))
    assert (south, north) == (pytest.approx(-25, abs=0.6), pytest.approx(-15, abs=0.6))
    assert shapely.geometry.shape(report.footprint).area < 300


def test_a_hundred_islands_on_both_sides_of_180_degrees_are_two_hulls(tmp_path):
    pixels = np.zeros((1, 1000, 2000), "int16")
    pixels[0, 300:700:40, 1800:1990:40] = 5
    pixels[0, 300:700:40, 10:200:40] = 5
    report = made(
        write(tmp_path / "in.tif", pixels, crs="EPSG:4326", transform=from_origin(-180, 90, 0.18, 0.18), nodata=0)
    )
    west, _, east, _ = report.bbox_4326
    assert west > 140 > -140 > east


@pytest.mark.parametrize(
    ("dtype", "nodata", "possible"),
    [
        ("uint8", 255, True),
        ("uint8", 256, False),
        ("uint8", -1, False),
        ("int16", -32768, True),
        ("int16", 0.5, False),
        ("int32", float("nan"), False),
        ("uint64", float("inf"), False),
        ("float32", float("nan"), True),
        ("float32", 1e300, True),
    ],
)
def test_an_integer_pixel_holds_whole_nodata_values_in_its_range_only(dtype, nodata, possible):
    assert can_hold(np.dtype(dtype), nodata) is possible


def raw(path, pixels: np.ndarray, nodata: str):
    """ENVI, whose header names the nodata value as text."""
    write(path, pixels, driver="ENVI")
    header = path.with_suffix(".hdr")
    header.write_text(f"{header.read_text()}data ignore value = {nodata}\n")
    return path


#: As the header has it, and as a pixel of float32 holds it.
NO_FLOAT32 = [
    ("-9999.9", -9999.900390625),
    ("1e+20", 1.0000000200408773e20),
    ("9.96921e+36", 9.969209968386869e36),
    ("-3.402823e+38", -3.4028230607370965e38),
    ("-3.4028235e+38", -3.4028234663852886e38),  # beyond the range, but nearer to its end than to anything else
]


@pytest.mark.parametrize(
    "request_",
    [{}, {"profile": "dem"}, {"target_crs": "EPSG:3857"}, {"target_crs": "EPSG:3857", "profile": "dem"}],
    ids=str,
)
@pytest.mark.parametrize(("text", "held"), NO_FLOAT32)
def test_a_nodata_value_that_is_no_float32_is_the_one_that_its_pixels_hold(tmp_path, text, held, request_):
    pixels = np.full((1, SIDE, SIDE), 100, "float32")
    pixels[:, :CUT] = held
    report = made(raw(tmp_path / "in.dat", pixels, text), **request_)
    assert report.nodata == held
    assert (report.bands[0].minimum, report.bands[0].maximum) == pytest.approx((100, 100), abs=0.001)
    if not request_.get("target_crs"):
        assert report.bands[0].valid_percent == pytest.approx(100 * (SIDE - CUT) / SIDE, abs=0.01)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.read_masks(1).min() == 0
        full = dataset.read()
    for level in [full, *levels(tmp_path / "out.tif")]:
        assert np.ptp(level[level != np.float32(held)] - 100) <= 0.002
        assert (level == np.float32(held)).any()


@pytest.mark.parametrize("request_", [{}, {"profile": "dem"}, {"target_crs": "EPSG:3857"}], ids=str)
@pytest.mark.parametrize("text", ["-1.79769e+308", "3.5e+38"])
def test_a_nodata_value_that_no_float32_can_have_is_none(tmp_path, text, request_):
    pixels = np.full((1, SIDE, SIDE), 100, "float32")
    pixels[:, :CUT] = -3.4028234663852886e38
    report = made(raw(tmp_path / "in.dat", pixels, text), **request_)
    assert report.bands[0].minimum == -3.4028234663852886e38
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.nodata is None


@pytest.mark.parametrize("profile", ["web", "archive"])
def test_a_transparent_colour_is_nodata_where_all_bands_have_it_together(tmp_path, profile):
    pixels = np.zeros((3, 600, 600), np.uint8)
    pixels[0, :, ::2], pixels[1] = 100, 200
    pixels[:, :, :100] = 0
    write(tmp_path / "plain.tif", pixels, nodata=0, photometric="RGB")
    rasterio.shutil.copy(tmp_path / "plain.tif", tmp_path / "in.png", driver="PNG")
    (tmp_path / "plain.tif").unlink()
    report = made(tmp_path / "in.png", profile=profile, require_crs=False, thumbnail=str(tmp_path / "small.png"))
    assert [band.valid_percent for band in report.bands] == [pytest.approx(100 * 5 / 6, abs=1e-5)] * 3
    assert [band.mean for band in report.bands] == [50, 200, 0]
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as dataset:
        small = dataset.read()
        assert set(map(tuple, small[:, :, 50:].reshape(3, -1).T.tolist())) == {(50, 200, 0)}
        assert not small[:, :, :50].any()
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, np.arange(300)[None].repeat(300, 0) >= 50)
    with rasterio.open(tmp_path / "small.png") as dataset:
        assert (dataset.read(4)[:, 50:] == 255).all()
        assert not dataset.read(4)[:, :40].any()


@pytest.mark.parametrize("place", [(1502, 1003), (700, 701), (0, 0), (2999, 2999)], ids=str)
@pytest.mark.parametrize("how", ["nodata", "mask", "alpha", "nan"])
def test_a_single_valid_pixel_is_seen_wherever_it_is(tmp_path, how, place):
    pixels = np.zeros((2, 3000, 3000), "float32" if how == "nan" else "uint16")
    mask = np.zeros((3000, 3000), bool)
    mask[place] = True
    pixels[0][mask] = 1234
    if how == "alpha":
        pixels[1] = np.where(mask, 65535, 0)
        source = write(tmp_path / "in.tif", pixels, photometric="MINISBLACK", alpha="YES")
    elif how == "mask":
        source = masked(tmp_path / "in.tif", pixels[:1], mask)
    elif how == "nan":
        source = write(tmp_path / "in.tif", np.where(mask, pixels[:1], np.float32("nan")))
    else:
        source = write(tmp_path / "in.tif", pixels[:1], nodata=0)
    report = convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif")))
    assert "no pixel is valid" not in report.warnings
    assert 0 < part_of_the_grid(report, tmp_path / "out.tif") < 1e-4
    with rasterio.open(tmp_path / "out.tif") as dataset:
        x, y = dataset.xy(*place)
        (longitude,), (latitude,) = rasterio.warp.transform(dataset.crs, "EPSG:4326", [x], [y])
    assert shapely.geometry.shape(report.footprint).distance(shapely.Point(longitude, latitude)) < 1e-7


@pytest.mark.parametrize("how", ["nodata", "nan"])
def test_that_no_pixel_is_valid_is_said_where_none_is(tmp_path, how):
    pixels = np.full((1, 900, 900), 0 if how == "nodata" else np.nan, "float32")
    source = write(tmp_path / "in.tif", pixels, nodata=0 if how == "nodata" else None)
    report = convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif")))
    assert "no pixel is valid" in report.warnings
    assert part_of_the_grid(report, tmp_path / "out.tif") == pytest.approx(1)


@pytest.mark.parametrize("flags", [("0", "0"), ("2", "0"), ("0", "2")])
def test_masks_that_differ_by_band_are_refused_for_a_tiff_has_one_for_all(tmp_path, flags):
    write(tmp_path / "in.tif", np.zeros((2, 64, 64), np.uint8))
    masks = np.full((2, 64, 64), 255, np.uint8)
    masks[0, :10], masks[1, 20:] = 0, 0
    write(tmp_path / "in.tif.msk", masks)
    with rasterio.open(tmp_path / "in.tif.msk", "r+") as beside:
        beside.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": flag for band, flag in enumerate(flags, 1)})
    with pytest.raises(GeoAssetsError, match="mask") as caught:
        made(tmp_path / "in.tif")
    assert (caught.value.code, bool(caught.value.remedy)) == ("RASTER_UNSUPPORTED", True)


@pytest.mark.parametrize("alpha", [None, 2])
@pytest.mark.parametrize("request_", [{"target_crs": "EPSG:32619"}, {"web_tiles": True}], ids=str)
@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 1.5), ("int16", -0.5), ("uint32", 1e-3)])
def test_a_nodata_value_that_no_pixel_can_have_marks_none_of_a_reprojection(tmp_path, dtype, nodata, request_, alpha):
    if alpha:
        source = with_alpha(tmp_path / "in.tif", dtype, 2, alpha, nodata=nodata)
    else:
        source = write(tmp_path / "in.tif", np.full((1, SIDE, SIDE), 100, dtype), nodata=nodata)
    report = made(source, **request_)
    assert report.nodata is None
    assert (report.bands[0].minimum, report.bands[0].maximum) == (100, 100)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        valid = (dataset.read(alpha) if alpha else dataset.dataset_mask()) != 0
        assert valid.any()
        assert not valid.all()
        assert set(np.unique(dataset.read(1)[valid])) == {100}


def with_nodata_of_64_bits(folder, name: str, dtype: str, nodata: int):
    """The upper part of its pixels has this nodata value, which rasterio cannot write."""
    pixels = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE).astype(dtype)
    pixels[:, :CUT] = nodata
    if name.endswith(".dat"):
        return raw(folder / name, pixels, str(nodata))
    rasterio.shutil.copy(write(folder / "plain.tif", pixels), folder / "plain.vrt", driver="VRT")
    band = f"<NoDataValue>{nodata}</NoDataValue><ColorInterp>"
    (folder / "plain.vrt").write_text((folder / "plain.vrt").read_text().replace("<ColorInterp>", band, 1))
    rasterio.shutil.copy(folder / "plain.vrt", folder / name, driver="GTiff")
    return folder / name


@pytest.mark.parametrize("request_", [{}, {"source_crs": "EPSG:32619", "override_crs": True}], ids=str)
@pytest.mark.parametrize(
    ("name", "dtype", "nodata"),
    [
        ("in.tif", "uint64", 2**64 - 1),
        ("in.tif", "uint64", 2**53 + 1),
        ("in.tif", "int64", 2**63 - 1),
        ("in.tif", "int64", -(2**63)),
        ("in.tif", "int64", -(2**53) - 1),
        ("in.tif", "int64", -9999),
        ("in.dat", "int64", -9999),  # GDAL knows it there as a double
        ("in.dat", "uint64", 2**53),
    ],
)
def test_a_nodata_value_of_64_bits_is_exact_wherever_it_is_told(tmp_path, name, dtype, nodata, request_):
    report = made(with_nodata_of_64_bits(tmp_path, name, dtype, nodata), **request_)
    assert not [w for w in report.warnings if "nodata" in w.lower()]
    assert report.nodata == nodata
    assert isinstance(report.nodata, int)
    (band,) = report.bands
    assert band.valid_percent == pytest.approx(100 * (SIDE - CUT) / SIDE, abs=1e-3)
    assert (band.minimum, band.maximum) == (SIDE * CUT, SIDE * SIDE - 1)
    assert part_of_the_grid(report, tmp_path / "out.tif") == pytest.approx((SIDE - CUT) / SIDE, abs=0.01)
    whole = (tmp_path / "out.tif").read_bytes()
    (header,) = headers(HeadersRequest(source=str(tmp_path / "out.tif"), lengths=(len(whole),))).headers
    assert header.nodata == nodata
    assert made((tmp_path / "out.tif").rename(tmp_path / "again.tif")).nodata == nodata


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside it"])
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_a_mask_of_64_bit_pixels_is_no_band_of_theirs(tmp_path, dtype, inside):
    pixels = np.arange(2 * SIDE * SIDE).reshape(2, SIDE, SIDE).astype(dtype)
    write(tmp_path / "in.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(tmp_path / "in.tif", "r+") as dataset:
        dataset.write_mask(~upper_part_invalid())
    report = made(tmp_path / "in.tif")
    assert report.nodata is None
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), pixels)
        assert np.array_equal(dataset.dataset_mask() == 0, upper_part_invalid())
