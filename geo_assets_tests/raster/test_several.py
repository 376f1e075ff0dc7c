"""Sources with several rasters, split in real sandboxed children."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.stages.cogs import unread
from geo_assets.stages.raster_conversion import Converter
from geo_assets_tests.raster.hostile import encoded, striped
from geo_assets_tests.raster.netcdf import axes, grid, netcdf
from geo_assets_tests.raster.test_archives import archive
from geo_assets_tests.raster.test_cog import write


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with SandboxPool(tmp_path_factory.mktemp("pool"), workers=2, timeout_seconds=60) as pool:
        yield pool


@pytest.fixture
def converter(pool):
    with pool.workspace() as folder:
        yield Converter(pool, folder, {}, thumbnails=True)


@pytest.fixture
def inside(converter):
    """A directory that the children can read."""
    folder = converter.folder / "in"
    folder.mkdir()
    return folder


def numbers(*shape, dtype="f4"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def climate(**variables: np.ndarray) -> bytes:
    """Variables on one grid, the longest axes first; a ragged one has no coordinates."""
    longest = max(variables.values(), key=lambda v: v.ndim)
    fields = {name: (["time", "lat", "lon"][-values.ndim :], {}, values) for name, values in variables.items()}
    return netcdf({**fields, **axes(longest.shape)})


def ragged() -> bytes:
    """`good` on a regular grid, `bad` on an uneven one."""
    uneven = {
        "y": (["y"], {"units": "m"}, np.array([0.0, 1.0, 7.0, 30.0])),
        "x": (["x"], {"units": "m"}, np.array([0.0, 2.0, 9.0])),
    }
    return netcdf(
        {**axes((4, 5)), **uneven, "good": (["lat", "lon"], {}, numbers(4, 5)), "bad": (["y", "x"], {}, numbers(4, 3))}
    )


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_one_raster_is_one_part_without_a_name(converter, inside):
    result = converter.source(write(inside / "a.tif", np.ones((1, 30, 30), "uint8")))
    assert result.is_single
    assert result.made[0].thumbnail.exists()


def test_every_variable_becomes_a_cog_of_its_own_with_bands_of_their_dates(converter, inside):
    result = converter.source(
        write_bytes(inside / "a.nc", climate(tas=numbers(3, 4, 5), mask=numbers(4, 5, dtype="i2")))
    )
    assert not result.is_single
    assert [(p.name, p.stem) for p in result.made] == [("tas", "tas"), ("mask", "mask")]
    assert [b.datetime for b in result.made[0].report.bands] == [f"2000-01-0{day}T00:00:00Z" for day in (1, 2, 3)]
    with rasterio.open(result.made[0].cog) as cog:
        np.testing.assert_array_equal(cog.read(), numbers(3, 4, 5))


def test_a_variable_that_cannot_be_is_left_out_with_its_reason(converter, inside):
    result = converter.source(write_bytes(inside / "a.nc", ragged()))
    assert [p.name for p in result.made] == ["good"]
    (warning,) = result.warnings()
    assert warning.startswith("bad: left out: bad of a.nc has no regular grid")


def test_where_none_can_be_every_reason_is_told(converter, inside):
    content = netcdf({"a": (["y", "x"], {}, numbers(4, 5)), "b": (["y", "x"], {}, numbers(4, 5))})
    with pytest.raises(GeoAssetsError) as caught:
        converter.source(write_bytes(inside / "a.nc", content))
    assert caught.value.code == "RASTER_UNSUPPORTED"
    assert "none of the 2 rasters in a.nc can be converted: a: " in caught.value.message
    assert "; b: " in caught.value.message


def test_a_container_that_is_cut_off_is_refused_as_a_whole(converter, inside):
    with pytest.raises(GeoAssetsError) as caught:
        converter.source(write_bytes(inside / "a.nc", grid("a", numbers(4, 5))[:60]))
    assert caught.value.error_class == "invalid"


def test_the_rasters_of_a_zip_and_the_variables_in_them_are_parts_with_distinct_plain_names(converter, inside):
    members = {
        "a/one.tif": striped("LZW"),
        "a_one.tif": striped("LZW"),
        "A/ONE.tif": striped("LZW"),
        "thumbnail.tif": striped("LZW"),
        "ünï.nc": climate(tas=numbers(4, 5), pr=numbers(4, 5)),
        "broken.tif": striped("LZW")[:200],
        "picture.png": encoded("PNG"),
        "read me.txt": b"hello",
    }
    result = converter.archive(write_bytes(inside / "a.zip", archive(members)))
    assert {p.name: p.stem for p in result.made} == {
        "A/ONE.tif": "A_ONE",
        "a/one.tif": "a_one_2",
        "a_one.tif": "a_one_3",
        "thumbnail.tif": "thumbnail_2",
        "ünï.nc:tas": "uni_tas",
        "ünï.nc:pr": "uni_pr",
    }
    left_out = [w for w in result.warnings() if "left out" in w]
    assert [w.partition(":")[0] for w in left_out] == ["broken.tif", "picture.png"]
    assert result.others == ("read me.txt",)


def test_archives_and_packed_files_within_an_archive_are_named_and_not_called_something_else(converter, inside):
    packed = {"x/inner.zip": b"PK", "c.tif.gz": b"\x1f\x8b", "d.tar.gz": b"\x1f\x8b", "e.7z": b"7z"}
    members = {"a.tif": striped("LZW"), "roads.geojson.gz": b"\x1f\x8b", "read me.txt": b"hello", **packed}
    result = converter.archive(write_bytes(inside / "a.zip", archive(members)))
    (note,) = [warning for warning in result.warnings() if "unpack" in warning]
    assert [name for name in members if name in note] == list(packed)
    assert unread(result) == ["it also holds what is neither raster nor vector: read me.txt"]


def test_the_images_of_a_tiff_are_parts(converter, inside):
    source = write(inside / "pages.tif", np.zeros((1, 20, 30), "uint8"))
    write(source, np.ones((3, 40, 50), "uint16"), APPEND_SUBDATASET="YES")
    result = converter.source(source)
    assert [(p.name, p.stem, p.report.count) for p in result.made] == [
        ("image 1", "image_1", 1),
        ("image 2", "image_2", 3),
    ]


def test_one_part_may_be_asked_for_by_its_name(converter, inside):
    content = archive({"a.nc": climate(tas=numbers(4, 5), pr=numbers(4, 5)), "b.tif": striped("LZW")})
    source = write_bytes(inside / "a.zip", content)
    for name in ("a.nc:pr", "b.tif"):
        wanted = Converter(converter.pool, converter.folder, {}, wanted=name)
        assert [p.name for p in wanted.archive(source).parts] == [name]


def test_a_fault_of_the_machine_ends_the_whole_so_that_it_is_tried_again(converter, inside, monkeypatch):
    source = write_bytes(inside / "a.nc", climate(tas=numbers(4, 5), pr=numbers(4, 5)))
    call = SandboxPool.call

    def no_room(self, function, request, result):
        if function.endswith("cog:convert") and "pr" in request.source:
            raise GeoAssetsError("DISK_FULL", "no room")
        return call(self, function, request, result)

    monkeypatch.setattr(SandboxPool, "call", no_room)
    with pytest.raises(GeoAssetsError) as caught:
        converter.source(source)
    assert caught.value.code == "DISK_FULL"


SAMPLE = Path(os.environ.get("GEO_ASSETS_SAMPLES", "/nonexistent")) / "raster" / "tmmx_20190121.nc"


@pytest.mark.skipif(not SAMPLE.is_file(), reason="GEO_ASSETS_SAMPLES is not set")
def test_the_sample_becomes_a_cog_with_the_pixels_that_its_file_has(converter, inside):
    result = converter.source(write_bytes(inside / SAMPLE.name, SAMPLE.read_bytes()))
    (part,) = result.made
    with rasterio.open(SAMPLE) as source, rasterio.open(part.cog) as cog:
        np.testing.assert_array_equal(source.read(), cog.read())
        assert (source.transform, source.nodata, source.scales) == (cog.transform, cog.nodata, cog.scales)


def test_each_table_of_tiles_of_a_geopackage_becomes_a_cog(converter, inside):
    path = inside / "maps.gpkg"
    values = {name: np.full((3, 100, 120), number, "uint8") for number, name in enumerate(("Summer 2020", "winter"), 1)}
    for name, pixels in values.items():
        options = {"RASTER_TABLE": name, "APPEND_SUBDATASET": "YES" if path.exists() else "NO", "TILE_FORMAT": "PNG"}
        write(path, pixels, driver="GPKG", crs="EPSG:25833", transform=from_origin(3e5, 5.9e6, 10, 10), **options)
    result = converter.source(path)
    assert [part.name for part in result.made] == list(values)
    for part in result.made:
        with rasterio.open(part.cog) as cog:
            np.testing.assert_array_equal(cog.read([1, 2, 3]), values[part.name])
            assert (part.report.epsg, cog.transform.c) == (25833, 3e5)


def pages(path: Path, *sizes: int) -> Path:
    """A TIFF of images that have no place of their own."""
    for number, side in enumerate(sizes):
        options = {"APPEND_SUBDATASET": "YES"} if number else {}
        pixels = np.full((1, side, side), number + 1, "uint8")
        write(path, pixels, crs=None, transform=None, **options)
    return path


@pytest.mark.parametrize("prj", [True, False])
def test_images_of_a_tiff_are_placed_by_the_world_file_and_the_prj_beside_it(converter, inside, prj):
    (inside / "m.tfw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    if prj:
        (inside / "m.prj").write_text(rasterio.CRS.from_epsg(32618).to_wkt())
    else:
        converter.options["source_crs"] = "EPSG:32618"
    result = converter.source(pages(inside / "m.tif", 40, 40))
    assert [(part.name, part.report.epsg, part.report.transform) for part in result.made] == [
        (f"image {number}", 32618, (10, 0, 500000, 0, -10, 4000000)) for number in (1, 2)
    ]
    assert [note for note in result.warnings() if "m.prj" in note] != [] or not prj


def test_an_image_of_another_size_than_the_first_is_not_placed_by_the_world_file(converter, inside):
    (inside / "m.tfw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    converter.options["source_crs"] = "EPSG:32618"
    result = converter.source(pages(inside / "m.tif", 40, 20))
    assert [part.name for part in result.made] == ["image 1"]
    (note,) = [note for note in result.warnings() if note.startswith("image 2")]
    assert "where its pixels are" in note


def test_images_of_a_tiff_without_a_place_are_told_what_places_images(converter, inside):
    with pytest.raises(GeoAssetsError, match="where its pixels are") as caught:
        converter.source(pages(inside / "m.tif", 40, 40))
    assert caught.value.code == "RASTER_UNSUPPORTED"
    assert ("world file" in caught.value.remedy, "NETCDF" in caught.value.remedy) == (True, False)
