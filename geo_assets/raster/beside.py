"""Files beside a raster that describe its format or place: `.prj`, world files, the `.hdr` of raw pixels. We read them
ourselves where GDAL does not.

Here: finding and reading these small texts. Not here: which file belongs to which (`storage/sources.py`), the metadata
of products (`product.py`), opening the raster (`inspect.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyproj
import pyproj.exceptions
from affine import Affine
from rasterio.crs import CRS

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal
from geo_assets.text import utf_16_of

#: Most bytes of such a text; an ENVI header may list the wavelengths of some hundred bands.
LONGEST = 1 << 20

#: How the WKT of a CRS on the Earth begins.
_WKT = re.compile(
    r"\s*(PROJCS|GEOGCS|COMPD_CS|PROJCRS|PROJECTEDCRS|GEOGCRS|GEOGRAPHICCRS|GEODCRS|COMPOUNDCRS)\s*\[", re.IGNORECASE
)

#: What makes PROJ look for a file or a network.
_FAR = re.compile(r"EXTENSION\s*\[|nadgrids|geoidgrids|PARAMETERFILE|\+proj|@|://", re.IGNORECASE)

#: Endings of files of raw pixels, which a `.hdr` describes.
RAW = frozenset({".bil", ".bip", ".bsq", ".flt", ".img", ".dat", ".raw", ".bin", ""})

#: Keywords by which an ESRI header is recognised.
_EHDR = re.compile(
    r"^\s*(nrows|ncols|layout|byteorder|nbands|nbits|xllcorner|xllcenter|ulxmap)\s+\S", re.IGNORECASE | re.MULTILINE
)

#: Keywords of an ESRI header that say how the bytes of rows and bands follow each other.
_ROW_LAYOUT = re.compile(r"^\s*(layout|bandrowbytes|totalrowbytes|bandgapbytes)\s+(\S+)", re.MULTILINE)

_WORLD = (
    ".wld",
    ".tfw",
    ".tifw",
    ".pgw",
    ".pngw",
    ".jgw",
    ".jpgw",
    ".jpegw",
    ".gfw",
    ".gifw",
    ".bpw",
    ".bmpw",
    ".wpw",
    ".webpw",
    ".wbw",
)


def crs_beside(path: Path) -> tuple[CRS | None, str | None]:
    """Return the CRS of the `.prj` beside a file, and a note about it; (None, None) without one.

    Only a plain CRS definition is accepted; one that names grids, files or pipelines is not.
    """
    found = _beside(path, (".prj",))
    if found is None:
        return None, None
    text = _text(found)
    if not _WKT.match(text) or _FAR.search(text):
        return None, f"{found.name} is not used: it holds no WKT of a CRS"
    try:
        crs, shown = _understood(text)
    except (*gdal.GDAL_ERRORS, pyproj.exceptions.CRSError, ValueError):
        return None, f"{found.name} is not used: PROJ does not understand it"
    return crs, f"its CRS is that of {found.name}: {shown}"


@lru_cache(maxsize=64)
def _understood(text: str) -> tuple[CRS, str]:
    """Return the CRS that a .prj defines, and what it is called; to look for its code takes 40 ms, and the files of a
    delivery have few of them.
    """
    read = pyproj.CRS.from_wkt(text)  # not by GDAL: its complaint would be taken for one of the raster
    code = read.to_epsg()
    crs = CRS.from_epsg(code) if code else CRS.from_wkt(read.to_wkt())
    return crs, crs.to_string()[:60]


def world_beside(path: Path) -> Affine | None:
    """Return the transform of the world file beside a file."""
    found = _beside(path, _WORLD)
    if found is None:
        return None
    try:
        a, d, b, e, x, y = (float(word.replace(",", ".")) for word in _text(found).split()[:6])
    except ValueError:
        return None
    transform = Affine(a, b, x - (a + b) / 2, d, e, y - (d + e) / 2)  # it places the centre of the first pixel
    return transform if all(map(math.isfinite, (a, b, d, e, x, y))) and transform.determinant else None


def raw_driver(path: Path) -> str | None:
    """Return ENVI or EHdr where a `.hdr` beside a file of raw pixels says so; None for all others.

    Raises:
        GeoAssetsError: UNSUPPORTED_FORMAT, its pixels are compressed.
    """
    if path.suffix.lower() not in RAW or (header := _header(path)) is None:
        return None
    text = _text(header)
    if text.lstrip().upper().startswith("ENVI"):
        if re.search(r"file\s+compression\s*=\s*[1-9]", text, re.IGNORECASE):
            raise GeoAssetsError(
                "UNSUPPORTED_FORMAT",
                f"{path.name} is compressed, as its header says",
                remedy="save it without compression",
            )
        return "ENVI"
    return "EHdr" if len(_EHDR.findall(text)) >= 2 else None


def refuse_a_wrong_size(path: Path, pixels: int) -> str | None:
    """Compare the size of a file of raw pixels with what its header declares; return a note about surplus bytes.

    Args:
        path: of the pixels.
        pixels: their number of bytes, without the header.

    Raises:
        GeoAssetsError: UNREADABLE.
    """
    header = _header(path)
    text = _text(header) if header else ""
    offset = re.search(r"(?:header\s+offset\s*=|^\s*skipbytes)\s*(\d{1,18})", text, re.IGNORECASE | re.MULTILINE)
    declared, there = pixels + (int(offset[1]) if offset else 0), path.stat().st_size
    if there < declared:
        raise GeoAssetsError("UNREADABLE", f"{path.name} has {there:,} bytes, but its header declares {declared:,}")
    return (
        f"it has {there - declared:,} bytes more than its header declares: is that its own?"
        if there > declared
        else None
    )


def refuse_gaps(path: Path, row_bytes: int, bands: int) -> None:
    """Refuse raw ESRI pixels with padding between rows or bands: GDAL would read the padding as pixels.

    Args:
        path: of the pixels.
        row_bytes: bytes of a row of one band.
        bands: their number.

    Raises:
        GeoAssetsError: RASTER_UNSUPPORTED.
    """
    header = _header(path)
    said = dict(_ROW_LAYOUT.findall(_text(header).lower())) if header else {}
    layout = said.get("layout", "bil")
    expected = {"bandgapbytes": 0, **({"totalrowbytes": row_bytes * bands} if layout != "bsq" else {})}
    if layout != "bip":  # where bands take turns from pixel to pixel, a row of one band is spread over that of all
        expected["bandrowbytes"] = row_bytes
    if wrong := next((word for word, count in expected.items() if said.get(word, str(count)) != str(count)), None):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has bytes between its pixels, by its header: {wrong.upper()} is"
            f" {said[wrong][:20]}, not {expected[wrong]}",
            remedy="write it again without them, as a GeoTIFF if possible",
        )


def _header(path: Path) -> Path | None:
    return _beside(path, (".hdr",)) or _named(path, [f"{path.name}.hdr"])


def _beside(path: Path, endings: Iterable[str]) -> Path | None:
    return _named(
        path,
        [path.with_suffix(ending).name for ending in endings] if path.suffix else [f"{path.name}{e}" for e in endings],
    )


def _named(path: Path, names: Iterable[str]) -> Path | None:
    """Return the file in the same directory with one of these names, ignoring case."""
    there = {p.name.lower(): p for p in path.absolute().parent.iterdir()}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def _text(path: Path) -> str:
    """The beginning of a text file, in whatever encoding it is."""
    with path.open("rb") as file:
        said = file.read(LONGEST)
    plain = "latin-1" if path.suffix.lower() == ".hdr" else "utf-8-sig"
    return said.decode(utf_16_of(said) or plain, "replace").lstrip("\ufeff")
