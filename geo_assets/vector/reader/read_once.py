"""Layers of formats that GDAL reads whole whenever it opens them, or slowly: they are read once, into Arrow files.

Here: these files, and what GDAL said while it read. Not here: which layer (`ogr.py`), when the first of a text is read
(`sources.py`).

A KML of 114 MB takes GDAL 1.4 s to open; for a table it is asked for its rows four times.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geo_assets.vector.reader.batches import BATCH_ROWS, LayerRef, beside
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.listing import OPEN_OPTIONS, configure
from geo_assets.vector.reader.unpacking import made_whole

if TYPE_CHECKING:
    import pyarrow as pa

_READ_ONCE = frozenset({Format.KML, Format.GML, Format.GPX, Format.MAPINFO, Format.SPREADSHEET, Format.ESRI_JSON})

#: GDAL's first column when feature ids are requested.
FID = 0

_ROWS, _SAID = "rows.arrow", "said.json"


def arguments_of(kind: Format, layer: int | str) -> dict[str, Any]:
    """Return the arguments of pyogrio's `open_arrow` for a layer by its place in the file, or by its name."""
    return {
        "layer": layer, "use_pyarrow": True, "batch_size": BATCH_ROWS, "return_fids": True,
        "datetime_as_string": True, **OPEN_OPTIONS.get(kind, {}),
    }  # fmt: skip


def read_ahead(path: Path, folder: Path, kind: Format) -> None:
    """Read the first layer of a file, which mostly has no other, before its layers are listed.

    Args:
        path: the file, where it is now.
        folder: where it will be.
        kind: one of the formats that are read once.

    Raises:
        Exception: whatever GDAL says of it, which it will say again where the layer is wanted.
    """
    kept = beside(folder, 0)
    if kept.exists():
        return
    configure()
    with made_whole(kept) as partial:
        _keep(path, partial, arguments_of(kind, 0))


@contextmanager
def opened(ref: LayerRef, **arguments: Any) -> Iterator[tuple[str | None, pa.RecordBatchReader]]:
    """Yield the CRS of a layer and its batches; what GDAL warned of while it read is warned of each time.

    Args:
        ref: the layer.
        arguments: of pyogrio's `open_arrow`, the same for each call with this layer.
    """
    import pyarrow as pa
    from pyogrio.raw import open_arrow

    path = ref.dataset.path
    if ref.dataset.format not in _READ_ONCE:
        with open_arrow(path, **arguments) as (meta, reader):
            yield meta["crs"], reader
        return
    kept = ref.beside
    if not kept.exists():
        with made_whole(kept) as partial:
            _keep(path, partial, arguments)
    said = json.loads((kept / _SAID).read_text())
    for message in said["warnings"]:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    with pa.memory_map(str(kept / _ROWS)) as file, pa.ipc.open_stream(file) as reader:
        yield said["crs"], reader


def last_of(ref: LayerRef) -> int | None:
    """Return the id that GDAL gave to the last feature of a layer; None where it has none."""
    last = None
    with opened(ref, **arguments_of(ref.dataset.format, ref.opened_by)) as (_, reader):
        for batch in reader:
            last = batch.column(FID)[-1].as_py()
    return last


def _keep(path: Path, folder: Path, arguments: dict[str, Any]) -> None:
    import pyarrow as pa
    from pyogrio.raw import open_arrow

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # about this process, not about the file
        with (
            open_arrow(path, **arguments) as (meta, reader),
            pa.OSFile(str(folder / _ROWS), "wb") as file,
            pa.ipc.new_stream(file, reader.schema) as rows,
        ):
            for batch in reader:
                rows.write_batch(batch)
    said = {"crs": meta["crs"], "warnings": [str(warning.message) for warning in heard]}
    (folder / _SAID).write_text(json.dumps(said))
