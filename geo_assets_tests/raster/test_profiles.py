import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.windows import Window

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import cog
from geo_assets.raster import report as report_module
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets.raster.validate import validate_cog
from geo_assets_tests.raster.test_cog import write


def field(count: int = 1, height: int = 700, width: int = 900) -> np.ndarray:
    """Smooth, with a little noise: what rasters are like. 0 to 1."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[0:height, 0:width] / 200
    waves = [np.sin(x * (1 + b / 5)) * np.cos(y + b) / 2 + 0.5 for b in range(count)]
    return np.clip(np.stack(waves) * 0.98 + rng.random((count, height, width)) * 0.02, 0, 1)


def made(source, **request) -> ConvertReport:
    return convert(ConvertRequest(source=str(source), destination=str(source.with_name("out.tif")), **request))


def rgb(path, **profile):
    return write(path, (field(3) * 255).astype("uint8"), photometric="RGB", **profile)


def compression(path) -> str:
    with rasterio.open(path) as dataset:
        return dataset.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"]


#: GDAL writes an attribute table into a TIFF, and into a VRT, since 3.11.
KEEPS_TABLES = rasterio.__gdal_version__ >= "3.11"
TABLES = """<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category>none</Category></CategoryNames>
<GDALRasterAttributeTable tableType="thematic"><FieldDefn index="0"><Name>Class</Name><Type>2</Type><Usage>2</Usage>
</FieldDefn><Row index="0"><F>forest</F></Row></GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"""


@pytest.mark.parametrize(
    ("profile", "request_", "told"),
    [
        ({}, {}, "a TIFF cannot hold the names of its categories; left out"),
        ({"photometric": "palette"}, {}, "a TIFF cannot hold the names of its categories; left out"),
        ({"nbits": 4}, {}, "a TIFF cannot hold the names of its categories; left out"),
        (
            {},
            {"target_crs": "EPSG:3857"},
            f"of its tables, these are not carried over: {'attribute table, ' * KEEPS_TABLES}names of categories",
        ),
    ],
    ids=["plain", "palette", "four bits", "reprojected"],
)
def test_names_of_classes_that_a_tiff_cannot_hold_are_told(tmp_path, profile, request_, told):
    source = write(tmp_path / "in.tif", np.random.default_rng(0).integers(0, 9, (1, 700, 700), "uint8"), **profile)
    assert not made(source, **request_).warnings
    source.with_name("in.tif.aux.xml").write_text(TABLES)
    assert made(source, **request_).warnings == (told,)
    rasterio.shutil.copy(tmp_path / "out.tif", tmp_path / "out.vrt", driver="VRT")
    kept = "<GDALRasterAttributeTable" in (tmp_path / "out.vrt").read_text()
    assert kept == (KEEPS_TABLES and "target_crs" not in request_)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_table_of_colours_that_a_tiff_cannot_have_is_told(tmp_path, dtype):
    source = write(tmp_path / "in.tif", np.random.default_rng(0).integers(0, 9, (1, 700, 700)).astype(dtype))
    source.with_name("in.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><ColorInterp>Palette</ColorInterp><ColorTable><Entry c1="0" c2="9" c3="0"'
        ' c4="255"/><Entry c1="9" c2="0" c3="0" c4="255"/></ColorTable></PAMRasterBand></PAMDataset>'
    )
    assert made(source).warnings == (f"a TIFF cannot hold a table of colours for {dtype}; left out",)


def test_without_a_wish_every_client_can_read_what_is_written(tmp_path):
    report = made(rgb(tmp_path / "in.tif"))
    assert (report.profile, report.max_error, compression(tmp_path / "out.tif")) == ("web", None, "DEFLATE")


@pytest.mark.parametrize(("profile", "codec"), [("analysis", "ZSTD"), ("archive", "ZSTD"), ("web", "DEFLATE")])
def test_lossless_profiles_keep_every_pixel(tmp_path, profile, codec):
    source = rgb(tmp_path / "in.tif")
    report = made(source, profile=profile)
    assert (report.profile, compression(tmp_path / "out.tif")) == (profile, codec)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert np.array_equal(a.read(), b.read())


def test_a_picture_for_people_is_a_fraction_of_the_size_and_says_how_far_it_is_off(tmp_path):
    source = rgb(tmp_path / "in.tif")
    lossless, lossy = made(source).bytes, made(source, profile="visual")
    assert lossy.profile == "visual"
    assert compression(tmp_path / "out.tif") == "WEBP"
    assert lossy.bytes < lossless / 2
    assert 0 < lossy.max_error < 60
    assert validate_cog(tmp_path / "out.tif") == []


def test_transparency_of_a_picture_is_exact(tmp_path):
    pixels = (field(4) * 255).astype("uint8")
    pixels[3] = np.where(field()[0] > 0.5, 255, 0)
    source = write(tmp_path / "in.tif", pixels, photometric="RGB", alpha="YES")
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    assert made(source, profile="visual").profile == "visual"
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.array_equal(dataset.read(4), pixels[3])


@pytest.mark.parametrize("nodata", [None, -9999.0, float("nan")])
def test_an_elevation_model_is_within_a_millimetre_and_the_same_pixels_are_valid(tmp_path, nodata):
    heights = (field() * 800).astype("float32")
    if nodata is not None:
        heights[0, 100:300, 50:400] = nodata
    source = write(tmp_path / "in.tif", heights, nodata=nodata)
    report = made(source, profile="dem")
    assert report.profile == "dem"
    assert 0 < report.max_error <= 0.00107  # a float of 800 has steps of 0.00006
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert np.array_equal(a.dataset_mask(), b.dataset_mask())
        valid = a.dataset_mask() > 0
        assert np.abs(a.read(1)[valid].astype(float) - b.read(1)[valid]).max() <= 0.00107


def test_a_profile_that_does_not_suit_the_pixels_is_not_taken_and_the_report_says_so(tmp_path):
    source = write(tmp_path / "in.tif", np.random.default_rng(0).integers(0, 5, (1, 300, 300)).astype("uint8"))
    report = made(source, profile="visual")
    assert report.profile == "web"
    assert any("does not suit" in warning for warning in report.warnings)


def test_a_picture_that_the_lossy_profile_does_not_come_near_is_kept_without_loss_and_the_report_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (3, 600, 700)).astype("uint8")
    source = write(tmp_path / "in.tif", noise, photometric="RGB")
    report = made(source, profile="visual")
    assert (report.profile, report.max_error, compression(tmp_path / "out.tif")) == ("web", None, "DEFLATE")
    assert [w for w in report.warnings if "visual does not suit its pixels" in w and "below 32" in w and "web" in w]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), noise)
    made(source, profile="visual", target_crs="EPSG:4326")
    assert compression(tmp_path / "out.tif") == "DEFLATE"


def test_a_profile_that_is_not_there_is_refused_with_the_names_of_those_that_are(tmp_path):
    with pytest.raises(GeoAssetsError, match="web, analysis, archive, visual, dem") as error:
        made(rgb(tmp_path / "in.tif"), profile="best")
    assert error.value.code == "INVALID_PARAMETERS"


def test_a_good_cog_is_passed_through_byte_for_byte(tmp_path):
    made(rgb(tmp_path / "in.tif"))
    good = (tmp_path / "out.tif").rename(tmp_path / "good.tif")
    report = made(good)
    assert report.passed_through
    assert (tmp_path / "out.tif").read_bytes() == good.read_bytes()


def test_a_good_cog_of_another_codec_is_made_anew_where_a_profile_is_asked_for(tmp_path):
    made(rgb(tmp_path / "in.tif"))
    good = (tmp_path / "out.tif").rename(tmp_path / "good.tif")
    report = made(good, profile="analysis")
    assert not report.passed_through
    assert compression(tmp_path / "out.tif") == "ZSTD"


def test_a_cog_with_stale_overviews_is_made_anew(tmp_path):
    source = rgb(tmp_path / "in.tif", tiled=True, compress="deflate")
    with rasterio.open(source, "r+") as dataset:
        dataset.build_overviews([2], rasterio.enums.Resampling.average)
        dataset.write(255 - dataset.read())  # GDAL leaves the overviews as they were
    rasterio.shutil.copy(
        source, tmp_path / "stale.tif", driver="COG", compress="deflate", overviews="FORCE_USE_EXISTING"
    )
    report = made(tmp_path / "stale.tif")
    assert not report.passed_through
    with rasterio.open(tmp_path / "out.tif") as full, rasterio.open(tmp_path / "out.tif", overview_level=0) as half:
        assert abs(full.read().mean() - half.read().mean()) < 1


def noisy() -> np.ndarray:
    """Heights with noise in their last bits."""
    return heights() + np.random.default_rng(1).integers(0, 2, (1, 1024, 1024)).astype("int16")


def heights() -> np.ndarray:
    """Smooth, in whole metres: ISA-L's output is nearly twice as large as GDAL's."""
    y, x = np.mgrid[0:1024, 0:1024] / 100
    return (np.sin(x) * np.cos(y) * 400 + 900).astype("int16")[None]


@pytest.mark.parametrize("pixels", [noisy, heights])
def test_a_cog_is_hardly_larger_than_gdals_whatever_its_pixels_and_is_written_in_one_pass(
    tmp_path, monkeypatch, pixels
):
    source = write(tmp_path / "in.tif", pixels())
    rasterio.shutil.copy(
        source, tmp_path / "gdal.tif", driver="COG", compress="deflate", predictor="STANDARD", blocksize=512
    )
    monkeypatch.setattr(cog, "_by_gdal", None)
    assert made(source).bytes <= (tmp_path / "gdal.tif").stat().st_size * 1.05


def test_a_cog_of_few_values_of_which_no_neighbour_tells_the_next_is_hardly_larger_than_gdals(tmp_path):
    rng = np.random.default_rng(1)
    source = write(tmp_path / "in.tif", (rng.integers(-3, 4, (1, 1024, 1024)) * 7).astype("int16") * 100)
    rasterio.shutil.copy(
        source, tmp_path / "gdal.tif", driver="COG", compress="deflate", predictor="STANDARD", blocksize=512
    )
    assert made(source).bytes <= (tmp_path / "gdal.tif").stat().st_size * 1.05


@pytest.mark.parametrize("options", [{"compress": "jpeg", "photometric": "YCBCR"}, {"driver": "JPEG"}, None])
def test_a_picture_that_was_compressed_with_loss_and_grows_much_is_told_the_profile_that_keeps_it_small(
    tmp_path, monkeypatch, options
):
    monkeypatch.setattr(report_module, "LARGE", 100_000)
    noise = np.random.default_rng(0).integers(0, 16, (3, 700, 900)).astype("uint8")
    pixels = (field(3) * 220).astype("uint8") + noise
    if options is None:
        source = write(tmp_path / "in.tif", pixels, photometric="RGB", compress="deflate")
    else:
        source = write(tmp_path / "in.tif", pixels, **{"photometric": "RGB", **options}, jpeg_quality=40, quality=40)
    told = [warning for warning in made(source).warnings if "the profile visual makes a small COG" in warning]
    assert len(told) == (0 if options is None else 1)
    assert not [w for w in made(source, profile="visual").warnings if "small COG" in w]


def sparse(path, block):
    """A grid of 10 x 10 blocks of which one, away from the sample, is there."""
    profile = {"driver": "GTiff", "height": 2560, "width": 2560, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True, "nodata": 0}
    with rasterio.open(path, "w", **profile, **tiles, transform=from_origin(5e5, 5e6, 1, 1)) as dataset:
        dataset.write(block, 1, window=Window(0, 256, 256, 256))
    return path


@pytest.mark.parametrize("classes", [False, True])
def test_what_a_sparse_raster_holds_is_told_by_the_blocks_that_are_there(tmp_path, classes):
    block = (field(height=256, width=256)[0] * (4 if classes else 250) + 1).astype("uint8")
    source = sparse(tmp_path / "in.tif", block)
    report = made(source)
    assert report.kind == ("categorical" if classes else "imagery")
    with rasterio.open(tmp_path / "out.tif") as cog, rasterio.open(source) as there:
        assert np.array_equal(cog.read(), there.read())
        assert cog.overviews(1)
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as half:
        new = set(np.unique(half.read(1))) - set(np.unique(block)) - {0}
    assert not (classes and new)


def test_a_raster_without_any_value_is_of_classes_which_invents_none(tmp_path):
    assert made(sparse(tmp_path / "in.tif", np.zeros((256, 256), np.uint8))).kind == "categorical"


CODES = np.array([10, 50, 200])


def codes(count: int = 1) -> np.ndarray:
    """Areas of some pixels a side, so that neighbours are of one class, and classes meet."""
    return np.kron(np.random.default_rng(0).choice(CODES, (count, 40, 50)), np.ones((1, 21, 19), int))


def holding_codes(bands: tuple[int, ...], count: int, dtype: str, nodata: int) -> np.ndarray:
    """Bands from 1 of codes among such of a measured field, all of them with a hole."""
    pixels = (field(count, 840, 950) * 9000 + 100).astype(dtype)
    for band in bands:
        pixels[band - 1] = codes()[0]
    pixels[:, 300:600, 200:500] = nodata
    return pixels


@pytest.mark.parametrize("request_", [{}, {"target_crs": "EPSG:3857"}], ids=["plain", "reprojected"])
@pytest.mark.parametrize(
    ("bands", "count", "dtype"),
    [((1, 2, 3), 3, "int16"), ((1, 2, 3, 4), 4, "uint16"), ((6,), 6, "uint16"), ((1,), 4, "int32"), ((2,), 2, "int16")],
    ids=str,
)
def test_no_band_of_codes_has_one_that_is_not_there(tmp_path, bands, count, dtype, request_):
    source = write(tmp_path / "in.tif", holding_codes(bands, count, dtype, 0), nodata=0)
    assert made(source, **request_).kind == "categorical"
    for which in ({}, {"overview_level": 0}):
        with rasterio.open(tmp_path / "out.tif", **which) as dataset:
            assert set(np.unique(dataset.read(bands))) == {0, *CODES}


def empty_but_for_a_corner() -> np.ndarray:
    pixels = np.zeros((4, 1500, 1500), "uint16")
    pixels[:, 250:256, 250:256] = (field(4, 6, 6) * 9000 + 100).astype("uint16")
    return pixels


def with_a_band_of_opacity() -> np.ndarray:
    pixels = holding_codes((), 5, "uint16", 0)
    pixels[4] = np.where(pixels[0] == 0, 0, 65535)
    return pixels


@pytest.mark.parametrize(
    ("pixels", "profile"),
    [
        (holding_codes((), 4, "uint16", 0), {"nodata": 0}),
        (holding_codes((), 4, "uint16", 0), {"interleave": "band"}),
        (with_a_band_of_opacity(), {}),
        (empty_but_for_a_corner(), {"nodata": 0}),
        (empty_but_for_a_corner(), {"tiled": True}),
        (np.zeros((3, 600, 600), "uint16"), {}),
        (codes(3).astype("uint8"), {"photometric": "RGB"}),
    ],
    ids=["field", "band by band", "opacity", "nodata", "zeros", "nothing", "said to be colours"],
)
def test_a_picture_of_many_bands_is_one_also_where_it_holds_little(tmp_path, pixels, profile):
    assert made(write(tmp_path / "in.tif", pixels, **profile)).kind == "imagery"


def test_masks_in_several_bands_are_masks(tmp_path):
    pixels = (codes(5) > 20).astype("uint8")
    assert made(write(tmp_path / "in.tif", pixels)).kind == "mask"


def flags() -> np.ndarray:
    """More combinations of bits than there are classes in any classification."""
    return np.kron(np.random.default_rng(0).integers(0, 1024, (1, 40, 50)), np.ones((1, 21, 19), int)) * 64


@pytest.mark.parametrize("resampling", ["nearest", "mode"])
@pytest.mark.parametrize("profile", ["web", "archive", None])
@pytest.mark.parametrize("request_", [{}, {"target_crs": "EPSG:3857"}], ids=["plain", "reprojected"])
def test_who_asks_for_pixels_that_are_there_has_them_in_overviews_too(tmp_path, resampling, profile, request_):
    source = write(tmp_path / "in.tif", flags().astype("uint16"), nodata=1)
    made(source, resampling=resampling, profile=profile, **request_)
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as half:
        assert set(np.unique(half.read())) - {1} <= set(np.unique(flags()))


def test_a_cog_with_averages_is_made_anew_where_pixels_that_are_there_are_asked_for(tmp_path):
    made(write(tmp_path / "in.tif", flags().astype("uint16")))
    good = (tmp_path / "out.tif").rename(tmp_path / "good.tif")
    assert made(good, resampling="bilinear").passed_through
    assert not made(good, resampling="nearest").passed_through
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as half:
        assert set(np.unique(half.read())) <= set(np.unique(flags()))
