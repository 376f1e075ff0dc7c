"""GDAL decodes each block of a raster once while it is read in strips, and keeps no more than that takes."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.windows import Window

from geo_assets.raster import gdal_cache
from geo_assets.raster.validate import level_hashes

ROWS = 512

LAYOUTS = {
    "rows": {"count": 3, "interleave": "pixel", "blockysize": 1},
    "strips that reach into the next rows": {"count": 3, "interleave": "pixel", "blockysize": 1000},
    "strips of one band each": {"count": 3, "interleave": "band", "blockysize": 1000},
    "low strips of one band each": {"count": 8, "interleave": "band", "blockysize": 260},
    "tiles": {"count": 3, "interleave": "pixel", "tiled": True, "blockxsize": 512, "blockysize": 512},
    "tiles that reach into the next rows": {
        "count": 3, "interleave": "pixel", "tiled": True, "blockxsize": 768, "blockysize": 768
    },
    "tiles of 16 bands": {"count": 16, "interleave": "pixel", "tiled": True, "blockxsize": 1024, "blockysize": 512},
}  # fmt: skip


def made(path: Path, layout: dict[str, object], side: int = 2100) -> Path:
    """A raster of so many pixels a side that does not compress well, so that bytes read tell of blocks decoded."""
    pixels = np.random.default_rng(5).integers(0, 60_000, (side, side), dtype=np.uint16)
    profile = {"driver": "GTiff", "dtype": "uint16", "width": side, "height": side, "compress": "LZW", **layout}
    with rasterio.open(path, "w", **profile) as dataset:
        for band in dataset.indexes:
            dataset.write(pixels, band)
    return path


def bytes_read() -> int:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_each_block_is_read_once(tmp_path: Path, layout: dict[str, object]) -> None:
    source = made(tmp_path / "source.tif", layout)
    with rasterio.open(source) as dataset, gdal_cache.for_reading(dataset, ROWS):
        before = bytes_read()
        for top in range(0, dataset.height, ROWS):
            dataset.read(window=Window(0, top, dataset.width, min(ROWS, dataset.height - top)))
        assert bytes_read() - before < 1.1 * source.stat().st_size


@pytest.mark.parametrize(
    ("bands", "interleave", "threads"),
    [(100, "pixel", 1), (3, "pixel", 1), (3, "pixel", 2), (3, "band", 1), (3, "band", 2)],
)
def test_a_level_that_is_hashed_is_read_once(tmp_path: Path, bands: int, interleave: str, threads: int) -> None:
    tiles = {"count": bands, "tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": interleave}
    source = made(tmp_path / "source.tif", tiles, side=1100)
    before = bytes_read()
    level_hashes(source, threads)
    assert bytes_read() - before < 1.1 * source.stat().st_size


def test_the_size_is_that_of_before_when_the_reading_ends_or_fails(tmp_path: Path) -> None:
    source = made(tmp_path / "source.tif", LAYOUTS["tiles"])
    before = get_gdal_config("GDAL_CACHEMAX")
    with rasterio.open(source) as dataset:
        with gdal_cache.for_reading(dataset, ROWS):
            assert get_gdal_config("GDAL_CACHEMAX") == 8 << 20
        with pytest.raises(OSError, match="gone"), gdal_cache.for_reading(dataset, ROWS):
            raise OSError("the file is gone")
    assert get_gdal_config("GDAL_CACHEMAX") == before


def test_it_is_never_made_larger(tmp_path: Path) -> None:
    source = made(tmp_path / "source.tif", LAYOUTS["tiles of 16 bands"])
    before = get_gdal_config("GDAL_CACHEMAX")
    set_gdal_config("GDAL_CACHEMAX", 10 << 20)
    try:
        with rasterio.open(source) as dataset, gdal_cache.for_reading(dataset, ROWS):
            assert get_gdal_config("GDAL_CACHEMAX") == 10 << 20
    finally:
        set_gdal_config("GDAL_CACHEMAX", before)
