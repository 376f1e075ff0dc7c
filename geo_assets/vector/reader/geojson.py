"""GeoJSON and newline-delimited GeoJSON, read feature by feature: ids, numbers, times and geometry as they are written.

Here: a stream of features out of a text of any length, as batches.
Not here: the text itself (`json_text.py`), the type of each property (`geojson_columns.py`), its CRS
(`geojson_crs.py`), WKB of each geometry (`geojson_wkb.py`), what becomes of it (`geometry.py`).

GDAL is not used: its driver drops ids that repeat or are text, makes 2**53 + 1 a double beside 1.5, makes NULL of a
geometry that it cannot read, and parses the text five times until it is in a table; this module parses it three times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.encodings import encoding_of_text, find_codec
from geo_assets.vector.reader.batches import BATCH_ROWS, Batch, LayerRef, OpenLayer, places
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.geojson_columns import Column, Schema, array_of, properties_of, scalar
from geo_assets.vector.reader.geojson_crs import DeclaredCrs
from geo_assets.vector.reader.geojson_wkb import COLLECTION, DEPTHS, BadGeometryError, to_wkb
from geo_assets.vector.reader.json_text import Window
from geo_assets.vector.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.reader.sources import Dataset

#: Most coordinates of a batch, and most bytes of WKB.
_BATCH_BYTES = 32 * 1024**2


NO_FEATURE = "not a GeoJSON feature"


@contextmanager
def open_geojson(ref: LayerRef, *, attributes: bool) -> Iterator[OpenLayer]:  # noqa: ARG001 - as every opener
    """One pass over a file, after one that finds out its columns.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, it is JSON of another kind; TOO_LARGE.
    """
    encoding = _codec_of(ref.dataset) or encoding_of_text(ref.dataset.path)
    schema = Schema()
    text = _Document(ref.dataset, encoding)
    for feature in text.features():
        schema.add(feature)
    schema.finish()
    crs = text.declared.settle(ref.dataset.name, overridden=ref.dataset.options.override_crs)
    findings = Findings()
    notes = [] if encoding.startswith("utf") else [f"it is not UTF-8; its text was read as {encoding}"]
    columns = schema.columns(findings)

    def batches(only: Collection[int] | None) -> Iterator[Batch]:
        rows: list[_Row] = []
        first, size = 1, 0
        for feature in _Document(ref.dataset, encoding).features():
            rows.append(_Row.of(feature))
            size += len(rows[-1].wkb or b"")
            if len(rows) == BATCH_ROWS or size > _BATCH_BYTES:
                yield _batch(rows, columns, only, first, findings)
                first, size = first + len(rows), 0
                rows = []
        if rows:
            yield _batch(rows, columns, only, first, findings)

    yield OpenLayer(
        [column.name for column in columns],
        [arrow_type(column.wire) for column in columns],
        crs,
        batches,
        warnings=notes,
        findings=findings,
    )


def _codec_of(dataset: Dataset) -> str | None:
    return find_codec(dataset.options.encoding) if dataset.options.encoding else None


class _Document:
    """The features of a file, each parsed separately; and the CRS that they name, known once all are read."""

    def __init__(self, dataset: Dataset, encoding: str) -> None:
        self._dataset = dataset
        self._encoding = encoding
        self.declared = DeclaredCrs()

    def features(self) -> Iterator[Any]:
        """Yield everything that is in the place of a feature."""
        with self._dataset.path.open(encoding=self._encoding, errors="surrogateescape", newline="") as file:
            window = Window(file, self._dataset.name)
            found = False
            while window.next_character(skip="\x1e"):
                found = True
                yield from self._document(window)
            if not found:
                raise GeoAssetsError("UNREADABLE", f"{self._dataset.name} holds no JSON")

    def _document(self, window: Window) -> Iterator[Any]:
        """Read one object of the text: a collection, whose features are yielded one by one, a feature or a geometry."""
        if window.next_character() != "{":
            raise window.fault("an object is expected")
        members: dict[str, Any] = {}
        collection = inherits = False
        for key in window.keys():  # noqa: SIM118 - a generator that moves on
            if key == "features" and window.next_character() == "[":
                collection = True
                for feature in window.elements():
                    inherits |= self.declared.add(feature)
                    yield feature
            else:
                members[key] = window.value()
        inherits |= not collection and self.declared.add(members)
        if "crs" in members:
            self.declared.say(members["crs"])
        elif inherits:
            self.declared.say_nothing()
        kind = members.get("type")
        if collection and kind in {"FeatureCollection", None}:
            return
        if collection or not (kind == "Feature" or kind in DEPTHS or kind == COLLECTION):
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED", f"{self._dataset.name} is JSON, but not GeoJSON (its type is {str(kind)[:40]!r})"
            )
        yield members


@dataclass(slots=True)
class _Row:
    """One feature, split into its parts."""

    ident: Any
    properties: dict[str, Any]
    wkb: bytes | None
    fault: str | None = None

    @classmethod
    def of(cls, feature: Any) -> _Row:
        """Split whatever is in the place of a feature."""
        if not isinstance(feature, dict):
            return cls(None, {}, None, NO_FEATURE)
        bare = feature.get("type") in DEPTHS or feature.get("type") == COLLECTION
        if not bare and feature.get("type") != "Feature" and "geometry" not in feature:
            return cls(None, {}, None, NO_FEATURE)
        geometry = feature if bare else feature.get("geometry")
        properties = properties_of(feature)
        ident = None if bare else scalar(feature.get("id"))
        if geometry is None:
            return cls(ident, properties, None)
        try:
            return cls(ident, properties, to_wkb(geometry))
        except BadGeometryError as error:
            return cls(ident, properties, None, str(error))
        except OverflowError:
            return cls(ident, properties, None, "coordinates are not finite numbers")


def _batch(
    rows: list[_Row], columns: list[Column], only: Collection[int] | None, first: int, findings: Findings
) -> Batch:
    import pyarrow as pa

    arrays: list[pa.Array | None] = []
    for position, column in enumerate(columns):
        if only is not None and position not in only:
            arrays.append(None)
            continue
        values = [row.ident if column.key is None else row.properties.get(column.key) for row in rows]
        arrays.append(array_of(values, column, findings))
    faults = {place: row.fault for place, row in enumerate(rows) if row.fault is not None}
    return Batch(arrays, pa.array([row.wkb for row in rows], pa.binary()), faults, places(first, len(rows)))
