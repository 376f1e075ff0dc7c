"""Whether overviews show the pixels that they are of: two neighbouring levels, held side by side in small cells.

Here: sums over the cells of levels that are read for another reason, tile by tile, and what their means tell. Not here:
reading (`validate.py`, `pixels.py`), overviews of our own (`overviews.py`).

Whatever the method of resampling, the mean of a cell is about the same in both levels: averages and filters keep it,
and one pixel of each four, or the commonest, is off by no more than pixels are from their mean. A filter looks beyond
its cell, and a level of odd size is shifted by a part of a pixel: so pixels may differ as they do in the cells around,
too. What differs by more is stale. A COG with such overviews is made anew; one that is not found keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.pixels import TILE, Sums, Validity, pieces
from geo_assets.raster.tiles import Bools, Pixels

#: Pixels along a side of a cell of the coarser level; larger ones where there would be more cells than this in a level.
_SIDES, _MOST_CELLS = (64, 128, 256), 1 << 20

#: How far means may be from each other: in standard deviations of the pixels around, in parts of the range of all
#: pixels (which compression with loss takes in an even area), and in parts of the mean (which doubles take).
DEVIATIONS, _OF_RANGE, _OF_MEAN = 2.0, 0.02, 1e-6

#: The part of a cell that must be valid to have a mean.
_ENOUGH = 0.5

_Grid = NDArray[np.float64]  # shape (3, bands, rows, columns): counts, sums, sums of squares of valid pixels


def cell_sums(data: Pixels, mask: Bools | None, validity: Validity, side: int) -> _Grid:
    """Return the sums of the cells of a tile.

    Args:
        data: shape (bands, rows, columns), all bands.
        mask: the dataset's own mask of it.
        validity: how the dataset marks valid pixels.
        side: of a cell, in pixels.
    """
    outer = validity.opaque(data, mask)
    down, across = (-(-length // side) for length in data.shape[1:])
    found = np.empty((3, len(data), down, across))
    numbers = np.zeros((down * side, across * side), np.float32 if data.dtype == np.uint8 else np.float64)
    there = numbers[: data.shape[1], : data.shape[2]]
    for band, values in enumerate(data, 1):
        valid = validity.valid(values, None if band == validity.alpha else outer)
        there[...] = True if valid is None else valid
        found[0, band - 1] = _of_cells(numbers.reshape(-1, side) @ np.ones(side, numbers.dtype), down, side)
        there[...] = values
        if valid is not None:
            there[~valid] = 0
        parts = numbers.reshape(-1, side)
        found[1, band - 1] = _of_cells(parts @ np.ones(side, numbers.dtype), down, side)
        with np.errstate(over="ignore"):
            found[2, band - 1] = _of_cells(np.vecdot(parts, parts), down, side)
    return found


def _of_cells(sums: NDArray[Any], down: int, side: int) -> NDArray[np.float64]:
    """Return the sums of cells, of those of their rows, which follow each other."""
    cells: NDArray[np.float64] = sums.reshape(down, side, -1).sum(axis=1, dtype=np.float64)
    return cells


def _coarser(grid: _Grid, factor: int) -> _Grid:
    """Return the sums of so many cells along each side together."""
    rows, columns = (np.arange(0, length, factor) for length in grid.shape[2:])
    coarser: _Grid = np.add.reduceat(np.add.reduceat(grid, rows, axis=2), columns, axis=3)
    return coarser


@dataclass
class Likeness:
    """The cells of all levels of a COG; each level is fed tile by tile in the order of the hash."""

    sizes: Sequence[tuple[int, int]]  # (height, width) of each level, full resolution first
    _grids: dict[int, _Grid] = field(default_factory=dict)
    _tiles: dict[int, int] = field(default_factory=dict)  # how many there were so far

    def _side(self, level: int) -> int | None:
        """Return the side of a cell of a level in pixels; None where it is not compared."""
        height, width = self.sizes[0]
        cells = (height * width // (2 * side) ** 2 for side in _SIDES)
        side = next((s for s, n in zip(_SIDES, cells, strict=True) if n <= _MOST_CELLS), _SIDES[-1])
        if level:
            return side
        factor = self._factor(0)
        return side * factor if factor and TILE % (side * factor) == 0 else None

    def _factor(self, level: int) -> int | None:
        """Return how many pixels of a level along a side are one of the next; None where it is not a whole number."""
        if level + 1 >= len(self.sizes):
            return None
        fine, coarse = self.sizes[level], self.sizes[level + 1]
        factor = round(max(fine) / max(coarse))
        fits = all(b in {a // factor, -(-a // factor)} for a, b in zip(fine, coarse, strict=True))
        return factor if factor > 1 and fits else None

    def looking(self, level: int, dataset: Any) -> Callable[[Pixels, Bools | None], _Grid] | None:
        """Return what sums up a tile of a level and the dataset's own mask of it; None where it is not compared: of
        complex numbers, which have no order, and where tiles do not have all bands.
        """
        side, dtype = self._side(level), numpy_dtype(dtype_names(dataset)[0])
        if side is None or dtype.kind == "c" or len(next(pieces(dataset)).bands) < dataset.count:
            return None
        validity = Validity.of(dataset)
        return lambda data, mask: cell_sums(data, mask, validity, side)

    def add(self, level: int, sums: _Grid) -> None:
        """Add the next tile of a level."""
        height, width = self.sizes[level]
        side = TILE // (self._side(level) or TILE)
        if level not in self._grids:
            down, across = (-(-length // TILE) * side for length in (height, width))
            self._grids[level] = np.zeros((3, sums.shape[1], down, across))
        row, column = divmod(self._tiles.get(level, 0), -(-width // TILE))
        self._tiles[level] = self._tiles.get(level, 0) + 1
        rows, columns = sums.shape[2:]
        self._grids[level][:, :, row * side : row * side + rows, column * side : column * side + columns] = sums

    def full(self, dataset: Any) -> Callable[[Pixels, Bools | None], None] | None:
        """Return what adds a tile of the full resolution and the dataset's own mask of it, as `looking`."""
        look = self.looking(0, dataset)
        return (lambda data, mask: self.add(0, look(data, mask))) if look else None

    def stale(self, bands: Sequence[Sums]) -> list[int]:
        """Return the levels that do not show the one before, by the statistics of the bands of full resolution."""
        least = np.array([_least(each) for each in bands])
        found = []
        for level in range(1, len(self.sizes)):
            factor = self._factor(level - 1)
            if factor and {level - 1, level} <= self._grids.keys():
                fine = self._grids[level - 1] if level == 1 else _coarser(self._grids[level - 1], factor)
                if _differ(fine, self._grids[level], (self._side(level) or TILE) ** 2, factor, least):
                    found.append(level)
        return found


def _least(band: Sums) -> float:
    """Return what means of a band may differ by where all pixels are the same: integers are rounded."""
    if band.minimum is None:
        return 0.0
    spread = float(band.maximum) - float(band.minimum)
    return max(1.0 if isinstance(band.minimum, int) else 0.0, _OF_RANGE * spread)


def _differ(fine: _Grid, coarse: _Grid, pixels: int, factor: int, least: NDArray[np.float64]) -> bool:
    """Whether a cell of the coarser level, of so many pixels, is none of the finer level's; `least` of each band."""
    rows, columns = (min(a, b) for a, b in zip(fine.shape[2:], coarse.shape[2:], strict=True))
    fine, coarse = fine[:, :, :rows, :columns], coarse[:, :, :rows, :columns]
    around = _around(fine)
    with np.errstate(all="ignore"):
        mean, other = fine[1] / fine[0], coarse[1] / coarse[0]
        deviation = np.sqrt(np.maximum(0, around[2] / around[0] - (around[1] / around[0]) ** 2))
        slack = least[:, None, None] + _OF_MEAN * np.abs(mean) + DEVIATIONS * deviation
        off = np.abs(mean - other) > slack
    enough = (fine[0] >= _ENOUGH * pixels * factor**2) & (coarse[0] >= _ENOUGH * pixels)
    appeared = (around[0] == 0) & (coarse[0] >= _ENOUGH * pixels)
    return bool((off & enough).any() or appeared.any())


def _around(grid: _Grid) -> _Grid:
    """Return the sums over each cell and those that touch it."""
    rows, columns = grid.shape[2:]
    padded = np.pad(grid, [(0, 0), (0, 0), (1, 1), (1, 1)])
    down = padded[:, :, :rows] + padded[:, :, 1 : rows + 1] + padded[:, :, 2:]
    summed: _Grid = down[..., :columns] + down[..., 1 : columns + 1] + down[..., 2:]
    return summed
