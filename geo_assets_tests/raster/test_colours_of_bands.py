"""What the bands of a raster are, grey, colour, alpha or palette: kept where a TIFF can say it, else told or refused."""

import re

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets_tests.raster.test_cog import write

#: Drivers by which a source can say it, in the file or in an `.aux.xml` beside it.
DRIVERS = {
    "GTiff": ("in.tif", {}),
    "HFA": ("in.img", {}),
    "ENVI": ("in.dat", {}),
    "JP2OpenJPEG": ("in.jp2", {"REVERSIBLE": "YES", "QUALITY": "100"}),
}
TABLE = "<ColorTable>" + "".join(f'<Entry c1="{20 * v}" c2="1" c3="2" c4="255"/>' for v in range(9)) + "</ColorTable>"


def with_colours(folder, driver: str, dtype: str, colours: list[str]):
    """A raster whose bands are said to be these, and what GDAL reads of it."""
    pixels = np.random.default_rng(0).integers(0, 9, (len(colours), 20, 30)).astype(dtype)
    rasterio.shutil.copy(write(folder / "plain.tif", pixels, photometric="MINISBLACK"), folder / "v.vrt", driver="VRT")
    said = iter(colours)

    def band(found: re.Match[str]) -> str:
        colour = next(said)
        return f"{found[0]}<ColorInterp>{colour.title()}</ColorInterp>{TABLE if colour == 'palette' else ''}"

    text = re.sub(r"\s*<ColorInterp>.*?</ColorInterp>", "", (folder / "v.vrt").read_text())
    (folder / "v.vrt").write_text(re.sub(r"<VRTRasterBand [^>]*>", band, text))
    name, options = DRIVERS[driver]
    rasterio.shutil.copy(folder / "v.vrt", folder / name, driver=driver, **options)
    with rasterio.open(folder / name) as dataset:
        return folder / name, [colour.name for colour in dataset.colorinterp]


@pytest.mark.parametrize("profile", ["web", "archive"])  # by our writer, by GDAL's driver
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "colours",
    [["gray", "gray"], ["undefined", "gray"], ["gray", "gray", "gray"], ["gray", "alpha", "gray"], ["red", "green"]],
    ids=" ".join,
)
def test_bands_of_grey_are_converted_whatever_their_number(tmp_path, colours, driver, dtype, profile):
    source, said = with_colours(tmp_path, driver, dtype, colours)
    convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif"), profile=profile))
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as cog:
        assert np.array_equal(cog.read(), before.read())
        kept = [colour.name for colour in cog.colorinterp]
    told = {"gray", "undefined"}  # which are one for all that reads them
    assert [{colour} - told for colour in kept] == [{colour} - told for colour in said]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("driver", ["GTiff", "HFA"])
@pytest.mark.parametrize("colours", [["palette", "gray"], ["palette", "palette"], ["gray", "palette"]], ids=" ".join)
def test_a_table_of_colours_for_one_of_several_bands_is_refused_with_what_to_do(tmp_path, colours, driver, dtype):
    source, said = with_colours(tmp_path, driver, dtype, colours)
    with pytest.raises(GeoAssetsError) as caught:
        convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif")))
    assert caught.value.code == "RASTER_UNSUPPORTED"
    numbers = ", ".join(str(n) for n, colour in enumerate(said, 1) if colour == "palette")
    assert f"2 bands, and a table of colours for that of number {numbers}" in caught.value.message
    assert "gdal_translate -b 1" in (caught.value.remedy or "")


@pytest.mark.parametrize("profile", ["web", "archive"])
def test_a_table_of_colours_beside_alpha_is_kept(tmp_path, profile):
    source, said = with_colours(tmp_path, "GTiff", "uint8", ["palette", "alpha"])
    assert said == ["palette", "alpha"]
    convert(ConvertRequest(source=str(source), destination=str(tmp_path / "out.tif"), profile=profile))
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as cog:
        assert [colour.name for colour in cog.colorinterp] == said
        assert {v: cog.colormap(1)[v] for v in range(9)} == {v: before.colormap(1)[v] for v in range(9)}
        assert np.array_equal(cog.read(), before.read())
