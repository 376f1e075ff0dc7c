"""Curves as lines, made by GDAL.

Here: those of a batch. Not here: the length of a step (`geometry.py`), reading a layer (`ogr.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geo_assets.vector.reader.batches import LayerRef
from geo_assets.vector.reader.wkb import FIRST_CURVE, LAST_CURVE, Headers

if TYPE_CHECKING:
    import pyarrow as pa


def without_curves(ref: LayerRef, wkb: pa.Array, fids: pa.Array) -> tuple[pa.Array, int]:
    """Return curves as lines, made by GDAL in steps of `ARC_STEP_DEGREES`, and how many there were."""
    codes = Headers.of(wkb).codes
    rows = np.flatnonzero((codes >= FIRST_CURVE) & (codes <= LAST_CURVE))
    if not len(rows):
        return wkb, 0
    import pyarrow as pa
    from pyogrio.raw import read

    wanted = fids.to_numpy(zero_copy_only=False)[rows]
    _, found, lines, _ = read(
        ref.dataset.path, layer=ref.opened_by, columns=[], fids=wanted, return_fids=True
    )  # feature by feature, by GDAL
    by_fid = dict(zip(found.tolist(), lines.tolist(), strict=True))
    values = wkb.to_pylist()
    for row, fid in zip(rows.tolist(), wanted.tolist(), strict=True):
        values[row] = by_fid.get(fid, values[row])
    return pa.array(values, pa.binary()), len(rows)
