"""A COG is passed through if its overviews show its own pixels, whatever they were made by, and made anew if not."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling

from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field, made

HEIGHT, WIDTH = 1101, 1233


def cog(folder, before: np.ndarray, method: str = "average", factors=(2, 4), after=None, **profile):
    """A COG of GDAL's whose overviews are of `before`, and whose pixels are `after`."""
    path = write(folder / "plain.tif", before, tiled=True, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews(factors, Resampling[method])
        if after is not None:
            dataset.write(after)  # GDAL leaves the overviews as they were
    (folder / "in").mkdir()
    source = folder / "in" / "cog.tif"
    rasterio.shutil.copy(path, source, driver="COG", compress="deflate", overviews="FORCE_USE_EXISTING")
    return source


def of_bytes(count: int = 3) -> np.ndarray:
    return (field(count, HEIGHT, WIDTH) * 199).astype("uint8")


def changed_in_the_last_band() -> tuple[np.ndarray, np.ndarray, dict]:
    before = of_bytes()
    return before, np.concatenate([before[:2], 255 - before[2:] // 2]), {"photometric": "RGB"}


def hole(value: int, nodata: int | None = None) -> tuple[np.ndarray, np.ndarray, dict]:
    before = of_bytes() // 2 + 100
    after = before.copy()
    after[:, 300:800, 300:800] = value
    return before, after, {"nodata": nodata}


def moved() -> tuple[np.ndarray, np.ndarray, dict]:
    before = field(1, HEIGHT, WIDTH).astype("float32")  # of one unit: what is off by less than 1 counts
    return before, np.roll(before, 250, axis=2), {}


STALE = {
    "last band": changed_in_the_last_band,
    "hole": lambda: hole(0),
    "hole without data": lambda: hole(0, nodata=0),
    "moved": moved,
}


@pytest.mark.parametrize("name", STALE)
@pytest.mark.parametrize("method", ["average", "nearest", "cubic"])
def test_overviews_of_other_pixels_are_made_anew(tmp_path, name, method):
    before, after, profile = STALE[name]()
    source = cog(tmp_path, before, method, after=after, **profile)
    report = made(source)
    assert not report.passed_through
    with rasterio.open(source) as full, rasterio.open(source.with_name("out.tif"), overview_level=0) as half:
        assert np.array_equal(full.read(), after)
        assert abs(half.read(masked=True).mean() - full.read(masked=True).mean()) < 0.01 * np.ptp(after)
        here, there = half.read()[:, 200:350, 200:350].mean(), after[:, 400:700, 400:700].mean()
        assert abs(here - there) <= 0.02 * np.ptp(after)


def squares(side: int, values, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(0)
    picked = rng.choice(values, (1, -(-HEIGHT // side), -(-WIDTH // side)))
    return np.kron(picked, np.ones((1, side, side), int))[:, :HEIGHT, :WIDTH].astype(dtype)


def every(step: int) -> np.ndarray:
    return ((np.indices((HEIGHT, WIDTH)) % step == 0).all(axis=0) * 255).astype("uint8")[None]


def where(part: float, values: np.ndarray, nodata: float) -> np.ndarray:
    return np.where(np.random.default_rng(1).random(values.shape) < part, nodata, values).astype(values.dtype)


HONEST = {
    "picture": lambda: (of_bytes(), {"photometric": "RGB"}),
    "noise": lambda: (squares(1, range(256)), {}),
    "every second pixel": lambda: (every(2), {}),
    "every third pixel": lambda: (every(3), {}),
    "halftone": lambda: ((field(1, HEIGHT, WIDTH) > squares(1, range(100)) / 100).astype("uint8") * 255, {}),
    "codes": lambda: (squares(13, [1, 7, 40, 200]), {}),
    "codes beside nothing": lambda: (squares(5, [0, 7, 40, 200]), {"nodata": 0}),
    "an edge": lambda: (np.broadcast_to(np.arange(WIDTH) > 616, (1, HEIGHT, WIDTH)).astype("uint8") * 255, {}),
    "heights": lambda: ((field(1, HEIGHT, WIDTH) * 800).astype("float32"), {}),
    "heights with holes": lambda: (where(0.3, (field(1, HEIGHT, WIDTH) * 800).astype("float32"), -1), {"nodata": -1}),
    "hardly anything": lambda: (where(0.99, of_bytes(1) // 8 + 200, 0), {"nodata": 0}),
    "one value": lambda: (np.full((1, HEIGHT, WIDTH), 273.15, "float32"), {}),
    "large numbers": lambda: (1e7 + field(1, HEIGHT, WIDTH), {}),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("method", ["nearest", "average", "lanczos", "mode"])
def test_overviews_of_its_own_pixels_are_passed_through_whatever_made_them(tmp_path, name, method):
    pixels, profile = HONEST[name]()
    assert made(cog(tmp_path, pixels, method, **profile)).passed_through


@pytest.mark.parametrize("factors", [(4,), (3,), (2, 8)])
def test_overviews_of_other_factors_are_passed_through(tmp_path, factors):
    assert made(cog(tmp_path, of_bytes(), factors=factors, photometric="RGB")).passed_through


@pytest.mark.parametrize("by", ["us", "GDAL"])
@pytest.mark.parametrize("validity", ["mask", "alpha", "both"])
def test_overviews_of_what_is_partly_hidden_are_passed_through(tmp_path, validity, by):
    shown = field(1, HEIGHT, WIDTH)[0] > 0.4
    pixels = of_bytes(4)
    if validity != "mask":
        pixels[3] = np.where(shown, 255, 0)
    source = write(tmp_path / "in.tif", pixels[: 3 if validity == "mask" else 4], photometric="RGB")
    if validity != "alpha":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(source, "r+") as dataset:
            dataset.write_mask(shown)
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / "cog.tif"
    if by == "us":
        made(source)
        (tmp_path / "out.tif").rename(again)
    else:
        rasterio.shutil.copy(source, again, driver="COG", compress="deflate")
    assert made(again).passed_through
