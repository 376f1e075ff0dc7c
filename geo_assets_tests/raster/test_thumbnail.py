"""How bright a thumbnail is: the darkest and brightest two percent of the pixels that are shown become black and white."""

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.raster.thumbnail import _as_png, _percentiles_of_bytes
from geo_assets_tests.raster.test_cog import write


@given(st.binary(min_size=1, max_size=300))
def test_percentiles_of_bytes_are_those_of_numpy_to_the_last_digit(data):
    values = np.frombuffer(data, np.uint8)
    assert _percentiles_of_bytes(values) == tuple(np.percentile(values, (2.0, 98.0)).tolist())


def test_a_dark_picture_with_some_very_bright_pixels_is_shown_bright(tmp_path):
    pixels = np.random.default_rng(0).integers(10, 31, (3, 200, 200)).astype(np.uint8)
    pixels[:, :2] = 255  # one percent
    write(tmp_path / "dark.tif", pixels, photometric="RGB")
    thumbnail = tmp_path / "out.png"
    convert(
        ConvertRequest(
            source=str(tmp_path / "dark.tif"), destination=str(tmp_path / "out.tif"), thumbnail=str(thumbnail)
        )
    )
    with rasterio.open(thumbnail) as png:
        shown = png.read([1, 2, 3])
    assert (shown.min(), shown.max()) == (0, 255)
    assert 100 < np.median(shown) < 155


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 256), (256, 1), (31, 17), (256, 256)])
def test_gdal_reads_the_pixels_that_were_put_into_a_png(tmp_path, height, width):
    pixels = np.random.default_rng(height).integers(0, 256, (4, height, width)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(_as_png(pixels))
    with rasterio.open(tmp_path / "a.png") as png:
        assert png.driver == "PNG"
        assert [colour.name for colour in png.colorinterp] == ["red", "green", "blue", "alpha"]
        assert np.array_equal(png.read(), pixels)
