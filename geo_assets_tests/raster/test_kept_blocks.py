"""With `keep_lossy` the JPEG blocks of a TIFF are those of its COG, bit by bit."""

import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import cogfile, tiff
from geo_assets.raster import report as report_module
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertReport, ConvertRequest, ValidateRequest
from geo_assets.raster.validate import validate, validate_cog
from geo_assets_tests.raster.hostile import flipped
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field

YCBCR = {"photometric": "YCBCR"}


def picture(count: int = 3, height: int = 700, width: int = 900) -> np.ndarray:
    return (field(count, height, width) * 250).astype("uint8")


def landscape(height: int, width: int) -> np.ndarray:
    """Detail of every size, as an orthophoto has."""
    rng, total = np.random.default_rng(3), np.zeros((3, height, width))
    for size in (1, 2, 4, 8, 16, 32, 64, 128):
        coarse = rng.normal(0, 6, (height // size + 1, width // size + 1))
        total += np.kron(coarse, np.ones((size, size)))[:height, :width]
    return np.clip(total + 120 + np.arange(3)[:, None, None] * 10, 0, 255).astype("uint8")


def jpeg(path: Path, pixels: np.ndarray | None = None, **profile) -> Path:
    pixels = picture() if pixels is None else pixels
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "JPEG", "jpeg_quality": 80}
    photometric = {"photometric": "YCBCR"} if len(pixels) == 3 else {}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"):
        return write(path, pixels, **{**tiles, **photometric, "interleave": "pixel", **profile})


def made(source: Path, **request) -> ConvertReport:
    alone = source.parent / "alone"
    alone.mkdir(exist_ok=True)
    for member in source.parent.glob(f"{source.name}*"):
        (alone / member.name).write_bytes(member.read_bytes())
    asked = {"keep_lossy": True, **request}
    return convert(ConvertRequest(source=str(alone / source.name), destination=str(cog_of(source)), **asked))


def cog_of(source: Path) -> Path:
    return source.with_name("out.cog.tif")


def blocks(path: Path, of: str = "TIFF") -> list[bytes]:
    """The bytes of each block of the full resolution, from where GDAL says that they are."""
    data = path.read_bytes()
    with rasterio.open(path) as dataset:
        down, across = (-(-n // size) for n, size in zip(dataset.shape, dataset.block_shapes[0], strict=True))
        found = []
        for row in range(down):
            for column in range(across):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", of, bidx=1)
                size = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", of, bidx=1)
                found.append(data[int(offset) : int(offset) + int(size)] if offset else b"")
        return found


def assert_kept(source: Path, report: ConvertReport) -> None:
    cog = cog_of(source)
    assert report.kept_blocks
    assert report.max_error is None
    assert blocks(source) == blocks(cog)
    assert cog_validate(cog, strict=True) == (True, [], [])
    assert validate_cog(cog) == []
    with rasterio.open(source) as a, rasterio.open(cog) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        np.testing.assert_array_equal(a.dataset_mask(), b.dataset_mask())
        for fact in ("crs", "transform", "dtypes", "colorinterp", "nodata", "block_shapes", "mask_flag_enums"):
            assert getattr(a, fact) == getattr(b, fact), fact
        for item in ("JPEGTABLES", "COMPRESSION"):
            assert a.get_tag_item(item, "TIFF") == b.get_tag_item(item, "TIFF")
        assert a.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION") == b.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION")
        assert b.overviews(1)
    tags = {258, 259, 262, 277, 284, 322, 323, 338, 347, 529, 530, 531, 532}
    theirs, ours = (tiff.fields(path, tiff.read_layout(path).directories[0], tags) for path in (source, cog))
    assert theirs == ours
    assert 347 in ours


SOURCES = {
    "YCbCr with a quarter of the colours": {},
    "RGB": {"photometric": "RGB"},
    "tiles of 512": {"blockxsize": 512, "blockysize": 512},
    "tiles that are not square": {"blockxsize": 512, "blockysize": 128},
    "BigTIFF": {"bigtiff": "YES"},
    "big-endian": {"endianness": "BIG"},
    "big-endian BigTIFF": {"endianness": "BIG", "bigtiff": "YES"},
    "coarse": {"jpeg_quality": 20},
    "fine": {"jpeg_quality": 100},
}


@pytest.mark.parametrize("options", SOURCES.values(), ids=SOURCES)
def test_the_jpeg_blocks_of_a_source_are_those_of_its_cog(tmp_path, options):
    source = jpeg(tmp_path / "in.tif", **options)
    report = made(source)
    assert_kept(source, report)
    assert (report.kept_blocks, report.warnings) == ("with loss", ())


@pytest.mark.parametrize(("height", "width"), [(513, 100), (767, 1025), (1030, 515), (2049, 300), (1024, 1024)])
@pytest.mark.parametrize("count", [1, 3])
def test_any_size_and_grey_pictures_are_kept(tmp_path, height, width, count):
    source = jpeg(tmp_path / "in.tif", picture(count, height, width))
    report = made(source)
    assert_kept(source, report)
    assert report.kept_blocks == "with loss"
    with rasterio.open(source) as a, rasterio.open(cog_of(source)) as b:
        assert max(b.shape) // b.overviews(1)[-1] <= 512
        small = b.read(out_shape=(count, height // 8, width // 8))
        assert abs(a.read().mean() - small.mean()) < 1


def test_a_small_picture_of_a_tile_or_some_has_no_overviews_and_is_kept(tmp_path):
    source = jpeg(tmp_path / "in.tif", picture(3, 300, 200))
    report = made(source)
    assert report.kept_blocks == "without loss"
    assert blocks(source) == blocks(cog_of(source))
    assert cog_validate(cog_of(source), strict=True)[0]
    assert validate_cog(cog_of(source)) == []


def test_an_alpha_band_and_a_nodata_value_stay_exact_in_overviews_without_loss(tmp_path):
    alpha = np.zeros((1, 700, 900), "uint8")
    alpha[:, 100:, 200:] = 255
    with_alpha = jpeg(tmp_path / "alpha.tif", np.concatenate([picture(), alpha]), photometric="RGB", alpha="YES")
    with_nodata = jpeg(tmp_path / "nodata.tif", picture(), nodata=0)
    for source in (with_alpha, with_nodata):
        report = made(source)
        assert_kept(source, report)
        assert report.kept_blocks == "without loss"
        with rasterio.open(cog_of(source), overview_level=0) as half:
            assert half.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"


def test_three_bands_that_are_no_colours_are_kept(tmp_path):
    source = jpeg(tmp_path / "in.tif", picture(), photometric="MINISBLACK")
    report = made(source)
    assert_kept(source, report)
    assert report.kept_blocks == "without loss"


#: Of GDAL, that each block of a mask follows that of its image.
PROMISE = b"MASK_INTERLEAVED_WITH_IMAGERY=YES"


def ghost(cog: Path) -> bytes:
    """What GDAL writes before the first directory."""
    data = cog.read_bytes()
    return data[8 : 8 + 43 + int(data[8 + 30 : 8 + 36])]


def masked(source: Path, **options) -> Path:
    jpeg(source, picture(3, 1100, 900), **options)
    mask = np.zeros((1100, 900), bool)
    mask[130:, 300:] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(source, "r+") as dataset:
        dataset.write_mask(mask)
    return source


@pytest.mark.parametrize("options", [{}, {"endianness": "BIG"}, {"bigtiff": "YES"}])
def test_a_mask_is_kept_with_the_blocks_that_it_belongs_to(tmp_path, options):
    source = masked(tmp_path / "in.tif", **options)
    report = made(source)
    assert_kept(source, report)
    assert PROMISE in cog_of(source).read_bytes()[:300]
    layout = tiff.read_layout(cog_of(source))
    image, mask = layout.directories[:2]
    assert mask.mask
    assert (mask.offsets == image.offsets + image.counts + np.uint64(8)).all()
    assert 30 < report.bands[0].valid_percent < 60
    with rasterio.open(cog_of(source), overview_level=0) as half:
        assert half.dataset_mask()[60, 160] == 0
        assert half.dataset_mask()[300, 300] == 255


def test_a_small_picture_with_a_mask_keeps_both(tmp_path):
    source = jpeg(tmp_path / "in.tif", picture(3, 300, 200))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(source, "r+") as dataset:
        dataset.write_mask(np.eye(300, 200, dtype=bool))
    assert made(source).kept_blocks
    assert blocks(source) == blocks(cog_of(source))
    assert validate_cog(cog_of(source)) == []
    rasterio.shutil.copy(source, tmp_path / "gdal.tif", driver="COG", compress="jpeg")
    assert PROMISE in cog_of(source).read_bytes()[:300]
    assert ghost(cog_of(source)) == ghost(tmp_path / "gdal.tif")


def test_blocks_that_are_not_stored_are_not_stored_in_the_cog(tmp_path):
    source = jpeg(tmp_path / "whole.tif").with_name("in.tif")
    with rasterio.open(source.with_name("whole.tif")) as whole:
        profile = {**whole.profile, "sparse_ok": True, **YCBCR}
    with rasterio.open(source, "w", **profile) as dataset:
        dataset.write(picture()[:, :256, :256], window=Window(256, 256, 256, 256))
    report = made(source)
    assert_kept(source, report)
    assert blocks(source).count(b"") == 11


def test_a_given_crs_and_ground_control_points_change_the_header_alone(tmp_path):
    bare = jpeg(tmp_path / "bare.tif", crs=None)
    report = made(bare, source_crs="EPSG:25833")
    assert (report.epsg, blocks(cog_of(bare))) == (25833, blocks(bare))
    other = made(jpeg(tmp_path / "other.tif"), source_crs="EPSG:25833", override_crs=True)
    assert (other.epsg, bool(other.kept_blocks)) == (25833, True)
    points = [rasterio.control.GroundControlPoint(r, c, 5e5 + c, 4e6 - r) for r, c in ((0, 0), (700, 0), (0, 900))]
    tied = jpeg(tmp_path / "tied.tif", crs=None, transform=None)
    with rasterio.open(tied, "r+") as dataset:
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(32618))
    assert made(tied).kept_blocks
    assert blocks(tied) == blocks(cog_of(tied))
    with rasterio.open(cog_of(tied)) as dataset:
        assert [(p.row, p.col) for p in dataset.gcps[0]] == [(p.row, p.col) for p in points]


def test_metadata_of_the_source_and_its_bands_is_carried_over(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(FLIGHT="3 < 4 & 'so'")
        dataset.update_tags(2, LENS="green")
        dataset.descriptions = ("a", "b", "c")
    assert made(source).warnings == ()
    with rasterio.open(cog_of(source)) as cog:
        assert cog.tags()["FLIGHT"] == "3 < 4 & 'so'"
        assert cog.tags(2)["LENS"] == "green"
        assert cog.descriptions == ("a", "b", "c")


def test_the_cog_is_small_and_another_program_reads_its_overviews(tmp_path):
    source = jpeg(tmp_path / "in.tif", landscape(2100, 2300), jpeg_quality=85)
    report = made(source)
    assert report.kept_blocks == "with loss"
    assert report.bytes < 1.6 * source.stat().st_size
    assert made(source, keep_lossy=False).bytes > 3 * report.bytes
    rasterio.shutil.copy(source, tmp_path / "gdal.tif", driver="COG", compress="deflate", overview_resampling="average")
    made(source)
    for level in range(2):
        with (
            rasterio.open(tmp_path / "gdal.tif", overview_level=level) as theirs,
            rasterio.open(cog_of(source), overview_level=level) as ours,
        ):
            assert 10 * np.log10(255**2 / ((theirs.read().astype(float) - ours.read()) ** 2).mean()) > 32


def test_overviews_of_noise_are_near_enough_or_without_loss(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 700, 900)).astype("uint8")
    source = jpeg(tmp_path / "in.tif", noise, jpeg_quality=95)
    report = made(source)
    assert_kept(source, report)
    with rasterio.open(source) as full, rasterio.open(cog_of(source), overview_level=0) as half:
        averages = full.read().reshape(3, 350, 2, 450, 2).mean((2, 4))
        assert 10 * np.log10(255**2 / ((averages - half.read()) ** 2).mean()) > 32


def test_the_cog_is_the_same_byte_for_byte_whatever_the_number_of_threads(tmp_path):
    source = masked(tmp_path / "in.tif")
    first = made(source, threads=1).sha256
    assert {made(source, threads=4).sha256 for _ in range(3)} == {first}


@pytest.mark.parametrize("make", [jpeg, masked])
def test_a_cog_beyond_the_bytes_of_a_classic_tiff_is_a_bigtiff(tmp_path, monkeypatch, make):
    monkeypatch.setattr(cogfile, "_CLASSIC_BYTES", 10_000)
    source = make(tmp_path / "in.tif")
    report = made(source)
    assert cog_of(source).read_bytes()[2] == 43
    assert_kept(source, report)


def planes(source: Path) -> Path:
    return jpeg(source, photometric="RGB", interleave="band")


def stripped(source: Path) -> Path:
    return jpeg(source, tiled=False, blockysize=16)


def beside(source: Path) -> Path:
    jpeg(source)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(source, "r+") as dataset:
        dataset.write_mask(np.tri(700, 900) > 0)
    return source


def domains(source: Path) -> Path:
    jpeg(source)
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(ns="FLIGHT", number="7")
    return source


def codes(source: Path) -> Path:
    classes = np.zeros((1, 700, 900), "uint8")
    classes[:, ::2] = 200
    return jpeg(source, classes, jpeg_quality=100)


UNSUITED = {
    "each band has blocks of its own": planes,
    "they are strips, where a COG has tiles": stripped,
    "its mask is in a file beside it": beside,
    "it has metadata of domains": domains,
    "its numbers are codes": codes,
    "tiles of 64 x 64 pixels": lambda source: jpeg(source, blockxsize=64, blockysize=64),
    "its blocks are not JPEG": lambda source: write(
        source, picture(), tiled=True, compress="webp", webp_lossless=False
    ),
    "which a JPEG file has not": lambda source: write(source, picture(), driver="JPEG"),
}


@pytest.mark.parametrize("why", UNSUITED)
def test_where_the_grid_does_not_allow_it_the_file_is_converted_as_without_and_a_note_says_why(tmp_path, why):
    source = UNSUITED[why](tmp_path / "in.tif")
    kept, bytes_ = made(source), cog_of(source).read_bytes()
    plain = made(source, keep_lossy=False)
    assert bytes_ == cog_of(source).read_bytes()
    assert kept.kept_blocks is None
    (note,) = set(kept.warnings) - set(plain.warnings)
    assert note.startswith("keep_lossy does not keep its blocks: ")
    assert why in note


def test_a_reprojected_file_is_decoded_and_a_note_says_so(tmp_path):
    report = made(jpeg(tmp_path / "in.tif"), target_crs="EPSG:3857")
    assert report.kept_blocks is None
    assert "keep_lossy does not keep its blocks: it is reprojected" in report.warnings


def test_a_source_without_loss_is_converted_without_a_word(tmp_path):
    report = made(write(tmp_path / "in.tif", picture(), photometric="RGB", tiled=True, compress="deflate"))
    assert (report.kept_blocks, report.warnings) == (None, ())


@pytest.mark.parametrize("profile", ["visual", "dem", "analysis"])
def test_blocks_are_kept_whatever_the_profile_is_for_the_other_files(tmp_path, profile):
    source = jpeg(tmp_path / "in.tif")
    report = made(source, profile=profile)
    assert_kept(source, report)
    assert report.warnings == ()


def test_a_good_cog_of_jpeg_is_passed_through_also_one_that_was_made_so(tmp_path):
    rasterio.shutil.copy(jpeg(tmp_path / "in.tif"), tmp_path / "gdal.tif", driver="COG", compress="jpeg")
    made(tmp_path / "in.tif")
    ours = cog_of(tmp_path / "in.tif").rename(tmp_path / "ours.tif")
    for source in (tmp_path / "gdal.tif", ours):
        for keep in (True, False):
            report = made(source, keep_lossy=keep)
            assert report.passed_through
            assert cog_of(source).read_bytes() == source.read_bytes()


def test_the_note_of_a_file_that_grows_names_keep_lossy_where_it_would_keep_the_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "LARGE", 100_000)
    suited = jpeg(tmp_path / "in.tif", landscape(700, 900), jpeg_quality=30)
    unsuited = jpeg(tmp_path / "strips.tif", landscape(700, 900), jpeg_quality=30, tiled=False, blockysize=16)
    assert any("compressed with loss" in warning for warning in made(unsuited, keep_lossy=False).warnings)
    assert any("keep_lossy keeps its JPEG blocks" in warning for warning in made(suited, keep_lossy=False).warnings)
    assert not any("keep_lossy keeps" in warning for warning in made(unsuited, keep_lossy=False).warnings)
    assert not any("compressed with loss" in warning for warning in made(suited).warnings)


def test_the_stamp_is_of_bytes_not_of_pixels_which_another_decoder_may_round_otherwise(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(GEO_ASSETS_PIXELS_SHA256="1" * 64)  # of what it was made from
    made(source)
    with rasterio.open(cog_of(source)) as cog:
        assert {item for item in cog.tags() if item.startswith("GEO_ASSETS")} == {
            "GEO_ASSETS_BLOCKS_SHA256",
            "GEO_ASSETS_SEAL_SHA256",
        }
    assert validate(ValidateRequest(source=str(cog_of(source)))).stamped
    again = made(cog_of(source).rename(tmp_path / "kept.tif"), keep_lossy=False, profile="web")
    assert not again.passed_through
    with rasterio.open(cog_of(source)) as cog:
        assert "GEO_ASSETS_BLOCKS_SHA256" not in cog.tags()
    assert validate_cog(cog_of(source)) == []


def test_a_flipped_bit_is_found_by_the_stamp(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    made(source)
    cog = cog_of(source)
    whole = cog.read_bytes()
    for number in range(20):
        cog.write_bytes(flipped(whole, np.random.default_rng(number), 1, len(whole) // 2, len(whole)))
        assert validate_cog(cog)
        cog.write_bytes(flipped(whole, np.random.default_rng(number), 1, 300, 2000))
        assert validate_cog(cog)


def outcome(source: Path, **request) -> str:
    cog_of(source).unlink(missing_ok=True)
    try:
        made(source, **request)
    except GeoAssetsError as error:
        assert not cog_of(source).exists()
        return error.code
    with rasterio.open(source) as a, rasterio.open(cog_of(source)) as b:
        np.testing.assert_array_equal(a.read(), b.read())
    assert validate_cog(cog_of(source)) == []
    return "CONVERTED"


def entry(source: Path, tag: int) -> int:
    """Where the entry of a field is in the main directory of a classic little-endian file."""
    data = source.read_bytes()
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    return next(at for n in range(entries) if data[(at := first + 2 + 12 * n) : at + 2] == struct.pack("<H", tag))


def patched(source: Path, table: int, values: list[int]) -> None:
    """Overwrite the first values of a table of offsets or counts."""
    data = bytearray(source.read_bytes())
    (at,) = struct.unpack_from("<I", data, entry(source, table) + 8)
    kind = {3: "H", 4: "I"}[struct.unpack_from("<H", data, entry(source, table) + 2)[0]]
    struct.pack_into(f"<{len(values)}{kind}", data, at, *values)
    source.write_bytes(data)


OFFSETS, COUNTS, TILE_WIDTH, TABLES, REFERENCE = 324, 325, 322, 347, 532


def test_a_file_that_is_cut_off_or_whose_blocks_are_beyond_its_end_is_unreadable(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    whole = source.read_bytes()
    for part in (0.3, 0.7, 0.99):
        source.write_bytes(whole[: int(part * len(whole))])
        assert outcome(source) == "UNREADABLE"
    source.write_bytes(whole)
    patched(source, OFFSETS, [2**31])
    assert outcome(source) == "UNREADABLE"


def test_a_broken_block_is_unreadable_as_without(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    layout = tiff.read_layout(source).directories[0]
    whole = source.read_bytes()
    start, length = int(layout.offsets[5]), int(layout.counts[5])
    for damage in (bytes(length), whole[start : start + length // 2] + bytes(length - length // 2)):
        source.write_bytes(whole[:start] + damage + whole[start + length :])
        assert outcome(source) == outcome(source, keep_lossy=False) == "UNREADABLE"


def test_tables_that_lie_have_the_same_outcome_as_without(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    whole = source.read_bytes()
    (offsets, counts) = (getattr(tiff.read_layout(source).directories[0], name) for name in ("offsets", "counts"))
    same_block = [int(offsets[0])] * len(offsets)
    lies = {
        "one block for all": lambda: (
            patched(source, OFFSETS, same_block),
            patched(source, COUNTS, [int(counts[0])] * 12),
        ),
        "overlapping": lambda: patched(source, COUNTS, [int(counts[0]) + 50]),
        "sparse": lambda: patched(source, COUNTS, [0]),
        "nowhere": lambda: patched(source, OFFSETS, [0]),
        "too short": lambda: patched(source, COUNTS, [3]),
        "other tables": lambda: source.write_bytes(
            flipped(whole, np.random.default_rng(1), 30, at := whole.index(b"\xff\xd8\xff\xdb"), at + 500)
        ),
    }
    for lie, tell in lies.items():
        source.write_bytes(whole)
        tell()
        assert outcome(source) == outcome(source, keep_lossy=False), lie


def test_a_field_that_says_it_is_huge_is_not_copied(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    data = bytearray(source.read_bytes()) + bytes(1 << 20)
    struct.pack_into("<I", data, entry(source, REFERENCE) + 4, 100_000)
    source.write_bytes(data)
    assert outcome(source) == outcome(source, keep_lossy=False)
    layout = tiff.read_layout(source)
    with pytest.raises(tiff.LayoutError):
        tiff.fields(source, layout.directories[0], {REFERENCE})


def test_the_same_bytes_for_many_blocks_do_not_grow_into_a_huge_file(tmp_path):
    source = jpeg(tmp_path / "in.tif")
    layout = tiff.read_layout(source).directories[0]
    patched(source, OFFSETS, [int(layout.offsets[0])] * 12)
    patched(source, COUNTS, [int(layout.counts[0])] * 12)
    source.write_bytes(source.read_bytes()[: int(layout.offsets[0] + layout.counts[0])])
    report = made(source)
    assert report.kept_blocks is None
    assert any("its tables are odd" in warning for warning in report.warnings)


@pytest.mark.parametrize("value", [0, 17, 4096])
def test_a_tile_size_that_is_none_has_the_same_outcome_as_without(tmp_path, value):
    source = jpeg(tmp_path / "in.tif")
    at = entry(source, TILE_WIDTH)
    data = bytearray(source.read_bytes())
    struct.pack_into("<H", data, at + 8, value)
    source.write_bytes(data)
    assert outcome(source) == outcome(source, keep_lossy=False)


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bits_anywhere_have_the_same_outcome_as_without(tmp_path, seed):
    source = jpeg(tmp_path / "in.tif", picture(3, 530, 600))
    whole, rng = source.read_bytes(), np.random.default_rng(seed)
    end = 900 if seed % 2 else len(whole)
    source.write_bytes(flipped(whole, rng, 2, 0, end))
    assert outcome(source) == outcome(source, keep_lossy=False)


def test_colours_are_interpreted_as_in_the_source(tmp_path):
    source = jpeg(tmp_path / "in.tif", picture(), photometric="RGB")
    with rasterio.open(source, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    outcome(source)
    with rasterio.open(source) as a, rasterio.open(cog_of(source)) as b:
        assert a.colorinterp == b.colorinterp
