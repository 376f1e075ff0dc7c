import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.control import GroundControlPoint
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


def in_crs(path, crs):
    with rasterio.open(path, "r+") as dataset:
        dataset.crs = crs
    return path


def by_gdal(source, crs: str, resampling: Resampling) -> np.ndarray:
    with rasterio.open(source) as dataset:
        transform, width, height = calculate_default_transform(
            dataset.crs, crs, dataset.width, dataset.height, *dataset.bounds
        )
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


@pytest.mark.parametrize("nodata", [-1, -100, 100, None])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_signed_bytes_stay_what_they_are_and_have_the_values_of_a_larger_type(tmp_path, nodata, resampling):
    values = (field() * 90 - 45).round()
    if nodata is not None:
        values[0, :100, :150] = nodata
    place = {"nodata": nodata, "crs": "EPSG:4326", "transform": from_origin(7, 50, 1e-3, 1e-3)}
    found = []
    for dtype in ("int8", "int16"):
        made(write(tmp_path / "in.tif", values.astype(dtype), **place), target_crs="EPSG:3857", resampling=resampling)
        with rasterio.open(tmp_path / "out.tif") as dataset:
            assert dataset.dtypes == (dtype,)
            assert dataset.nodata == nodata
            found.append((dataset.read(), dataset.read_masks(1)))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


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


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("holes", [1, 2])
def test_nan_takes_no_pixel_beside_it_also_where_no_file_says_that_it_is_nodata(tmp_path, holes, dtype, resampling):
    heights = (field(2) * 800).astype(dtype)
    heights[:holes, 100:150, 100:180] = np.nan
    found = []
    for nodata in (None, np.nan):
        made(write(tmp_path / "in.tif", heights, nodata=nodata), target_crs="EPSG:4326", resampling=resampling)
        with rasterio.open(tmp_path / "out.tif") as dataset:
            assert dataset.nodata is None or np.isnan(dataset.nodata)
            found.append((dataset.read(), dataset.dataset_mask()))
    (pixels, mask), (declared, _) = found
    lost = np.isnan(pixels) != np.isnan(declared)
    assert lost.sum() < 0.005 * np.isnan(declared).sum()  # the warper's tolerance is an eighth of a pixel
    assert np.nanmean(np.abs(pixels - declared)) < 0.5
    assert np.isnan(pixels[:, mask == 0]).all()  # for readers that know no mask
    assert holes == 2 or np.isfinite(pixels[1, mask > 0]).all()


def test_classes_stay_classes_whatever_resampling_is_asked_for(tmp_path):
    classes = np.random.default_rng(0).choice([10, 20, 200], (1, 300, 300)).astype("uint8")
    source = write(tmp_path / "in.tif", classes, nodata=0)
    made(source, target_crs="EPSG:4326", resampling="cubic")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert set(np.unique(dataset.read())) <= {0, 10, 20, 200}


def test_a_band_that_says_it_is_thematic_has_no_class_between_others(tmp_path):
    classes = np.random.default_rng(0).choice(np.arange(190, dtype="uint8"), (1, 300, 300))
    source = write(tmp_path / "in.tif", classes)
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(1, LAYER_TYPE="thematic")
    report = made(source, target_crs="EPSG:4326")
    assert report.kind == "categorical"


@pytest.mark.parametrize(
    ("source_crs", "target_crs", "said"),
    [
        ("EPSG:2263+6360", "EPSG:5498", "'NAVD88 height (ftUS)' in US survey foot; the target CRS has them by 'NAVD88"),
        ("EPSG:32618", "EPSG:4979", "of which its CRS says nothing; the target CRS has them above the ellipsoid"),
    ],
)
def test_heights_are_never_given_another_system_than_they_are_in(tmp_path, source_crs, target_crs, said):
    source = in_crs(dem(tmp_path / "in.tif"), source_crs)
    with pytest.raises(GeoAssetsError) as error:
        made(source, target_crs=target_crs)
    assert error.value.code == "INVALID_CRS"
    assert said in error.value.message


def test_heights_that_the_target_crs_does_not_name_stay_with_a_note(tmp_path):
    report = made(in_crs(dem(tmp_path / "in.tif"), "EPSG:32618+5703"), target_crs="EPSG:4326")
    assert any("its heights are still by 'NAVD88 height' in metre" in note for note in report.warnings)


@pytest.mark.parametrize(("west", "is_guessed"), [(10, True), (-80, False)])
def test_a_datum_that_proj_knows_no_way_from_is_told(tmp_path, west, is_guessed):
    grid = from_origin(west, 35, 1e-3, 1e-3)
    source = write(tmp_path / "in.tif", field().astype("float32"), crs="EPSG:4267", transform=grid)
    report = made(source, target_crs="EPSG:4326")
    told = [warning for warning in report.warnings if "PROJ knows no transformation from 'NAD27'" in warning]
    assert len(told) == is_guessed


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
        assert ((dataset.transform.c + WEB_EDGE) / tile) == pytest.approx(
            round((dataset.transform.c + WEB_EDGE) / tile)
        )
        assert ((WEB_EDGE - dataset.transform.f) / tile) == pytest.approx(
            round((WEB_EDGE - dataset.transform.f) / tile)
        )
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
    source = write(
        tmp_path / "in.tif", heights, nodata=-1.0, crs="EPSG:32760", transform=from_origin(7e5, 8e6, 500, 500)
    )
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


def test_a_grid_that_is_too_large_is_refused_with_its_limits_and_a_resolution_that_is_within_them(tmp_path):
    source = dem(tmp_path / "in.tif")
    for resolution in (1e-9, 1e-4, 3.0):
        with pytest.raises(GeoAssetsError, match=r"the most are 4,000,000 a side and .* altogether") as error:
            made(source, target_crs="EPSG:3857", resolution=resolution)
        assert error.value.code == "TOO_LARGE"
        assert len(str(error.value)) < 250
        advised = float(error.value.remedy.split("resolution=")[1].split(" ")[0])
    made(source, target_crs="EPSG:3857", resolution=advised)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.transform.a == advised


def test_a_resolution_that_web_map_tiles_do_not_have_is_told_with_the_zoom_level_that_is_taken(tmp_path):
    source = dem(tmp_path / "in.tif")
    (told,) = [w for w in made(source, web_tiles=True, resolution=100).warnings if "zoom level" in w]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        size = dataset.transform.a
    assert (
        told
        == f"its pixels are of {size:.6g} m and not of 100: web map tiles have fixed sizes, and zoom level 11 is the nearest"
    )
    assert "zoom level" not in " ".join(made(source, web_tiles=True, resolution=size).warnings)
    assert "zoom level" not in " ".join(made(source, web_tiles=True).warnings)


def test_a_turned_grid_of_the_target_crs_is_kept_with_a_note_and_put_straight_by_a_resolution(tmp_path):
    turned = Affine.translation(500_000, 5_500_000) @ Affine.rotation(30) @ Affine.scale(10, -10)
    source = write(
        tmp_path / "in.tif", (field() * 800).astype("float32"), crs="EPSG:32632", transform=turned, nodata=-1
    )
    assert any("is turned in target_crs" in w for w in made(source, target_crs="EPSG:32632").warnings)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.transform.almost_equals(turned)
    assert not any("turned" in w for w in made(source).warnings)
    assert not any("turned" in w for w in made(source, target_crs="EPSG:32632", resolution=10).warnings)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.transform.b, dataset.transform.d) == (0, 0)


def by_points(path, left: float) -> None:
    """A raster of 1.5 degrees that is placed by control points alone."""
    points = [
        GroundControlPoint(row, column, left + column / 200, 10 - row / 200)
        for row in (0, 100, 200)
        for column in (0, 150, 300)
    ]
    with rasterio.open(path, "w", driver="GTiff", width=300, height=200, count=1, dtype="float32") as dataset:
        dataset.write(np.ones((200, 300), "float32"), 1)
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))


def test_control_points_across_180_degrees_are_refused_with_what_helps_and_not_with_what_is_refused_next(tmp_path):
    by_points(tmp_path / "in.tif", 179.5)
    with pytest.raises(GeoAssetsError) as error:
        made(tmp_path / "in.tif", target_crs="EPSG:3857")
    assert error.value.code == "RESOLUTION_LOST"
    assert error.value.remedy.startswith("choose a target_crs that is made for the whole of it")
    assert made(tmp_path / "in.tif", target_crs="EPSG:3832").width == pytest.approx(300, abs=3)


def bilinear(source, made_of_it) -> float:
    """The largest difference of the pixels of a reprojection to the bilinear value of the source at their places, and
    how many there are.
    """
    with rasterio.open(source) as a, rasterio.open(made_of_it) as b:
        values, ours = a.read(1).astype(float), b.read(1)
        rows, columns = np.mgrid[0 : b.height, 0 : b.width] + 0.5
        x, y = Transformer.from_crs(b.crs.to_wkt(), a.crs.to_wkt(), always_xy=True).transform(
            b.transform.c + columns * b.transform.a, b.transform.f + rows * b.transform.e
        )
        if a.crs.is_geographic:
            x = (x - a.bounds.left) % 360 + a.bounds.left
        column, row = (x - a.transform.c) / a.transform.a - 0.5, (y - a.transform.f) / a.transform.e - 0.5
        inside = (
            (column > 0)
            & (row > 0)
            & (column < a.width - 1.001)
            & (row < a.height - 1.001)
            & np.isfinite(x)
            & np.isfinite(y)
        )
        assert (ours[inside] != b.nodata).mean() > 0.99
        column, row, ours = column[inside], row[inside], ours[inside]
    c, r = column.astype(int), row.astype(int)
    p, q = column - c, row - r
    expected = (values[r, c] * (1 - p) + values[r, c + 1] * p) * (1 - q) + (
        values[r + 1, c] * (1 - p) + values[r + 1, c + 1] * p
    ) * q
    return float(np.abs(expected - ours).mean())


def grid_of(path, crs: str, corner: tuple[float, float], pixel: tuple[float, float]):
    heights = (field(1, 300, 400) * 800).astype("float32")
    return write(path, heights, nodata=-1.0, crs=crs, transform=from_origin(*corner, *pixel))


@pytest.mark.parametrize("target", ["EPSG:3857", "EPSG:4258", "EPSG:3832", "EPSG:6933"])
@pytest.mark.parametrize("west", [0, -180, -180.45, 20])
def test_a_grid_round_the_world_keeps_its_detail_wherever_it_begins(tmp_path, target, west):
    source = grid_of(tmp_path / "in.tif", "EPSG:4326", (west, 90), (0.9, 0.6))
    report = made(source, target_crs=target)
    assert report.width * report.height > 0.7 * 400 * 300
    assert report.bbox_4326[::2] == (pytest.approx(-180, abs=1), pytest.approx(180, abs=1))
    assert bilinear(source, tmp_path / "out.tif") < 1


@pytest.mark.parametrize(
    ("crs", "corner", "pixel"),
    [
        ("EPSG:4326", (100, 60), (0.4, 0.4)),  # 100 to 260
        ("EPSG:32760", (7e5, 8e6), (500, 500)),
        ("EPSG:32701", (6e4, 8e6), (500, 500)),
    ],
)
@pytest.mark.parametrize("target", ["EPSG:3857", "EPSG:4258"])
def test_a_scene_across_180_degrees_keeps_its_detail_and_the_grid_is_said_to_go_on_beyond(
    tmp_path, crs, corner, pixel, target
):
    source = grid_of(tmp_path / "in.tif", crs, corner, pixel)
    report = made(source, target_crs=target)
    assert report.width * report.height > 0.7 * 400 * 300
    west, _, east, _ = report.bbox_4326
    assert west > east
    assert any("beyond" in warning for warning in report.warnings)
    assert bilinear(source, tmp_path / "out.tif") < 1


def test_longitudes_beyond_180_are_found_where_they_are(tmp_path):
    source = grid_of(tmp_path / "in.tif", "EPSG:4326", (190, 60), (0.4, 0.4))
    report = made(source, target_crs="EPSG:3035")
    assert not any("beyond" in warning for warning in report.warnings)
    assert bilinear(source, tmp_path / "out.tif") < 3  # its pixels differ much in size there


def test_a_scene_across_180_degrees_on_web_tiles_is_on_both_sides_of_the_world(tmp_path):
    source = grid_of(tmp_path / "in.tif", "EPSG:4326", (100, 60), (0.4, 0.4))
    made(source, web_tiles=True)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert abs(dataset.bounds.left) < WEB_EDGE + 1
        assert dataset.bounds.right < WEB_EDGE + 1
    assert bilinear(source, tmp_path / "out.tif") < 1


def test_a_result_with_pixels_more_than_twice_as_long_is_noted_with_the_resolution_that_is_not(tmp_path):
    source = grid_of(tmp_path / "in.tif", "EPSG:3857", (1e6, 1.3e7), (500, 500))  # 76 degrees north
    assert any("resolution=" in w and "a pixel of" in w for w in made(source, target_crs="EPSG:4326").warnings)
    assert not any(
        "a pixel of" in w for w in made(source, target_crs="EPSG:4326", resolution=0.5).warnings
    )  # it is what was asked for
    assert not any("a pixel of" in w for w in made(dem(tmp_path / "in.tif"), target_crs="EPSG:3857").warnings)


def test_a_pole_that_would_be_eight_times_as_coarse_is_refused_and_the_resolution_that_helps_is_named(tmp_path):
    heights = (field(1, 400, 400) * 800).astype("float32")
    source = write(
        tmp_path / "in.tif", heights, nodata=-1.0, crs="EPSG:3031", transform=from_origin(-1e6, 1e6, 5000, 5000)
    )
    with pytest.raises(GeoAssetsError) as error:
        made(source, target_crs="EPSG:4326")
    assert error.value.code == "RESOLUTION_LOST"
    resolution = float(error.value.remedy.split("resolution=")[1].split(",")[0])
    report = made(source, target_crs="EPSG:4326", resolution=resolution)
    assert report.height > 200
    assert bilinear(source, tmp_path / "out.tif") < 2


def test_a_world_that_a_polar_projection_cannot_hold_is_refused(tmp_path):
    with pytest.raises(GeoAssetsError) as error:
        made(grid_of(tmp_path / "in.tif", "EPSG:4326", (-180, 90), (0.9, 0.6)), target_crs="EPSG:3031")
    assert (error.value.code, "gdalwarp -te" in error.value.remedy) == ("RESOLUTION_LOST", True)


def seen(path, row: int, column: int) -> int:
    """How bright a pixel is shown, 0 to 255."""
    with rasterio.open(path) as dataset:
        value = int(dataset.read(1)[row, column])
        try:
            return dataset.colormap(1)[value][0]
        except ValueError:  # no table: zero is black
            return min(value, 255)


@pytest.mark.parametrize(
    ("dtype", "brightest", "options"),
    [
        ("uint8", 255, {}),
        ("uint8", 15, {"nbits": 4}),
        ("uint8", 1, {"nbits": 1, "compress": "ccittfax4"}),
        ("uint16", 65535, {}),
        ("uint8", 255, {"nodata": 7}),
        ("uint8", 255, {"mask": True, "nodata": 7}),
    ],
    ids=str,
)
@pytest.mark.parametrize("request_", [{}, {"target_crs": "EPSG:32619"}, {"web_tiles": True}], ids=str)
def test_a_picture_whose_zero_is_white_is_no_negative(tmp_path, dtype, brightest, options, request_):
    pixels = np.zeros((1, 600, 700), dtype)
    pixels[:, :, 350:] = brightest
    mask, profile = options.get("mask"), {key: value for key, value in options.items() if key != "mask"}
    source = write(tmp_path / "in.tif", pixels, photometric="MINISWHITE", **profile)
    if mask:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(source, "r+") as dataset:
            dataset.write_mask(np.arange(600)[:, None] < np.full((1, 700), 500))
    report = made(source, **request_)
    middle, left, right = report.height // 2, report.width // 4, 3 * report.width // 4
    assert seen(tmp_path / "out.tif", middle, left) == 255
    assert seen(tmp_path / "out.tif", middle, right) == 0


@pytest.mark.parametrize(
    ("count", "dtype"), [(1, "int8"), (1, "int16"), (1, "float32"), (1, "uint32"), (2, "uint8"), (3, "uint8")]
)
@pytest.mark.parametrize("domains", [{}, {"A": "1"}], ids=["our writer", "GDAL's"])
@pytest.mark.parametrize("request_", [{}, {"target_crs": "EPSG:32619"}], ids=str)
def test_a_zero_that_is_white_where_a_cog_cannot_say_so_is_told(tmp_path, count, dtype, request_, domains):
    source = write(tmp_path / "in.tif", (field(count) * 100).astype(dtype), photometric="MINISWHITE")
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(ns="SURVEY", **domains)
    assert [w for w in made(source, **request_).warnings if "zero is white" in w]


def test_every_block_of_a_result_is_reduced_alike(tmp_path):
    """GDAL alone makes neighbouring blocks of noise 19.4 and 26.5 in their deviation: a seam is seen."""
    noise = np.random.default_rng(1).normal(1000, 100, (1, 2000, 3000)).astype("float32")
    write(tmp_path / "in.tif", noise, crs="EPSG:32632", transform=from_origin(300_000, 5_500_000, 10, 10))
    made(tmp_path / "in.tif", target_crs="EPSG:25833", resolution=30)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        values = dataset.read(1, masked=True)
    deviations = [float(values[top : top + 300, left : left + 250].std()) for top in (100, 400) for left in (100, 600)]
    assert max(deviations) < 1.05 * min(deviations)


@pytest.mark.parametrize("target", ["EPSG:3857", "EPSG:3395", "EPSG:6933"])
def test_a_global_grid_whose_outer_pixels_lie_on_180_degrees_is_not_shifted_there(tmp_path, target):
    """As those of weather models are; each pixel has its longitude as its value."""
    longitudes = np.broadcast_to(-180 + 0.25 * np.arange(1440), (1, 721, 1440)).astype("float32")
    write(tmp_path / "in.tif", longitudes, crs="EPSG:4326", transform=from_origin(-180.125, 90.125, 0.25, 0.25))
    made(tmp_path / "in.tif", target_crs=target)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        values = dataset.read(1, masked=True)
        xs = dataset.transform.c + dataset.transform.a * (np.arange(dataset.width) + 0.5)
        there, _ = Transformer.from_crs(dataset.crs, "EPSG:4326", always_xy=True).transform(xs, np.zeros_like(xs))
    inner = np.abs(there) < 179.5  # beyond, one pixel is averaged with one at the other edge
    assert np.abs(values[:, inner] - there[inner]).max() < 0.125


@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:3857"])
@pytest.mark.parametrize(("west", "width"), [(179.7, 2000), (177.2, 300), (-180.05, 300)])
def test_a_scene_of_which_a_little_lies_on_one_side_of_180_degrees_keeps_its_detail(tmp_path, target, west, width):
    values = np.add.outer(np.arange(200), np.arange(width))[None].astype("float32") + 1
    write(tmp_path / "in.tif", values, crs="EPSG:4326", transform=from_origin(west, -10, 0.01, 0.01))
    for how in ({}, {"resolution": 0.02 if target == "EPSG:4326" else 2000}):
        report = made(tmp_path / "in.tif", target_crs=target, **how)
        reduced = 2 if how else 1
        assert abs(report.width * reduced - width) < 0.12 * width
        with rasterio.open(tmp_path / "out.tif") as dataset:
            assert (dataset.read_masks(1) > 0).mean() > 0.97


@pytest.mark.parametrize(
    ("crs", "corner", "pixel", "target", "part"),
    [
        ("EPSG:4326", (-180, 90), 1.0, "EPSG:3857", "about 5 % of its pixels"),
        ("EPSG:3413", (-2_000_000, 2_000_000), 20_000.0, "EPSG:3857", "% of its pixels"),
    ],
)
def test_what_the_target_has_no_place_for_is_told(tmp_path, crs, corner, pixel, target, part):
    values = np.ones((1, 180, 360) if pixel == 1 else (1, 200, 200), "float32")
    write(tmp_path / "in.tif", values, crs=crs, transform=from_origin(*corner, pixel, pixel))
    told = made(tmp_path / "in.tif", target_crs=target, resolution=50_000).warnings
    assert [note for note in told if part in note and "left out" in note]


def test_where_all_has_a_place_nothing_is_said_to_be_left_out(tmp_path):
    for target in ("EPSG:3857", "EPSG:32632", "EPSG:3035"):
        report = made(dem(tmp_path / "in.tif"), target_crs=target)
        assert "left out" not in " ".join(report.warnings)


def test_control_points_are_rectified_where_the_target_is_their_own_crs_too(tmp_path):
    values = np.ones((200, 300), "float32")
    points = [
        GroundControlPoint(row, column, 8 + column * 1e-3 + row * 2e-4, 49 - row * 1e-3 + column * 2e-4)
        for row in (0, 100, 200)
        for column in (0, 150, 300)
    ]
    with rasterio.open(
        tmp_path / "in.tif", "w", driver="GTiff", width=300, height=200, count=1, dtype="float32"
    ) as dataset:
        dataset.write(values, 1)
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    report = made(tmp_path / "in.tif", target_crs="EPSG:4326")
    assert "rectified" not in " ".join(report.warnings)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert not dataset.gcps[0]
        assert dataset.bounds == pytest.approx((8, 48.8, 8.34, 49.06), abs=0.005)
