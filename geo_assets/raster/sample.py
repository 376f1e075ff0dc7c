"""What the numbers of a raster mean, as some of its pixels tell.

Here: the kind of integers that nothing in the header tells, by some windows of some bands: codes are few, and beside
each other whatever they are. Not here: what the header tells (`inspect.py`), what follows from it (`profiles.py`).

In doubt they are codes: an average of codes is one that is not there, in silence; a picture that is not averaged is a
little rougher.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from geo_assets.raster.models import PixelKind
from geo_assets.raster.nodata import nodata_told

#: Blocks looked at to tell what the numbers mean, and pixels of each: enough to meet more than 64 values in a field
#: that has them, few enough to cost milliseconds.
_SAMPLE_BLOCKS, _SAMPLE_SIDE = 9, 256

#: Decoded bytes of rows that are looked at in a block: a row of a spectrometer has a band for each of hundreds of
#: colours.
_SAMPLE_BYTES = 8 << 20

#: Of a sparse TIFF whose sample holds nothing: blocks that are asked for, some microseconds each; the part of the grid
#: from one to the next, by which any number of them are spread evenly.
_MOST_LOOKED_FOR, _GOLDEN = 200_000, 0.618

#: Classifications have some tens of classes; measured fields have more values than that in any sample.
_MAX_CLASSES = 64

#: Below this number of values, smoothness says nothing.
_FEW_CLASSES = 8

#: Pixels for each value below which a band among others, which has hardly any, does not make all of them codes.
_PIXELS_A_CLASS = 16

#: Share of steps between unequal neighbours that are the smallest possible one, above which few values are a smooth
#: field (a plain of 40 m), not classes.
_SMOOTH = 0.9


def kind_by_sample(dataset: Any, dtype: np.dtype[Any]) -> PixelKind:
    """Return the kind of an open dataset of integers without colours. Several bands have one method of resampling: they
    are codes where the first, the middle or the last holds codes.

    Args:
        dataset: the open dataset.
        dtype: the type in which its bands are read.
    """
    bands = [i for i, c in zip(dataset.indexes, dataset.colorinterp, strict=True) if c.name != "alpha"] or [1]
    if len(bands) == 1:
        return _kind_of(list(_sample(dataset, bands[0])), dtype)
    kinds = {_told_by(dataset, band, dtype) for band in {bands[0], bands[len(bands) // 2], bands[-1]}}
    if PixelKind.CATEGORICAL in kinds:
        return PixelKind.CATEGORICAL
    if kinds == {PixelKind.MASK}:
        return PixelKind.MASK
    return PixelKind.IMAGERY if dtype == np.uint8 or len(bands) > 2 else PixelKind.CONTINUOUS


def _told_by(dataset: Any, band: int, dtype: np.dtype[Any]) -> PixelKind | None:
    """Return whether a band among others holds codes or yes and no; None where it holds neither, or next to nothing."""
    parts: list[NDArray[Any]] = []
    values: set[int] = set()
    for part in _sample(dataset, band):
        parts.append(part)
        values.update(np.unique(part).tolist())
        if len(values) > _MAX_CLASSES:
            return None
    shown = values - {nodata_told(dataset)}
    pixels = sum(np.count_nonzero(part != _blank(dataset)) for part in parts)
    if len(shown) < 2 or pixels < _PIXELS_A_CLASS * len(shown):
        return None
    if len(shown) == 2 and shown <= {0, 1, np.iinfo(dtype).max}:
        return PixelKind.MASK
    return PixelKind.CATEGORICAL if _kind_of(parts, dtype) is PixelKind.CATEGORICAL else None


def _kind_of(parts: list[NDArray[Any]], dtype: np.dtype[Any]) -> PixelKind:
    values = np.unique(np.concatenate([np.unique(part) for part in parts])) if parts else np.empty(0, dtype)
    if dtype == np.uint8 and set(values.tolist()) in ({0, 1}, {0, 255}):
        return PixelKind.MASK
    if len(values) <= _MAX_CLASSES and not (len(values) > _FEW_CLASSES and _smooth(parts, values)):
        return PixelKind.CATEGORICAL
    return PixelKind.IMAGERY if dtype == np.uint8 else PixelKind.CONTINUOUS


def _smooth(parts: list[NDArray[Any]], values: NDArray[Any]) -> bool:
    """Whether neighbours that differ, differ by one step of the sorted values: a field does, classes do not."""
    steps = np.concatenate([np.abs(np.diff(np.searchsorted(values, part), axis=1)).ravel() for part in parts])
    steps = steps[steps > 0]
    return len(steps) > 0 and float((steps == 1).mean()) >= _SMOOTH


def _sample(dataset: Any, band: int) -> Iterator[NDArray[Any]]:
    """Yield windows of a band, spread over the grid; of a TIFF in which they hold nothing, those that may."""
    parts = (_corner(dataset, band, *place) for place in _spread(dataset))
    empty: list[NDArray[Any]] = []
    for part in parts:
        if (part != _blank(dataset)).any():
            yield from empty
            yield part
            yield from parts
            return
        empty.append(part)
    yield from list(_stored_sample(dataset, band)) or empty if dataset.driver == "GTiff" else empty


def _blank(dataset: Any) -> float:
    """Return what a pixel without data has."""
    return nodata_told(dataset) or 0


def _spread(dataset: Any) -> list[tuple[int, int]]:
    """Return column and row of some blocks, spread over the grid."""
    across, down = _grid_of_blocks(dataset)
    side = round(_SAMPLE_BLOCKS**0.5)
    places = {
        ((i * 2 + 1) * across // (2 * side), (j * 2 + 1) * down // (2 * side)) for i in range(side) for j in range(side)
    }
    return sorted(places)


def _stored_sample(dataset: Any, band: int) -> Iterator[NDArray[Any]]:
    """Yield windows at corners of blocks that a sparse TIFF has, of which there may be one in thousands."""
    across, down = _grid_of_blocks(dataset)
    count = across * down
    step = next(step for step in range(int(count * _GOLDEN) | 1, 3 * count + 3) if math.gcd(step, count) == 1)
    found = 0
    for number in range(min(count, _MOST_LOOKED_FOR)):  # each once, spread over the grid
        row, column = divmod(number * step % count, across)
        if dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", band) is not None:
            yield _corner(dataset, band, column, row)
            found += 1
        if found == _SAMPLE_BLOCKS:
            return


def _grid_of_blocks(dataset: Any) -> tuple[int, int]:
    """How many blocks there are across and down."""
    rows, columns = dataset.block_shapes[0]
    return -(-dataset.width // columns), -(-dataset.height // rows)


def _corner(dataset: Any, band: int, column: int, row: int) -> NDArray[Any]:
    rows, columns = dataset.block_shapes[0]
    left, top = column * columns, row * rows
    width, height = min(_SAMPLE_SIDE, dataset.width - left), min(_SAMPLE_SIDE, dataset.height - top)
    together = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    decoded = columns * np.dtype(dataset.dtypes[0]).itemsize * (dataset.count if together else 1)
    height = max(min(height, rows), min(height, _SAMPLE_BYTES // decoded))
    return np.asarray(dataset.read(band, window=Window(left, top, width, height)))
