"""What overviews show of numbers that leave little room for arithmetic."""

import numpy as np
import pytest
import rasterio

from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_onepass import one_pass


@pytest.mark.parametrize("side", [1024, 1023])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_averages_of_the_largest_numbers_are_numbers(tmp_path, dtype, side):
    """The sum of four of them is none; Esri's value for nothing is the smallest float, often not declared."""
    least = np.finfo(dtype).min
    pixels = np.full((1, side, side), least, dtype)
    pixels[:, :, :200] = 1
    cog = one_pass(write(tmp_path / "in.tif", pixels))
    with rasterio.open(cog, overview_level=0) as dataset:
        level = dataset.read(1)
    assert np.isfinite(level).all()
    assert (level[:, :100] == 1).all()
    assert np.allclose(level[:, 101:], least, rtol=1e-12)
