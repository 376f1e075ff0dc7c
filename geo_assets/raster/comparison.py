"""Differences between a COG and the dataset that it was copied from.

Here: pixels, masks, metadata and colours, and how far a lossy copy may deviate. Not here: whether a file is a good COG
by itself (`validate.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.crs import CRS

from geo_assets.raster import gdal
from geo_assets.raster.cogfile import STAMP
from geo_assets.raster.georeference import dataset_crs, same_crs, same_transform, vertical_unit
from geo_assets.raster.nodata import nodata_told
from geo_assets.raster.pixels import Measurement, Validity, canonical, measure_piece, own_mask, pieces
from geo_assets.raster.tiles import Bools, Pixels

#: Tags that describe the file or its making, not the data. The stamp is that of another COG of ours.
_NOT_DATA = ("STATISTICS_", "OVR_RESAMPLING_ALG", "AREA_OR_POINT", *STAMP)

#: The colour of one bit that is not black.
_WHITE = {1: (255, 255, 255, 255)}

#: What a table has for a value without a colour: as GDAL fills it, and as a TIFF does.
_NO_COLOUR = ((0, 0, 0, 0), (0, 0, 0, 255))

#: Windows with different pixels that are named before the comparison stops.
_MAX_DIFFERENCES = 3


@dataclass
class Loss:
    """How far a lossy copy may deviate, and how far it does, over the pixels that are valid in the source."""

    max_error: float | None = None
    min_psnr: float | None = None
    largest: float = 0.0
    step: float = 0.0  # between neighbouring floats of the largest value: no number is stored more exactly
    squares: float = 0.0
    pixels: int = 0

    def add(self, theirs: Pixels, ours: Pixels, valid: Bools | None) -> None:
        """Take in the values of a band."""
        off = np.abs(ours.astype(np.float64) - theirs)
        counted = np.isfinite(theirs) if valid is None else valid
        off = off[counted]
        if off.size:
            self.largest = max(self.largest, float(off.max()))
            self.step = max(
                self.step, float(np.spacing(np.abs(theirs[counted]).max())) if theirs.dtype.kind == "f" else 0.0
            )
            self.squares += float(np.einsum("i,i->", off, off))
            self.pixels += off.size

    def problems(self) -> list[str]:
        """Say whether it deviates too far."""
        if self.max_error is not None and self.largest > self.max_error + self.step:
            return [f"pixels differ by up to {self.largest:g}, which is more than {self.max_error:g}"]
        psnr = 10 * math.log10(255**2 * self.pixels / self.squares) if self.squares else math.inf
        if self.min_psnr is not None and psnr < self.min_psnr:
            return [f"its pixels have a signal-to-noise ratio of {psnr:.1f} dB, below {self.min_psnr:g}"]
        return []


def compare(
    source: Any,
    cog: Any,
    *,
    crs: CRS | None = None,
    measurement: Measurement | None = None,
    loss: Loss | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[str]:
    """Return the differences between a COG and the dataset it was copied from; empty if the data are equal. Whether a
    lossy copy deviates too far is for `loss` to say.

    Args:
        source: the open dataset that was copied, itself or by way of a staged file.
        cog: the open COG.
        crs: the CRS that was given to a source without one.
        measurement: the one of `cog`; takes every piece that is read.
        loss: for a lossy copy; None where every bit must be equal.
        progress: called with the part that is done, 0 to 1.
    """
    problems = list(metadata_differences(source, cog, crs or dataset_crs(source)))
    if (source.width, source.height, source.count, source.dtypes) != (cog.width, cog.height, cog.count, cog.dtypes):
        return problems  # there is nothing to hold side by side
    return problems + pixel_differences(source, cog, measurement, loss, progress)


def metadata_differences(source: Any, cog: Any, crs: CRS | None, *, outline: bool = False) -> Iterator[str]:
    """Yield the differences between the metadata of a COG and its source's; `crs` is the one that it should have; an
    outline has one pixel.
    """
    for fact in ("width", "height", "count", "dtypes", "scales", "offsets", "descriptions", "mask_flag_enums"):
        ours, theirs = getattr(cog, fact), getattr(source, fact)
        if ours != theirs and not (outline and fact in {"width", "height"}):
            yield f"{fact} {_short(ours)} instead of {_short(theirs)}"
    if (ours := cog.units) != (theirs := source.units) and ours != _units(source, dataset_crs(cog)):
        yield f"units {_short(ours)} instead of {_short(theirs)}"
    if not same_crs(crs, dataset_crs(cog)):
        yield f"CRS {_short(cog.crs)} instead of {_short(crs)}"
    if not same_transform(source.transform, cog.transform, source.width, source.height):
        yield f"transform {tuple(cog.transform)[:6]} instead of {tuple(source.transform)[:6]}"
    if not _same_number(theirs := nodata_told(source), ours := nodata_told(cog)):
        yield f"nodata {ours} instead of {theirs}"
    if _gcps(source) != _gcps(cog):
        yield "ground control points differ"
    if bool(source.rpcs) != bool(cog.rpcs):
        yield "rational polynomials are lost"
    yield from _colour_differences(source, cog)
    if source.tags().get("AREA_OR_POINT", "Area") != cog.tags().get("AREA_OR_POINT", "Area"):
        yield "AREA_OR_POINT differs"


def _units(source: Any, crs: CRS | None) -> tuple[str | None, ...]:
    """Return the units of bands in a GeoTIFF of this CRS, which a source without it, or of another format, lacks."""
    return tuple(unit or vertical_unit(crs) for unit in source.units)


def _colour_differences(source: Any, cog: Any) -> Iterator[str]:
    ours, theirs = [c.name for c in cog.colorinterp], [c.name for c in source.colorinterp]
    if ours[0] == "gray" and (theirs[0] == "undefined" or gdal.has_colours_in_vain(source)):
        theirs[0] = "gray"  # the least that the first band of a TIFF can be
    for band in range(1, cog.count):
        if (theirs[band], ours[band]) == ("gray", "undefined"):
            theirs[band] = "undefined"  # the most that another grey band can be there
    if theirs != ours == ["palette"] and _shows_the_same(source, cog):
        return
    if ours != theirs:
        yield f"colours {_short(tuple(ours))} instead of {_short(tuple(theirs))}"
    for band in source.indexes[: cog.count]:
        if theirs[band - 1] == "palette" and _colours(source, band) != _colours(cog, band):
            yield f"the colours of band {band} differ"


def _shows_the_same(source: Any, cog: Any) -> bool:
    """Whether a palette shows the greys of a source that has no palette: GDAL has one for a TIFF of one bit, and for a
    TIFF in which zero is white.
    """
    if gdal.zero_is_white(source):
        return _colours(source, 1) == _colours(cog, 1)
    one_bit = source.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
    white = {value: colour for value, colour in _WHITE.items() if value != source.nodata}
    return one_bit and source.colorinterp[0].name == "gray" and _colours(cog, 1) == white


def lost_metadata(source: Any, cog: Any) -> list[str]:
    """Return items of the default domain, of the dataset and each band, that a COG lacks or has changed, and whether
    its table of colours has gaps: a note, not a fault.
    """
    notes = []
    if gdal.has_colours_in_vain(source) and not gdal.zero_is_white(source):  # which is told already
        notes.append(f"a TIFF cannot hold a table of colours for {source.dtypes[0]}; left out")
    elif source.colorinterp[0].name == "palette" and _filled_gaps(source, cog):
        notes.append(
            "values that have no colour in its table, and are transparent there, are black: a TIFF has no other"
        )
    for band in (0, *source.indexes[: cog.count]):
        ours, theirs = _data_tags(cog.tags(band)), _data_tags(source.tags(band))
        if lost := sorted(key for key, value in theirs.items() if ours.get(key) != value):
            notes.append(
                f"metadata of {f'band {band}' if band else 'the dataset'} is not carried over:"
                f" {_short(', '.join(lost))}"
            )
    return notes


def _filled_gaps(source: Any, cog: Any) -> bool:
    """Whether a value without a colour has become black: not that of nodata, which is transparent in both."""
    ours = gdal.colour_table(cog, 1) if cog.colorinterp[0].name == "palette" else {}
    return any(c == _NO_COLOUR[0] and ours.get(value) == _NO_COLOUR[1] for value, c in source.colormap(1).items())


def _data_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value.strip() for key, value in tags.items() if not key.startswith(_NOT_DATA)}


def _gcps(dataset: Any) -> list[tuple[float, ...]]:
    """Return positions only: a TIFF holds no names of points."""
    return [(p.row, p.col, p.x, p.y, p.z or 0.0) for p in dataset.gcps[0]]


def _colours(dataset: Any, band: int) -> dict[int, tuple[int, ...]]:
    """Return the colour table, without what fills its gaps, and without the entry of nodata,
    which GDAL makes transparent.
    """
    return {
        value: colour
        for value, colour in gdal.colour_table(dataset, band).items()
        if colour not in _NO_COLOUR and value != dataset.nodata
    }


def _same_number(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


def _short(value: Any) -> str:
    text = ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 120 else text[:119] + "…"


def pixel_differences(
    source: Any,
    cog: Any,
    measurement: Measurement | None = None,
    loss: Loss | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[str]:
    """Return the differences between the pixels and masks of two open datasets of the same grid; see `compare`."""
    problems: list[str] = []
    validity = Validity.of(source)
    for piece in pieces(cog):
        theirs = source.read(list(piece.bands), window=piece.window)
        ours = cog.read(list(piece.bands), window=piece.window)
        mask = own_mask(cog, piece.window)
        if measurement is not None:
            for tile in measure_piece(cog, piece, ours, mask):
                measurement.add(tile)
        place = f"in rows {piece.window.row_off:,} to {piece.window.row_off + piece.window.height - 1:,}"
        if loss:
            problems += _lossy_differences(theirs, ours, piece.bands, validity, loss, place)
        elif differing := _differing(theirs, ours):
            problems.append(f"{differing:,} pixels differ {place}")
        if not _same_mask(own_mask(source, piece.window), mask):
            problems.append(f"the mask differs {place}")
        if len(problems) >= _MAX_DIFFERENCES:
            break
        progress((piece.window.row_off + piece.window.height) / cog.height)
    return problems


def _lossy_differences(
    theirs: Pixels, ours: Pixels, bands: tuple[int, ...], validity: Validity, loss: Loss, place: str
) -> list[str]:
    """Return where a lossy copy deviates: the same pixels must be valid, and their values near; alpha must be exact."""
    problems = []
    opaque = theirs[bands.index(validity.alpha)] != 0 if validity.alpha in bands else None
    for band, a, b in zip(bands, theirs, ours, strict=True):
        if band == validity.alpha:
            problems += [f"the alpha band differs {place}"] if not np.array_equal(a, b) else []
            continue
        valid, still = validity.valid(a, opaque), validity.valid(b, opaque)
        if not np.array_equal(True if valid is None else valid, True if still is None else still):
            problems.append(f"other pixels of band {band} are valid {place}")
        loss.add(a, b, valid)
    return problems


def _same_mask(a: Bools | None, b: Bools | None) -> bool:
    """Whether two masks of datasets are equal; where one is missing, `mask_flag_enums` differ already."""
    return a is None or b is None or np.array_equal(a, b)


def _differing(a: Pixels, b: Pixels) -> int:
    """Count the pixels that differ in any bit; all NaNs count as equal."""
    a_bits, b_bits = _bits(a), _bits(b)
    if np.array_equal(a_bits, b_bits):
        return 0
    return int(np.count_nonzero(_bits(canonical(a)) != _bits(canonical(b))))


def _bits(values: Pixels) -> Pixels:
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    return values.view(f"u{values.dtype.itemsize}")
