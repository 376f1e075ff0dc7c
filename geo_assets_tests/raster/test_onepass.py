"""The one-pass writer makes what GDAL's COG driver makes."""

import os
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rio_cogeo.cogeo import cog_validate

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import block_buffer, cogfile, gdal, onepass
from geo_assets.raster.codecs import Codec, candidates, encode_mask
from geo_assets.raster.inspect import inspect
from geo_assets.raster.profiles import choose_profile
from geo_assets.raster.progress import Progress
from geo_assets.raster.validate import validate_cog
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field, made


def one_pass(source: Path, compress: str = "DEFLATE", threads: int = 2) -> Path:
    made_ = source.with_name("onepass.tif")
    with gdal.session():
        info = inspect(source)
        profile = choose_profile(info, {"DEFLATE": "web", "ZSTD": "analysis"}[compress])
        with gdal.open_raster(source) as dataset:
            assert onepass.suits(dataset, info, profile), info.kind
            with onepass.Pyramid(
                dataset,
                candidates(compress, profile.predictor)[0],
                source.parent,
                threads,
                resampling=profile.overview_resampling,
            ) as pyramid:
                pyramid.run(lambda _: None)
                pyramid.save(made_, onepass.skeleton(dataset, source.parent, profile, {}))
    return made_


def values(count: int, height: int, width: int, dtype: str, nodata) -> np.ndarray:
    pixels = field(count, height, width)
    low, high = {"u": (1, 250), "i": (-1000, 1000), "f": (-500.0, 500.0)}[np.dtype(dtype).kind]
    pixels = (pixels * (high - low) + low).astype(dtype)
    if nodata is not None:
        pixels[:, np.random.default_rng(5).random((height, width)) < 0.3] = nodata
        pixels[:, : height // 4, : width // 4] = nodata
    return pixels


def overviews_of_gdal(source: Path, ours: Path, method: Resampling) -> Path:
    """A copy of `source` with as many overviews as `ours`, made by GDAL."""
    theirs = source.with_name("gdal.tif")
    rasterio.shutil.copy(source, theirs, driver="GTiff")
    with rasterio.open(ours) as cog, rasterio.open(theirs, "r+") as dataset:
        dataset.build_overviews([2 ** (i + 1) for i in range(len(cog.overviews(1)))], method)
    return theirs


CASES = [
    ("uint8", None, 3),
    ("uint8", 0, 1),
    ("uint16", None, 4),
    ("int16", -9999, 1),
    ("int32", None, 1),
    ("float32", -9999.0, 1),
    ("float32", None, 2),
    ("float64", float("nan"), 1),
]


@pytest.mark.parametrize("size", [(1024, 1536), (1001, 1300), (2047, 1025), (600, 513)], ids=str)
@pytest.mark.parametrize(("dtype", "nodata", "count"), CASES)
def test_pixels_and_overviews_are_those_of_gdal(tmp_path, dtype, nodata, count, size):
    colours = {"photometric": "RGB"} if count >= 3 else {}
    source = write(tmp_path / "in.tif", values(count, size[0], size[1], dtype, nodata), nodata=nodata, **colours)
    ours = one_pass(source)
    levels = len(rasterio.open(ours).overviews(1))
    theirs = overviews_of_gdal(source, ours, Resampling.average)
    with rasterio.open(source) as a, rasterio.open(ours) as b:
        np.testing.assert_array_equal(a.read(), b.read())
    for level in range(levels):
        with rasterio.open(theirs, overview_level=level) as a, rasterio.open(ours, overview_level=level) as b:
            expected, found = a.read(masked=True), b.read(masked=True)
            assert np.array_equal(np.ma.getmaskarray(expected), np.ma.getmaskarray(found))
            # signed integers: GDAL rounds towards zero, we to the nearest; and a level builds upon the one before
            slack = 1 + level if np.dtype(dtype).kind in "iu" else 0.03
            assert np.abs(expected.astype(float) - found.astype(float)).max() <= slack


def levels_of(cog: Path) -> list[dict]:
    """How each level of it is opened, full resolution first."""
    with rasterio.open(cog) as dataset:
        return [{}, *({"overview_level": level} for level in range(len(dataset.overviews(1))))]


def classes(height, width, dtype: str, nodata) -> np.ndarray:
    """Patches of eight classes, with other pixels in them; some nodata, some of it in one place."""
    rng = np.random.default_rng(3)
    patches = np.kron(rng.integers(1, 9, (-(-height // 3), -(-width // 3))), np.ones((3, 3)))[:height, :width]
    pixels = np.where(rng.random((height, width)) < 0.2, rng.integers(1, 9, (height, width)), patches).astype(dtype)
    if nodata is not None:
        pixels[rng.random((height, width)) < 0.3] = nodata
        pixels[: height // 2, : width // 3] = nodata
    return pixels[None]


CLASSES = [("uint8", None), ("uint8", 0), ("uint8", 255), ("int16", 9999), ("uint16", None), ("int32", 7)]


@pytest.mark.parametrize("palette", [False, True], ids=["plain", "palette"])
@pytest.mark.parametrize("size", [(1024, 1536), (1001, 1300), (2047, 1025), (600, 513), (4097, 515)], ids=str)
@pytest.mark.parametrize(("dtype", "nodata"), CLASSES)
def test_classes_and_their_overviews_are_exactly_those_of_gdal(tmp_path, dtype, nodata, size, palette):
    if palette and dtype != "uint8":
        pytest.skip("a palette is of bytes")
    colours = {"photometric": "palette"} if palette else {}
    source = write(tmp_path / "in.tif", classes(size[0], size[1], dtype, nodata), nodata=nodata, **colours)
    if palette:
        with rasterio.open(source, "r+") as dataset:
            dataset.write_colormap(1, {code: (20 * code % 256, code, 255 - code, 255) for code in range(256)})
    ours = one_pass(source)
    theirs = overviews_of_gdal(source, ours, Resampling.nearest if palette else Resampling.mode)
    for level in levels_of(ours):
        with rasterio.open(theirs, **level) as a, rasterio.open(ours, **level) as b:
            np.testing.assert_array_equal(a.read(), b.read())
            assert (a.nodata, a.colorinterp) == (b.nodata, b.colorinterp)
            assert not palette or a.colormap(1) == b.colormap(1)
    assert cog_validate(ours, quiet=True)[0]


def test_a_negative_nodata_value_is_no_class_in_overviews(tmp_path):
    """GDAL's MODE makes it 0 in integers (3.12)."""
    levels = {}
    for nodata in (-9999, 9999):
        folder = tmp_path / str(nodata)
        folder.mkdir()
        ours = one_pass(write(folder / "in.tif", classes(2047, 1025, "int16", nodata), nodata=nodata))
        levels[nodata] = []
        for level in range(len(rasterio.open(ours).overviews(1))):
            with rasterio.open(ours, overview_level=level) as dataset:
                levels[nodata].append(dataset.read(masked=True))
    for negative, positive in zip(*levels.values(), strict=True):
        np.testing.assert_array_equal(negative.filled(0), positive.filled(0))
        assert negative.mask.any()


@pytest.mark.parametrize("what", ["negative nodata", "mask"])
def test_neither_nodata_nor_what_is_under_a_mask_is_a_class_in_overviews_of_gdals_driver(tmp_path, what):
    """A domain of metadata is what our own writer does not carry over."""
    pixels, mask = classes(1300, 1100, "int16", -9999 if what != "mask" else None), a_mask(1300, 1100)
    if what == "mask":
        pixels[0, ~mask] = 77
        source = masked(tmp_path / "in.tif", pixels, mask)
    else:
        source = write(tmp_path / "in.tif", pixels, nodata=-9999)
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(ns="LINEAGE", by="hand")
    made(source)
    for level in levels_of(tmp_path / "out.tif"):
        with rasterio.open(tmp_path / "out.tif", **level) as dataset:
            assert set(np.unique(dataset.read(masked=True).compressed())) <= {*range(1, 9)}


@given(
    height=st.integers(513, 1100),
    width=st.integers(1, 1100),
    nodata=st.sampled_from([None, 0, 3]),
    palette=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_classes_of_any_size_have_only_classes_in_their_overviews(tmp_path_factory, height, width, nodata, palette):
    folder = tmp_path_factory.mktemp("classes")
    colours = {"photometric": "palette"} if palette else {}
    report = made(write(folder / "in.tif", classes(height, width, "uint8", nodata), nodata=nodata, **colours))
    assert not report.warnings
    for level in range(len(rasterio.open(folder / "out.tif").overviews(1))):
        with rasterio.open(folder / "out.tif", overview_level=level) as dataset:
            assert set(np.unique(dataset.read()).tolist()) <= {*range(1, 9), nodata if nodata is not None else 1}


def masked(path: Path, pixels: np.ndarray, mask: np.ndarray, **profile) -> Path:
    """A GeoTIFF with a mask of its own."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write(path, pixels, **profile)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
    return path


def a_mask(height: int, width: int) -> np.ndarray:
    """Valid within an ellipse, but for some pixels."""
    down, across = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return (down**2 + across**2 < 0.8) & (np.random.default_rng(2).random((height, width)) < 0.9)


@pytest.mark.parametrize("size", [(1024, 1536), (1001, 1300), (2047, 1025), (600, 513), (300, 200)], ids=str)
@pytest.mark.parametrize(("dtype", "count"), [("uint8", 3), ("uint16", 1), ("float32", 2)])
def test_a_mask_and_its_overviews_are_those_of_gdal(tmp_path, dtype, count, size):
    colours = {"photometric": "RGB"} if count == 3 else {}
    source = masked(tmp_path / "in.tif", values(count, size[0], size[1], dtype, None), a_mask(*size), **colours)
    ours = one_pass(source)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        theirs = overviews_of_gdal(source, ours, Resampling.average)
    for level in levels_of(ours):
        with rasterio.open(theirs, **level) as a, rasterio.open(ours, **level) as b:
            mask = b.read_masks(1)
            np.testing.assert_array_equal(a.read_masks(1), mask)
            slack = 0.03 if dtype == "float32" else 1 if level else 0
            assert np.abs(a.read()[:, mask > 0].astype(float) - b.read()[:, mask > 0].astype(float)).max() <= slack
    assert cog_validate(ours, quiet=True)[0]


@pytest.mark.parametrize("size", [(1024, 1536), (1001, 1300), (2047, 1025)], ids=str)
@pytest.mark.parametrize("palette", [False, True], ids=["plain", "palette"])
def test_classes_have_the_same_overviews_whether_a_mask_or_a_nodata_value_says_what_is_none(tmp_path, palette, size):
    """GDAL's MODE (3.12) counts what is under a mask, too, and its NEAREST takes another pixel of a mask."""
    pixels, mask = classes(size[0], size[1], "uint8", None), a_mask(size[0], size[1])
    colours = {"photometric": "palette"} if palette else {}
    (tmp_path / "nodata").mkdir()
    by_mask = one_pass(masked(tmp_path / "in.tif", pixels, mask, **colours))
    by_nodata = one_pass(write(tmp_path / "nodata" / "in.tif", np.where(mask, pixels, 0), nodata=0, **colours))
    for level in levels_of(by_mask):
        with rasterio.open(by_mask, **level) as a, rasterio.open(by_nodata, **level) as b:
            np.testing.assert_array_equal(a.read_masks(1), b.read_masks(1))
            np.testing.assert_array_equal(np.where(a.read_masks(1), a.read(1), 0), b.read(1))


def entries(image) -> dict[int, list]:
    """What a directory says, but for GDAL's metadata, which have our stamp."""
    metadata, sizes = 42112, (256, 257)
    return {
        tag: cogfile._numbers(entry).tolist() if tag in sizes else [entry.kind, entry.count, entry.data]
        for tag, entry in image.fields.items()
        if tag != metadata
    }


def test_a_cog_with_a_mask_has_the_directories_of_gdals_own(tmp_path):
    source = masked(tmp_path / "in.tif", values(3, 1300, 1100, "uint8", None), a_mask(1300, 1100), photometric="RGB")
    ours, theirs = one_pass(source), tmp_path / "gdal.tif"
    rasterio.shutil.copy(
        source, theirs, driver="COG", COMPRESS="DEFLATE", PREDICTOR="YES", OVERVIEW_RESAMPLING="AVERAGE"
    )
    (a, _), (b, _) = cogfile.read_header(theirs), cogfile.read_header(ours)
    assert a.ghost == b.ghost
    assert [entries(image) for image in a.images] == [entries(image) for image in b.images]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_code_is_seen_in_overviews_where_any_of_its_pixels_is(tmp_path, dtype):
    pixels = np.zeros((2, 1024, 1024), dtype)
    pixels[0], pixels[1, ::2, 1::2] = 5, 255
    source = tmp_path / "in.tif"
    profile = {"driver": "GTiff", "count": 2, "height": 1024, "width": 1024, "dtype": dtype, "crs": "EPSG:32618"}
    with rasterio.open(source, "w", **profile, transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)) as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        dataset.write(pixels)
    with rasterio.open(one_pass(source), overview_level=0) as dataset:
        assert np.unique(dataset.read(1)) == [5]
        assert np.unique(dataset.read(2)) == [255]


@pytest.mark.parametrize("what", ["alpha", "nodata"])
def test_a_mask_beside_alpha_or_nodata_is_the_one_that_counts(tmp_path, what):
    pixels = values(4 if what == "alpha" else 1, 1300, 1100, "uint8", None)
    profile: dict = {"photometric": "RGB", "alpha": "YES"} if what == "alpha" else {"nodata": 7}
    if what == "alpha":
        pixels[3] = np.where(np.arange(1100) < 300, 0, 255)
    else:
        pixels[0, :, :300] = 7
    mask = a_mask(1300, 1100)
    source = masked(tmp_path / "in.tif", pixels, mask, **profile)
    report = made(source)
    assert not report.warnings
    with rasterio.open(tmp_path / "out.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        np.testing.assert_array_equal(dataset.read_masks(1) > 0, mask)
    counted = mask & (pixels[3] > 0) if what == "alpha" else mask
    assert report.bands[0].valid_percent == pytest.approx(100 * counted.mean())


def test_a_mask_that_is_not_read_as_it_was_written_is_refused(tmp_path, monkeypatch):
    source = masked(tmp_path / "in.tif", values(3, 1300, 1100, "uint8", None), a_mask(1300, 1100), photometric="RGB")
    monkeypatch.setattr(onepass, "encode_mask", lambda mask: encode_mask(~mask))
    with pytest.raises(GeoAssetsError, match="the pixels of level 0 are not what was written") as error:
        made(source)
    assert error.value.code == "COG_VALIDATION_FAILED"
    assert not (tmp_path / "out.tif").exists()


def test_colour_under_full_transparency_does_not_bleed_into_overviews(tmp_path):
    pixels = np.zeros((4, 1200, 1100), "uint8")
    pixels[:3] = 255  # white where nobody sees it
    opaque = np.random.default_rng(0).random((1200, 1100)) < 0.5
    pixels[:3, opaque] = 40
    pixels[3] = np.where(opaque, 255, 0)
    source = write(tmp_path / "in.tif", pixels, photometric="RGB", alpha="YES")
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with rasterio.open(one_pass(source), overview_level=0) as dataset:
        colour = dataset.read([1, 2, 3])
        assert set(np.unique(colour[:, dataset.read(4) > 0])) == {40}


@pytest.mark.parametrize("size", [(5001, 1300), (3000, 1025)], ids=str)
def test_a_wide_raster_holds_a_strip_less_and_has_the_same_bytes(tmp_path, monkeypatch, size):
    source = write(tmp_path / "in.tif", values(3, size[0], size[1], "uint8", None), photometric="RGB")
    hand_out, full = onepass.Pyramid._hand_out, []

    def counted(pyramid, level, rows):
        hand_out(pyramid, level, rows)
        full.append(sum(one.number == 0 for one, *_ in pyramid._pending))

    monkeypatch.setattr(onepass.Pyramid, "_hand_out", counted)
    expected = one_pass(source, threads=2).read_bytes()
    assert max(full) == 3
    full.clear()
    monkeypatch.setattr(onepass, "_TILES_A_THREAD", 1)
    assert one_pass(source, threads=2).read_bytes() == expected
    assert max(full) == 2


@pytest.mark.parametrize("compress", ["DEFLATE", "ZSTD"])
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, compress):
    source = write(tmp_path / "in.tif", values(3, 1100, 1300, "uint8", None), photometric="RGB")
    assert one_pass(source, compress, threads=1).read_bytes() == one_pass(source, compress, threads=4).read_bytes()


@pytest.mark.parametrize("profile", ["web", "analysis"])
@pytest.mark.parametrize("size", [(2048, 3072), (2001, 3001)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("float32", -9999.0), ("float32", float("nan")), ("uint8", 255), ("float64", 1.1), ("float32", 1.1)],
)
def test_tiles_without_data_are_not_stored_and_read_back_as_they_were(tmp_path, dtype, nodata, size, profile):
    pixels = np.full((1, *size), nodata, dtype)
    pixels[0, 300:700, 100:900] = field(1, 400, 800)[0] * 200
    source = write(tmp_path / "in.tif", pixels, nodata=nodata)
    report = made(source, profile=profile)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), pixels, equal_nan=True)
        assert dataset.get_tag_item("BLOCK_OFFSET_4_3", "TIFF", bidx=1) is None
        assert dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1)
    assert report.bands[0].valid_percent == pytest.approx(100 * 400 * 800 / (size[0] * size[1]), rel=1e-3)
    assert cog_validate(tmp_path / "out.tif", strict=True, quiet=True)[0]
    assert validate_cog(tmp_path / "out.tif") == []


def test_a_raster_without_any_data_is_a_cog_without_blocks(tmp_path):
    made(write(tmp_path / "in.tif", np.full((2, 1500, 1500), -1, "int16"), nodata=-1))
    assert (tmp_path / "out.tif").stat().st_size < 10_000
    assert validate_cog(tmp_path / "out.tif") == []


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(onepass, "_MEMORY", 0)
    monkeypatch.setattr(onepass, "_LEAST_FOR_BLOCKS", 1 << 20)
    monkeypatch.setattr(block_buffer, "_BLOCKS_AT_ONCE", 1)


def test_blocks_that_do_not_fit_into_memory_wait_on_disk(tmp_path, little_memory, monkeypatch):
    source = write(tmp_path / "in.tif", values(3, 1100, 1300, "uint8", None), photometric="RGB")
    monkeypatch.setattr(onepass, "_LEAST_FOR_BLOCKS", 1 << 30)
    in_memory = one_pass(source).read_bytes()
    monkeypatch.setattr(onepass, "_LEAST_FOR_BLOCKS", 100_000)
    monkeypatch.setattr(block_buffer, "_MOVED_MOST", 50_000)
    assert one_pass(source).read_bytes() == in_memory
    assert sorted(p.name for p in tmp_path.iterdir() if "skeleton" not in p.name) == ["in.tif", "onepass.tif"]


def test_what_waits_on_disk_and_the_cog_are_never_both_there(tmp_path, little_memory, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (3, 4000, 4000)).astype("uint8")
    source = write(tmp_path / "in.tif", noise, photometric="RGB")
    held = []

    def copy(file, out, length):
        shutil.copyfileobj(file, out, length)
        out.flush()
        held.append(512 * sum(os.fstat(f.fileno()).st_blocks for f in (file, out)))

    monkeypatch.setattr(block_buffer, "shutil", SimpleNamespace(copyfileobj=copy))
    written = one_pass(source)
    assert len(held) > 3
    assert max(held) < written.stat().st_size + 2 * block_buffer._MOVED_MOST


def test_pixels_that_are_not_read_as_they_were_written_are_refused(tmp_path, monkeypatch):
    encode = Codec.encode

    def one_bit_off(codec, tile):
        if tile.shape[1] == 512 and tile[0, 3, 5] == 77:
            tile = tile.copy()
            tile[0, 200, 200] ^= 1
        return encode(codec, tile)

    pixels = values(1, 1500, 1500, "uint8", None)
    pixels[0, 3::512, 5::512] = 0
    pixels[0, 512 + 3, 512 + 5] = 77
    monkeypatch.setattr(Codec, "encode", one_bit_off)
    with pytest.raises(GeoAssetsError, match="level 0 are not what was written, in 1 of 9 tiles") as caught:
        made(write(tmp_path / "in.tif", pixels))
    assert caught.value.code == "COG_VALIDATION_FAILED"
    assert not (tmp_path / "out.tif").exists()


def test_memory_does_not_grow_with_the_height_of_a_raster(tmp_path, little_memory):
    def peak(height: int) -> int:
        source = write(tmp_path / "in.tif", values(1, height, 1024, "uint8", None), tiled=True)
        tracemalloc.start()
        one_pass(source)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(16_384) < 2 * peak(4096)  # of four times as many rows; what Python holds besides varies


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 1600), width=st.integers(1, 1600), count=st.integers(1, 3), data=st.data())
def test_any_size_comes_back_bit_for_bit(tmp_path_factory, height, width, count, data):
    dtype = data.draw(st.sampled_from(["uint8", "int16", "uint16", "float32", "float64", "int32", "uint32"]))
    folder = tmp_path_factory.mktemp("any")
    pixels = np.random.default_rng(height * width).integers(0, 255, (count, height, width)).astype(dtype)
    source = write(folder / "in.tif", pixels)
    made(source)
    with rasterio.open(folder / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint64"])  # by our writer, by GDAL's driver
def test_progress_is_told_until_the_proof_is_done_and_never_goes_back(tmp_path, monkeypatch, dtype):
    told, proven = [], Progress.proven

    def listened(progress, part):
        proven(progress, part)
        told.append(float((tmp_path / "told").read_text()))

    monkeypatch.setattr(Progress, "proven", listened)
    made(write(tmp_path / "in.tif", np.ones((1, 1100, 1300), dtype)), progress=str(tmp_path / "told"))
    assert told == sorted(told)
    assert len(set(told)) >= 2
    assert told[-1] == 1


def test_numbers_that_need_seventeen_digits_are_kept_in_every_bit(tmp_path):
    source = write(tmp_path / "in.tif", values(2, 600, 700, "int16", None))
    with rasterio.open(source, "r+") as dataset:
        dataset.scales, dataset.offsets = (float(np.float32(0.1)), 1 / 3), (float(np.float32(273.15)), -0.1 - 0.2)
    made(source)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.scales == (0.10000000149011612, 1 / 3)
        assert dataset.offsets == (273.1499938964844, -0.30000000000000004)


@pytest.mark.parametrize("request_", [{}, {"source_crs": "EPSG:4326"}], ids=["as it is", "with a CRS that is given"])
def test_ground_control_points_are_kept_in_every_bit(tmp_path, request_):
    third = 1 / 3
    points = [
        GroundControlPoint(row, column, 12 + third + column / 1e5, 52 + third - row / 1e5, 100 * third)
        for row, column in [(third, third), (600 - third, third), (third, 700 - third), (600 - third, 700 - third)]
    ]
    source = write(tmp_path / "in.tif", values(1, 600, 700, "uint8", None), crs=None, transform=None)
    with rasterio.open(source, "r+") as dataset:
        dataset.gcps = (points, CRS() if request_ else CRS.from_epsg(4326))
    made(source, **request_)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        found, crs = dataset.gcps
    assert crs == CRS.from_epsg(4326)
    assert [(p.row, p.col, p.x, p.y, p.z) for p in found] == [(p.row, p.col, p.x, p.y, p.z) for p in points]


@pytest.mark.skipif(not os.environ.get("GEO_ASSETS_SAMPLES"), reason="GEO_ASSETS_SAMPLES is not set")
def test_the_skeleton_says_what_gdals_own_driver_would_say(tmp_path):
    from geo_assets.raster import cogfile

    for source in sorted((Path(os.environ["GEO_ASSETS_SAMPLES"]) / "raster").glob("*.tif")):
        with gdal.session(), gdal.open_raster(source) as dataset:
            profile = choose_profile(inspect(source))
            rasterio.shutil.copy(
                dataset, tmp_path / "gdal.tif", driver="COG", **{**profile.options(), "OVERVIEWS": "NONE"}
            )
            ours = onepass.skeleton(dataset, tmp_path, profile, {})
        theirs, _ = cogfile.read_header(tmp_path / "gdal.tif")
        size = {256, 257}
        a, b = ({k: v for k, v in h.images[0].fields.items() if k not in size} for h in (theirs, ours))
        assert a == b, source.name


def test_a_picture_whose_metadata_is_no_utf8_is_converted_with_these_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 700, 900)).astype("uint8")
    source = write(tmp_path / "in.tif", pixels, photometric="RGB")
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION="Koenigsplatz", PLACE="Muenchen")
    latin = source.read_bytes().replace(b"Koenigsplatz", b"K\xf6nigsplatz\0").replace(b"Muenchen", b"M\xfcnchen ")
    source.write_bytes(latin)
    report = made(source)
    assert not report.passed_through
    cog = (tmp_path / "out.tif").read_bytes()
    assert b"K\xf6nigsplatz" in cog
    assert b"M\xfcnchen" in cog
    assert any("Failed to decode metadata" in warning for warning in report.warnings)
