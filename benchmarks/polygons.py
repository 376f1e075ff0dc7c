"""Files of polygons for the benchmarks: invented ones that look like stars, and real shapes.

Here: geometries and their ten typed columns, written as a GeoPackage. Not here: what is done with them (`vector.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import shapely

from geo_assets.commands.demo import DATA

#: Features of a batch; metres of the longer side of a real shape.
_CHUNK, _METRES = 25_000, 120.0

#: One in so many of the invented polygons crosses itself.
_CROSSED = 500

#: Makes the geometries of a batch from random numbers, the number of its first feature and how many there are.
Make = Callable[[np.random.Generator, int, int], Any]


def write_invented(path: Path, rows: int, seed: int = 1) -> None:
    """Stars of 20-60 vertices in EPSG:25832; one in 500 crosses itself."""
    _write(path, rows, seed, _stars)


def write_real(path: Path, rows: int, seed: int = 1) -> None:
    """The land of Natural Earth's countries, which the demo brings along, each part reduced to the size of a parcel and
    put anywhere, in EPSG:25832: 37 vertices on average, 22 in the middle, 556 at most.
    """
    frame = pyogrio.read_dataframe(DATA / "world" / "countries.gpkg", columns=[])
    shapes = [_reduced(part) for part in shapely.get_parts(frame.geometry.values)]

    def make(rng: np.random.Generator, _: int, count: int) -> Any:
        chosen, centre = rng.integers(0, len(shapes), count), _centres(rng, count)
        made = np.empty(count, dtype=object)
        for number in np.unique(chosen):
            rows_of = np.flatnonzero(chosen == number)
            made[rows_of] = _copies(shapes[number], centre[rows_of])
        return made

    _write(path, rows, seed, make)


def _reduced(part: Any) -> Any:
    """A polygon about 0, 0, as long as a parcel."""
    xmin, ymin, xmax, ymax = shapely.bounds(part)
    factor, middle = _METRES / max(xmax - xmin, ymax - ymin), ((xmin + xmax) / 2, (ymin + ymax) / 2)
    return shapely.transform(part, lambda xy: (xy - middle) * factor)


def _copies(shape: Any, centres: np.ndarray) -> Any:
    """A polygon at other places."""
    kind, xy, (rings, polygons) = shapely.to_ragged_array([shape])
    count = len(centres)
    moved = (xy[None, :, :] + centres[:, None, :]).reshape(-1, 2)
    ring_ends = (rings[1:][None, :] + np.arange(count)[:, None] * rings[-1]).ravel()
    polygon_ends = np.arange(1, count + 1) * polygons[-1]
    return shapely.from_ragged_array(kind, moved, (np.r_[0, ring_ends], np.r_[0, polygon_ends]))


def _centres(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.column_stack([rng.uniform(400_000, 700_000, count), rng.uniform(5_300_000, 6_000_000, count)])


def _stars(rng: np.random.Generator, _: int, count: int) -> Any:
    sizes = rng.integers(20, 61, count)
    owner = np.repeat(np.arange(count), sizes)
    place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    angle = 2 * np.pi * place / sizes[owner]
    radius = rng.uniform(20, 60, sizes.sum())
    xy = _centres(rng, count)[owner] + np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
    crossed = np.flatnonzero(np.isin(owner, np.arange(0, count, _CROSSED)) & (place == 1))
    xy[[crossed, crossed + 4]] = xy[[crossed + 4, crossed]]
    closed = np.insert(xy, np.cumsum(sizes), xy[np.cumsum(sizes) - sizes], axis=0)
    rings = np.insert(owner, np.cumsum(sizes), np.arange(count))
    return shapely.polygons(shapely.linearrings(closed, indices=rings))


def _write(path: Path, rows: int, seed: int, make: Make) -> None:
    def batches() -> Any:
        rng = np.random.default_rng(seed)
        for first in range(0, rows, _CHUNK):
            yield _batch(rng, first, min(_CHUNK, rows - first), make)

    schema = _batch(np.random.default_rng(0), 0, 1, make).schema
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    pyogrio.write_arrow(
        reader, path, driver="GPKG", layer="parcels", geometry_type="Polygon", geometry_name="geom", crs="EPSG:25832"
    )


def _batch(rng: np.random.Generator, first: int, count: int, make: Make) -> pa.RecordBatch:
    geometry = make(rng, first, count)
    ids = np.arange(first, first + count)
    columns = {
        "parcel": pa.array(ids, pa.int64()),
        "municipality": pa.array(ids % 2000, pa.int32()),
        "kind": pa.array(np.array(["field", "forest", "garden", "road", "ÜBRIGE"])[ids % 5]),
        "owner": pa.array([f"owner {i * 7919 % 100_003}" for i in ids.tolist()]),
        "note": pa.array([None if i % 3 else "" for i in ids.tolist()], pa.string()),
        "area": pa.array(rng.uniform(100, 10_000, count)),
        "value": pa.array(np.where(ids % 10 == 0, None, rng.uniform(0, 1e6, count)), pa.float64()),
        "built": pa.array(ids % 2 == 0),
        "surveyed": pa.array((ids % 20_000).astype("datetime64[D]")),
        "changed": pa.array((1_500_000_000_000 + ids * 1000).astype("datetime64[ms]")),
    }
    return pa.record_batch({**columns, "geom": pa.array(shapely.to_wkb(geometry), pa.binary())})
