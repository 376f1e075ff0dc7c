"""A CRS as Esri's files define it, the easting first and without codes: the COG names EPSG's, and nothing is refused."""

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geo_assets.raster.cog import convert
from geo_assets.raster.georeference import same_crs
from geo_assets.raster.models import ConvertRequest

#: Of EPSG's: the northing first, latitude first, along meridians about a pole, and the easting first.
NORTHING_FIRST = [3035, 31467, 2180, 2193, 3006, 2393, 3346, 2169, 3059, 5105, 3844]
CODES = [*NORTHING_FIRST, 4258, 4326, 32661, 3571, 3413, 25832, 2056]

SIDE = 4
GRID = f"ncols {SIDE}\nnrows {SIDE}\nxllcorner {{}}\nyllcorner {{}}\ncellsize {{}}\n" + "1 2 3 4\n" * SIDE


def as_ascii(folder, crs: CRS):
    x, y, size = (10, 50, 1) if crs.is_geographic else (400_000, 5_000_000, 10)
    (folder / "in.asc").write_text(GRID.format(x, y, size))
    (folder / "in.prj").write_text(crs.to_wkt(version="WKT1_ESRI"))
    return folder / "in.asc"


def as_raw(folder, crs: CRS):
    grid = from_origin(10, 50, 1, 1) if crs.is_geographic else from_origin(400_000, 5_000_000, 10, 10)
    profile = {"driver": "EHdr", "width": SIDE, "height": SIDE, "count": 1, "dtype": "int16"}
    with rasterio.open(folder / "in.bil", "w", **profile, crs=crs, transform=grid) as file:
        file.write(np.arange(SIDE**2, dtype="int16").reshape(1, SIDE, SIDE))
    assert "AUTHORITY" not in (folder / "in.prj").read_text()
    return folder / "in.bil"


@pytest.mark.parametrize("made", [as_ascii, as_raw], ids=["asc", "bil"])
@pytest.mark.parametrize("code", CODES)
def test_a_grid_whose_prj_is_esris_is_converted_and_has_epsgs_crs(tmp_path, made, code):
    source = made(tmp_path, CRS.from_epsg(code))
    convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif")))
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as cog:
        assert same_crs(cog.crs, CRS.from_epsg(code))
        assert cog.transform == before.transform
        assert np.array_equal(cog.read(), before.read())


@pytest.mark.parametrize("code", NORTHING_FIRST)
def test_what_is_already_in_the_target_crs_but_for_the_order_of_its_axes_is_not_resampled(tmp_path, code):
    source = as_ascii(tmp_path, CRS.from_epsg(code))
    request = {"source": str(source), "destination": str(tmp_path / "out.tif"), "target_crs": f"EPSG:{code}"}
    assert not any("resampl" in note or "reproject" in note for note in convert(ConvertRequest(**request)).warnings)
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as cog:
        assert (cog.transform, cog.shape) == (before.transform, before.shape)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (25832, 25833),
        (3035, 3034),
        (31467, 31468),
        (5513, 5514),
        (2048, 2049),
        (4258, 4326),
        (3006, 25833),
        (2193, 2105),
    ],
)
def test_other_projections_datums_and_directions_are_another_crs(one, other):
    assert not same_crs(CRS.from_epsg(one), CRS.from_epsg(other))


def test_a_unit_makes_another_crs():
    metres, feet = CRS.from_epsg(32119), CRS.from_epsg(2264)
    assert not same_crs(metres, feet)


def test_heights_make_another_crs():
    assert not same_crs(CRS.from_epsg(25832), CRS.from_user_input("EPSG:25832+7837"))
    assert same_crs(CRS.from_user_input("EPSG:31467+7837"), CRS.from_user_input("EPSG:31467+7837"))
