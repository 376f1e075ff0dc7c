"""What readers of layers have in common: a layer of a dataset, and batches of its features as Arrow.

Here: what each reader takes and gives, whatever library reads the format. Not here: which reader reads which format
(`layers.py`), the readers (`ogr.py`, `geojson.py`, `parquet.py`, `delimited.py`, `spreadsheets.py`), repair of
geometries (`geometry.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.gpkg_alone import is_alone

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sources import Dataset
    from geo_assets.vector.reader.stated import Outline, Scan

#: Rows that are read, processed and sent at once: 65,536 cost twice the memory and save no time.
BATCH_ROWS = 8192

EMPTY_ROWS = "rows of nothing, which were left out"

WKB_EXTENSIONS = frozenset({b"geoarrow.wkb", b"ogc.wkb"})


class NotAsStated(Exception):  # noqa: N818 - it is the layer's to be looked at before, no error
    """A layer that was read as its file states it is not so."""


@dataclass(frozen=True, slots=True)
class LayerRef:
    """One layer of a dataset."""

    dataset: Dataset
    index: int = 0
    layer: str | None = None  # None where the file is one layer
    sound_values: bool = False  # an earlier scan found that each value has its column's type
    as_stated: bool = False  # read as its file states it, which who reads it checks, to begin anew if need be

    @property
    def beside(self) -> Path:
        """Return the folder of what was read of it and is wanted again."""
        return beside(self.dataset.path.parent, self.index)

    @property
    def opened_by(self) -> int | str:
        """Return what names it to GDAL: its place in the file, which it does not have where it is alone for now."""
        if self.layer is None or self.dataset.format is not Format.GPKG or not is_alone(self.dataset.path):
            return self.index
        return self.layer

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"layer {self.layer!r} of {self.dataset.name}" if self.layer else self.dataset.name


def beside(folder: Path, index: int) -> Path:
    """Return the folder of what was read of a layer, by the folder of its dataset, which it is beside."""
    return folder.with_name(f"{folder.name}.{index}")


@dataclass(slots=True)
class Batch:
    """Some features: one array per attribute, WKB (null: none), and the rows whose geometry the reader could
    not read.
    """

    columns: list[pa.Array | None]  # by position; None where it was not requested
    wkb: pa.Array
    faults: dict[int, str]
    fids: pa.Array  # each feature's id in the source, else its position in the file, from 1
    linearised: int = 0
    texts: dict[int, list[str | None]] = field(default_factory=dict)  # of rejected rows whose values fit no column

    def geometries(self, mask: NDArray[np.bool_]) -> Batch:
        """Return the rows of a mask, without attributes."""
        bare = Batch([], self.wkb, self.faults, self.fids, self.linearised)
        return bare if mask.all() else bare.keep(mask)

    def keep(self, mask: NDArray[np.bool_]) -> Batch:
        """Return the rows of a mask."""
        import pyarrow as pa

        chosen = pa.array(mask)
        places = np.cumsum(mask) - 1
        faults = {int(places[row]): reason for row, reason in self.faults.items() if mask[row]}
        columns = [None if column is None else column.filter(chosen) for column in self.columns]
        texts = {int(places[row]): values for row, values in self.texts.items() if mask[row]}
        return Batch(columns, self.wkb.filter(chosen), faults, self.fids.filter(chosen), self.linearised, texts)


@dataclass(slots=True)
class OpenLayer:
    """A layer that is being read. `types` is final once the batches are used up: text is typed by its values.

    `read` returns the batches, once. Its argument is the columns that are needed, by position (None: all); others may
    be left out.
    """

    names: list[str]
    arrow_types: list[pa.DataType]
    crs: str | None
    read: Callable[[Collection[int] | None], Iterator[Batch]]
    #: How many features there must be, where the file tells and what is missing would go unnoticed.
    declared: Callable[[], int | None] = lambda: None
    types: Callable[[], list[str]] | None = None  # wire types, where the reader decides them
    bounds: Callable[[], tuple[float, float, float, float] | None] = lambda: (
        None
    )  # where the file states them in its header
    scan: Callable[[], Scan | None] = lambda: (
        None
    )  # checks values and headers of geometries at once, where that is quicker than `read`
    outline: Callable[[], Outline | None] = lambda: None  # what the file states, which may be wrong
    last: Callable[[], int | None] = lambda: None  # the id of the last feature, where the file tells it
    encoding: str | None = None  # of its text, where the format does not define it
    unused: Callable[[], set[int]] = set  # columns that the file itself does not have
    warnings: Sequence[str] = ()
    findings: Findings = field(
        default_factory=Findings
    )  # values that could not be used as written; complete once the batches are consumed


def geometry_position(schema: pa.Schema) -> int | None:
    """Return the position of the first WKB column."""
    return next((i for i, column in enumerate(schema) if extension_name(column) in WKB_EXTENSIONS), None)


def extension_name(column: pa.Field) -> bytes:
    """Return the name of an Arrow extension type, whether pyarrow knows it or not; empty where there is none."""
    name = (column.metadata or {}).get(b"ARROW:extension:name") or getattr(column.type, "extension_name", "").encode()
    return bytes(name)


def storage(array: pa.Array) -> pa.Array:
    """Return the storage array of an extension type."""
    import pyarrow as pa

    return array.storage if isinstance(array, pa.ExtensionArray) else array


def holds_something(columns: Iterable[pa.Array], rows: int) -> NDArray[np.bool_]:
    """Return which rows of a table have a value in some column, which is not only blanks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = np.zeros(rows, dtype=bool)
    for column in columns:
        if present.all():
            break
        is_text = pa.types.is_string(column.type)
        some = pc.fill_null(pc.match_substring_regex(column, r"\S"), fill_value=False) if is_text else column.is_valid()
        present |= some.to_numpy(zero_copy_only=False)
    return present


def places(first: int, count: int) -> pa.Array:
    """Return feature ids where the source has none: the position in the file, from 1."""
    import pyarrow as pa

    return pa.array(np.arange(first, first + count, dtype=np.int64))
