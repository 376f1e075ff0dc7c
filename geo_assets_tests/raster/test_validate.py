"""Damage and changes in a COG are detected and reported."""

import struct
import time

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rio_cogeo.cogeo import cog_validate

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import tiff
from geo_assets.raster.models import ValidateRequest
from geo_assets.raster.validate import structure, validate, validate_cog
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field, made

PROFILES = ["web", "analysis"]


@pytest.fixture(params=PROFILES)
def cog(request, tmp_path):
    made(write(tmp_path / "in.tif", (field(3) * 250).astype("uint8"), photometric="RGB"), profile=request.param)
    return tmp_path / "out.tif"


def altered(cog, change):
    data = bytearray(cog.read_bytes())
    change(data)
    cog.write_bytes(data)
    return validate_cog(cog)


def test_a_good_cog_has_no_problems(cog):
    assert validate_cog(cog) == []


@pytest.mark.parametrize("part", [0.1, 0.5, 0.7, 0.99])
def test_a_cog_that_is_cut_off_is_found_out(cog, part):
    def cut(data):
        del data[int(len(data) * part) :]

    assert altered(cog, cut)


@pytest.mark.parametrize("from_the_end", [2000, 20_000, 100_000])
def test_a_zeroed_stretch_is_found_out(cog, from_the_end):
    def zero(data):
        data[-from_the_end : -from_the_end + 1000] = bytes(1000)

    assert altered(cog, zero)


@pytest.mark.parametrize("profile", PROFILES)
def test_any_flipped_bit_that_a_reader_sees_is_found_out(tmp_path_factory, profile):
    folder = tmp_path_factory.mktemp("flips")
    made(write(folder / "in.tif", (field(1, 700, 600) * 250).astype("uint8")), profile=profile)
    good = (folder / "out.tif").read_bytes()
    with rasterio.open(folder / "out.tif") as dataset:
        pixels, tags, crs, transform = dataset.read(), dataset.tags(), dataset.crs, dataset.transform

    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(place=st.integers(0, len(good) - 1), bit=st.integers(0, 7))
    def check(place, bit):
        data = bytearray(good)
        data[place] ^= 1 << bit
        (folder / "flipped.tif").write_bytes(data)
        try:
            if validate_cog(folder / "flipped.tif"):
                return
        except GeoAssetsError:
            return
        with rasterio.open(folder / "flipped.tif") as dataset:  # padding that nobody reads
            assert np.array_equal(dataset.read(), pixels)
            assert (dataset.tags(), dataset.crs, dataset.transform) == (tags, crs, transform)

    check()


@pytest.mark.parametrize("field_tag", [256, 257, 322, 323], ids=["width", "height", "tile width", "tile height"])
def test_a_flipped_bit_of_a_size_is_found_out_without_reading_what_is_not_there(cog, field_tag):
    good, began = cog.read_bytes(), time.process_time()
    (at, *_) = (directory.at for directory in tiff.read_layout(cog).directories)
    entries = range(at + 2, at + 2 + 12 * struct.unpack_from("<H", good, at)[0], 12)
    (entry,) = (e for e in entries if struct.unpack_from("<H", good, e)[0] == field_tag)
    bits = {3: 16, 4: 32}[struct.unpack_from("<H", good, entry + 2)[0]]
    for bit in range(bits):
        data = bytearray(good)
        data[entry + 8 + bit // 8] ^= 1 << bit % 8
        cog.write_bytes(data)
        assert validate_cog(cog), bit
    assert time.process_time() - began < 10


def test_a_moved_grid_is_found_out_by_the_seal(cog):
    with rasterio.open(cog) as dataset:
        corner = struct.pack("<d", dataset.transform.c)

    def move(data):
        place = data.index(corner)
        data[place : place + 8] = struct.pack("<d", 499_990.0)

    assert any("header" in problem for problem in altered(cog, move))


def test_of_a_damaged_cog_it_is_said_whether_its_pixels_are_those_that_it_was_made_with(cog):
    good = cog.read_bytes()
    assert told_of(cog) == (False, True)
    with rasterio.open(cog) as dataset:
        corner = struct.pack("<d", dataset.transform.c)
    cog.write_bytes(good.replace(corner, struct.pack("<d", 499_990.0), 1))
    assert told_of(cog) == (True, True), "its grid was moved, its pixels stay"
    directory = tiff.read_layout(cog).directories[0]
    middle = int(directory.offsets[0] + directory.counts[0] // 2)
    cog.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    damaged, kept = told_of(cog)
    assert damaged
    assert not kept
    cog.write_bytes(good[: len(good) // 2])
    assert told_of(cog) == (True, None)


def told_of(cog):
    """(whether it is damaged, whether its pixels are kept)."""
    report = validate(ValidateRequest(source=str(cog)))
    return bool(report.problems), report.pixels_kept


def test_a_cog_without_a_stamp_does_not_tell_whether_its_pixels_are_kept(tmp_path):
    source = write(tmp_path / "in.tif", (field(1) * 250).astype("uint8"))
    rasterio.shutil.copy(source, tmp_path / "cog.tif", driver="COG")
    assert told_of(tmp_path / "cog.tif") == (False, None)


def test_swapped_blocks_are_found_out(cog):
    """Two tiles change places: every block decodes, every frame and checksum is right."""

    def swap(data):
        directory = tiff.read_layout(cog).directories[0]
        (a, b), (ca, cb) = directory.offsets[:2], directory.counts[:2]
        for old, new in (((a, ca), (b, cb)),):
            table_a, table_b = struct.pack("<I", int(old[0])), struct.pack("<I", int(new[0]))
            place = data.index(table_a + table_b)
            data[place : place + 8] = table_b + table_a
            counts = data.index(struct.pack("<II", int(old[1]), int(new[1])))
            data[counts : counts + 8] = struct.pack("<II", int(new[1]), int(old[1]))

    assert altered(cog, swap)


def test_the_stamp_does_not_travel_with_the_pixels_to_another_file(tmp_path):
    made(write(tmp_path / "in.tif", (field(1) * 250).astype("uint8")))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        first = dataset.tags()["GEO_ASSETS_SEAL_SHA256"]
    again = (tmp_path / "out.tif").rename(tmp_path / "again.tif")
    made(again, profile="analysis")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        tags = dataset.tags()
    assert tags["GEO_ASSETS_SEAL_SHA256"] != first
    assert validate_cog(tmp_path / "out.tif") == []


def test_a_file_that_is_no_cog_says_so(tmp_path):
    source = write(tmp_path / "in.tif", (field(1) * 250).astype("uint8"))
    assert validate_cog(source)
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(Exception, match="none of the formats"):
        validate_cog(tmp_path / "text.tif")


def test_a_moved_main_directory_is_found_out(tmp_path):
    made(write(tmp_path / "in.tif", (field(1) * 250).astype("uint8")))
    with rasterio.open(tmp_path / "out.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(NOTE="written in place")
    assert validate_cog(tmp_path / "out.tif")


KINDS = {
    "striped": {},
    "tiled": {"tiled": True, "blockxsize": 256, "blockysize": 256},
    "small": {"size": 400},
    "tiled with overviews at the end": {"tiled": True, "overviews": [2, 4]},
    "overviews of strips": {"overviews": [2]},
    "GDAL's COG": {"cog": {}},
    "GDAL's COG without overviews": {"cog": {"overviews": "NONE"}},
    "GDAL's small COG without overviews": {"cog": {"overviews": "NONE"}, "size": 500},
    "GDAL's COG with a mask": {"cog": {"add_mask": "YES"}, "masked": True},
    "GDAL's COG in BigTIFF": {"cog": {"bigtiff": "YES"}},
    "GDAL's sparse COG": {"cog": {"sparse_ok": "YES"}, "nodata": 0},
    "JPEG": {"cog": {"compress": "JPEG"}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_a_file_is_judged_as_rio_cogeo_judges_it(tmp_path, kind):
    options = dict(KINDS[kind])
    size, overviews, cog_options, masked = (
        options.pop(k, d) for k, d in (("size", 900), ("overviews", []), ("cog", None), ("masked", False))
    )
    path = write(tmp_path / "in.tif", (field(3, size, size) * 250).astype("uint8"), photometric="RGB", **options)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        if masked:
            dataset.write_mask(np.tri(size, dtype=bool))
        if overviews:
            dataset.build_overviews(overviews)
    if cog_options is not None:
        rasterio.shutil.copy(path, tmp_path / "cog.tif", driver="COG", **cog_options)
        path = tmp_path / "cog.tif"
    assert (structure(path) == []) == cog_validate(path, strict=True, quiet=True)[0]
