"""Pictures that are more than one raster of colours: animations, palettes that are transparent in part."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets_tests.raster.hostile import encoded, png

SIDE = 20


@pytest.fixture
def made(tmp_path):
    """Converts a picture, given as bytes."""

    def make(name: str, content: bytes) -> ConvertReport:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).with_suffix(".wld").write_text("10\n0\n0\n-10\n500005\n3999995\n")
        options = {"source_crs": "EPSG:32618", "destination": str(tmp_path / "out.tif")}
        return convert(ConvertRequest(source=str(tmp_path / name), **options))

    return make


def refused(make, name: str, content: bytes) -> GeoAssetsError:
    with pytest.raises(GeoAssetsError) as caught:
        make(name, content)
    return caught.value


def gif(*transparent: int | None) -> bytes:
    """Frames of one pixel each, with or without a transparent colour."""
    frames = b""
    for colour in transparent:
        flags = 0 if colour is None else 1
        frames += b"\x21\xf9\x04" + bytes([flags, 0, 0, colour or 0, 0])
        frames += b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes([0, 0, 0, 255, 255, 255]) + frames + b";"


@pytest.mark.parametrize("transparent", [(None, None), (None, 0, 0), (0, 0)])
def test_a_gif_of_several_frames_is_told_that_it_is_an_animation(made, transparent):
    error = refused(made, "in.gif", gif(*transparent))
    assert (error.code, "animation" in error.message) == ("RASTER_UNSUPPORTED", True)
    assert "frame" in error.remedy
    assert made("in.gif", gif(transparent[0])).count == 1


def test_a_webp_of_several_frames_is_told_that_it_is_an_animation(made):
    still = encoded("WEBP", lossless="YES")
    head = b"VP8X" + struct.pack("<IB3x", 10, 0x02) + bytes([31, 0, 0, 31, 0, 0])
    frame = bytes(6) + bytes([31, 0, 0, 31, 0, 0, 100, 0, 0, 0]) + still[12:]
    frames = 2 * (b"ANMF" + struct.pack("<I", len(frame)) + frame)
    body = b"WEBP" + head + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frames
    error = refused(made, "in.webp", b"RIFF" + struct.pack("<I", len(body)) + body)
    assert (error.code, "animation" in error.message) == ("RASTER_UNSUPPORTED", True)


def rows(values: np.ndarray) -> bytes:
    """The data of a PNG without filters."""
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))


def test_of_an_animated_png_a_note_says_that_it_is_its_first_picture(made):
    values = np.arange(SIDE**2, dtype="uint8").reshape(SIDE, SIDE)
    frames = (b"acTL", struct.pack(">II", 2, 0))
    said = made("in.png", png(SIDE, SIDE, rows(values), colour=0, chunks=(frames,))).warnings
    assert [note for note in said if "animation" in note] == [said[0]]
    assert not made("in.png", png(SIDE, SIDE, rows(values), colour=0)).warnings


def paletted(alphas: dict[int, int]) -> bytes:
    """A PNG with a palette of ten colours, with these alphas."""
    values = (np.arange(SIDE**2, dtype="uint8") % 10).reshape(SIDE, SIDE)
    colours = b"".join(bytes([25 * n, 255 - n, 10]) for n in range(10))
    transparency = bytes(alphas.get(n, 255) for n in range(10))
    return png(SIDE, SIDE, rows(values), colour=3, chunks=((b"PLTE", colours), (b"tRNS", transparency)))


@pytest.mark.parametrize("alphas", [{2: 0, 5: 0}, {2: 128}, {2: 0, 5: 128}, {n: 25 * n for n in range(10)}])
def test_a_palette_with_transparency_that_a_tiff_cannot_hold_is_refused_with_what_expands_it(made, alphas):
    error = refused(made, "in.png", paletted(alphas))
    assert (error.code, "-expand rgba" in error.remedy) == ("RASTER_UNSUPPORTED", True)


def test_a_palette_with_one_transparent_colour_has_it_as_nodata(made, tmp_path: Path):
    report = made("in.png", paletted({7: 0}))
    assert report.nodata == 7
    with rasterio.open(tmp_path / "out.tif") as cog:
        assert cog.colormap(1)[3] == (75, 252, 10, 255)
