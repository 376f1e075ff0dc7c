"""An item that says something else than the file is found out, field by field."""

import copy
import time

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geo_assets.raster.cog import convert
from geo_assets.raster.header import headers
from geo_assets.raster.models import ConvertRequest, HeadersRequest
from geo_assets.raster.profiles import PROFILES
from geo_assets.stac.assets import contradictions
from geo_assets.stac.item import CogAsset, cog_item
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stac.test_golden_items import REGISTERED

ODD_CRS = CRS.from_proj4("+proj=laea +lat_0=12.3 +lon_0=4.5 +datum=WGS84")

#: Of those that somebody made; no registry has it.
SITE_GRID = (
    'PROJCS["Site grid",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",8.7],PARAMETER["scale_factor",0.9997],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


def made(folder, *, name="data", **profile):
    """A COG, and its asset."""
    source = write(folder / f"{name}.tif", np.arange(4000, dtype="float32").reshape(2, 40, 50), **profile)
    file = folder / f"{name}.cog.tif"
    report = convert(ConvertRequest(source=str(source), destination=str(file)))
    return file, CogAsset(
        key=name, title=None, href=f"https://example.org/{name}", thumbnail=None, report=report, named=True
    )


def item_of(*cogs: CogAsset) -> dict:
    return cog_item(identity="i", collection="c", title="a.tif", modified=REGISTERED, cogs=cogs)


def read(file):
    (header,) = headers(HeadersRequest(source=str(file), lengths=(file.stat().st_size,))).headers
    return header


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"nodata": float("nan")},
        {"nodata": 7},
        {"crs": ODD_CRS},
        {"transform": from_origin(5e5 + 1 / 3, 4e6, 0.1, 0.1)},
    ],
    ids=["plain", "nan", "nodata", "a CRS without a code", "an odd grid"],
)
def test_the_item_of_a_cog_agrees_with_it(tmp_path, profile):
    file, asset = made(tmp_path, **profile)
    assert contradictions(item_of(asset), "data", read(file)) == []


def test_each_of_several_cogs_is_compared_with_its_own_asset(tmp_path):
    (a, asset_a), (b, asset_b) = made(tmp_path, name="a"), made(tmp_path, name="b", crs="EPSG:3857")
    item = item_of(asset_a, asset_b)
    assert contradictions(item, "a", read(a)) == contradictions(item, "b", read(b)) == []
    assert contradictions(item, "a", read(b)) == ["proj:code is EPSG:32618, in the file EPSG:3857"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda item: item["properties"].update({"proj:code": "EPSG:4326"}), "proj:code is EPSG:4326"),
        (
            lambda item: item["properties"].update({"proj:shape": [50, 40]}),
            "proj:shape is [50, 40], in the file [40, 50]",
        ),
        (
            lambda item: item["properties"]["proj:transform"].__setitem__(2, 500000.5),
            "proj:transform is [10.0, 0.0, 500000.5",
        ),
        (lambda item: item["assets"]["data"]["bands"].pop(), "the number of bands is 1, in the file 2"),
        (lambda item: item["assets"]["data"]["bands"][1].update(data_type="uint8"), "data_type of band 2 is uint8"),
        (lambda item: item["assets"]["data"]["bands"][0].update(nodata=3), "nodata of band 1 is 3, in the file None"),
    ],
)
def test_each_field_that_the_header_contradicts_is_named(tmp_path, change, said):
    file, asset = made(tmp_path, transform=from_origin(5e5, 4e6, 10, 10))
    item = copy.deepcopy(item_of(asset))
    change(item)
    (wrong,) = contradictions(item, "data", read(file))
    assert wrong.startswith(said)


def test_a_crs_without_a_code_is_compared_too(tmp_path):
    file, _ = made(tmp_path, name="a", crs=ODD_CRS)
    _, other = made(tmp_path, name="b", crs=CRS.from_proj4("+proj=laea +lat_0=12.3 +lon_0=4.6 +datum=WGS84"))
    assert any(w.startswith("proj:projjson is") for w in contradictions(item_of(other), "b", read(file)))


def test_bytes_that_are_no_tiff_have_no_header(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(60))
    assert read(tmp_path / "a.tif") is None


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_first_half_of_a_cog_tells_its_header_whatever_its_codec(tmp_path, profile, dtype):
    grain = np.random.default_rng(0).integers(0, 8, (3, 600, 600))
    pixels = (grain + np.linspace(20, 200, 600)).astype(dtype)
    source = write(tmp_path / "a.tif", pixels, photometric="rgb" if dtype == "uint8" else "minisblack")
    file = tmp_path / "a.cog.tif"
    report = convert(ConvertRequest(source=str(source), destination=str(file), profile=profile))
    (tmp_path / "b.tif").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    asset = CogAsset(key="data", title=None, href="https://example.org/a", thumbnail=None, report=report, named=True)
    assert contradictions(item_of(asset), "data", read(tmp_path / "b.tif")) == []


def test_the_code_of_a_crs_is_looked_for_once_for_all_headers_of_it(tmp_path):
    crs = CRS.from_wkt(SITE_GRID)
    file, _ = made(tmp_path, crs=crs, transform=from_origin(0, 0, 10, 10))
    many = tmp_path / "many"
    many.write_bytes(file.read_bytes() * 40)
    crs.to_epsg()
    begun = time.perf_counter()
    assert crs.to_epsg() is None
    search = time.perf_counter() - begun
    begun = time.perf_counter()
    found = headers(HeadersRequest(source=str(many), lengths=(file.stat().st_size,) * 40)).headers
    assert {header.crs_wkt2 for header in found} == {found[0].crs_wkt2}
    assert time.perf_counter() - begun < 20 * search


@pytest.mark.parametrize(
    ("gdals", "stacs"), [("CInt16", "cint16"), ("CInt32", "cint32"), ("CFloat32", "cfloat32"), ("CFloat64", "cfloat64")]
)
def test_an_item_has_the_type_of_complex_numbers_that_its_file_has(tmp_path, gdals, stacs):
    plain = write(tmp_path / "plain.tif", np.arange(4000.0).reshape(2, 40, 50) + 2**24)
    virtual = tmp_path / "in.vrt"
    rasterio.shutil.copy(plain, virtual, driver="VRT")
    virtual.write_text(virtual.read_text().replace('dataType="Float64"', f'dataType="{gdals}"'))
    rasterio.shutil.copy(virtual, tmp_path / "in.tif", driver="GTiff")
    file = tmp_path / "out.tif"
    report = convert(ConvertRequest(source=str(tmp_path / "in.tif"), destination=str(file)))
    asset = CogAsset(key="data", title=None, href="https://example.org", thumbnail=None, report=report, named=True)
    item = item_of(asset)
    assert [band["data_type"] for band in item["assets"]["data"]["bands"]] == [stacs, stacs]
    assert contradictions(item, "data", read(file)) == []
    rasterio.shutil.copy(file, tmp_path / "out.vrt", driver="VRT")
    assert (tmp_path / "out.vrt").read_text().count(f'<VRTRasterBand dataType="{gdals}"') == 2
