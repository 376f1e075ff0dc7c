"""Selection from a layer: columns, condition, box, policies, applied to each batch in the same way on every pass.

Here: `LayerFilter`, made once per layer and pass. Not here: the grammar (`../where.py`), what is done to a geometry
(`geometry.py`).

The order is fixed, so that each feature is counted once: features that do not meet the condition are filtered; of the
rest, those that cannot be kept are rejected; of the rest, those that do not touch the box are filtered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geo_assets.epsg import parse_code
from geo_assets.errors import GeoAssetsError
from geo_assets.vector.boxes import Box
from geo_assets.vector.crs import domain_of, parse_file_crs
from geo_assets.vector.models import LayerOptions
from geo_assets.vector.reader import geometry
from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer
from geo_assets.vector.reader.conditions import evaluate
from geo_assets.vector.reader.conversion import convert, wire_type
from geo_assets.vector.reader.layers import open_layer
from geo_assets.vector.reader.simple import Sound, inside, sound
from geo_assets.vector.reader.wkb import COLLECTION, Headers
from geo_assets.vector.types import FEWER_COLUMNS, MOST_COLUMNS
from geo_assets.vector.where import columns_of, find_column, parse

if TYPE_CHECKING:
    import pyarrow as pa
    from pyproj import CRS


@dataclass(slots=True)
class Selection:
    """What remains of a batch, and how many features the condition excluded."""

    batch: Batch
    filtered: int


class LayerFilter:
    """The filters of one layer. Made for a pass, with the layer's columns and CRS."""

    def __init__(
        self, options: LayerOptions, names: list[str], wire: Callable[[int], str], crs: CRS | None, title: str
    ) -> None:
        """`wire` returns the wire type of a column by its position; called only for columns that a condition names.

        Raises:
            GeoAssetsError: INVALID_FILTER; UNKNOWN_COLUMN.
        """
        self._options = options
        self._condition = parse(options.where) if options.where else None
        wanted = columns_of(self._condition) if self._condition else set()
        self._positions = {name: find_column(name, names, "the where condition", title) for name in wanted}
        self._wires = {position: wire(position) for position in self._positions.values()}
        self.domain = domain_of(crs) if crs else None  # where geometries can be
        self._box = None
        if options.bbox is not None and crs is not None:
            self._box = Box.of(options.bbox, parse_code(options.bbox_crs), crs, title)
        self._title = title

    @property
    def positions(self) -> set[int]:
        """Return the columns that the condition uses."""
        return set(self._positions.values())

    def apply(self, batch: Batch) -> Selection:
        """Return the features that meet the condition."""
        if self._condition is None:
            return Selection(batch, 0)
        import pyarrow.compute as pc

        mask = pc.fill_null(evaluate(self._condition, lambda name: self._column(batch, name)), fill_value=False)
        chosen = mask.to_numpy(zero_copy_only=False)
        left_out = int(len(chosen) - chosen.sum())
        return Selection(batch.keep(chosen) if left_out else batch, left_out)

    def _column(self, batch: Batch, name: str) -> tuple[pa.Array, str]:
        import pyarrow as pa

        position = self._positions[name]
        wire = self._wires[position]
        try:
            return convert(batch.columns[position], wire, Counter()), wire
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise GeoAssetsError(
                "INVALID_FILTER", f"column {name!r} of {self._title} cannot be compared: {str(error)[:200]}"
            ) from error

    def clean(self, batch: Batch, *, sound: bool = False, unchecked: bool = False) -> geometry.Cleaned:
        """Return the remaining geometries: each kept, rejected or filtered.

        Args:
            batch: what `apply` left.
            sound: an earlier pass found nothing to repair or reject.
            unchecked: their validity is checked later.
        """
        options = self._options
        cleaned = geometry.clean(
            batch.wkb, batch.faults, sound=sound, trust=unchecked or options.trust_geometry, domain=self.domain
        )
        if options.mixed == "split":
            cleaned.reject(np.flatnonzero(cleaned.codes == COLLECTION), geometry.COLLECTION_OF_SEVERAL_KINDS)
        nulls = np.flatnonzero(cleaned.headers.codes == 0)
        nulls = nulls[[row not in cleaned.reasons for row in nulls.tolist()]] if cleaned.reasons else nulls
        if options.null_geometry == "reject" and len(nulls):
            cleaned.reject(nulls, geometry.NULL)
        if self._box is not None:
            geometry.reject_not_finite(cleaned)  # GEOS compares no such geometry
            apart = ~self._box.touches(cleaned.geometries)
            apart[list(cleaned.reasons)] = False
            cleaned.leave_out(np.flatnonzero(apart))
        return cleaned

    def look(self, batch: Batch, headers: Headers, *, unchecked: bool = False) -> tuple[Sound, geometry.Cleaned]:
        """Look at every geometry of a batch: which `clean` keeps as they are shows in the bytes of most; it parses the
        others.

        Args:
            batch: what `apply` left.
            headers: of its geometries.
            unchecked: as of `clean`.

        Returns:
            What is sound, and the others, in their order.
        """
        found = Sound.nothing(headers) if self.reads_geometry else self._sound(batch, headers)
        cleaned = self.clean(batch.geometries(~found.rows), unchecked=unchecked)
        return found, cleaned

    def _sound(self, batch: Batch, headers: Headers) -> Sound:
        found = sound(batch.wkb, headers)
        found.rows[list(batch.faults)] = False
        found.rows[~(inside(found.boxes, geometry.PLAUSIBLE) & inside(found.boxes, self.domain))] = False
        return found

    @property
    def takes_all(self) -> bool:
        """Whether it accepts every feature unseen."""
        return self._condition is None and not self.reads_geometry

    @property
    def reads_geometry(self) -> bool:
        """Whether bytes that need no other work must be parsed to filter it."""
        return self._box is not None or self._options.null_geometry == "reject"


def chosen_columns(options: LayerOptions, names: list[str], unused: set[int], title: str) -> list[int]:
    """Return positions of the wanted columns, in the order in which they are named.

    Raises:
        GeoAssetsError: UNKNOWN_COLUMN; VECTOR_UNSUPPORTED_TYPE, more than a table may have.
    """
    if options.columns is None:
        chosen = [i for i in range(len(names)) if i not in unused]
    else:
        wanted = (find_column(name, names, "the list of columns", title) for name in options.columns)
        chosen = list(dict.fromkeys(wanted))
    if len(chosen) > MOST_COLUMNS:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED_TYPE",
            f"{title} has {len(chosen):,} columns, and a table of PostgreSQL at most {MOST_COLUMNS:,} beside gid and"
            " geom",
            remedy=FEWER_COLUMNS,
        )
    return chosen


def filter_of(ref: LayerRef, layer: OpenLayer, options: LayerOptions) -> LayerFilter:
    """Return the filter of an open layer.

    Raises:
        GeoAssetsError: INVALID_FILTER; UNKNOWN_COLUMN.
    """
    return LayerFilter(options, layer.names, _wires(ref, layer, options), crs_of(layer, options), ref.title)


def crs_of(layer: OpenLayer, options: LayerOptions) -> CRS | None:
    """Return the layer's own CRS, else the one given in the options; the other way round only with `override_crs`."""
    said = parse_code(options.source_crs) if options.source_crs else None
    return said if options.override_crs else parse_file_crs(layer.crs) or said


def _wires(ref: LayerRef, layer: OpenLayer, options: LayerOptions) -> Callable[[int], str]:
    """Return a function that gives a column's wire type; text that is typed by its values is read once for it."""
    found: list[str] = []

    def wire(position: int) -> str:
        if layer.types is None:
            return wire_type(layer.names[position], layer.arrow_types[position])
        if not found:
            with open_layer(ref, attributes=options.attribute_tables) as again:
                for _ in again.read(None):
                    pass
                found.extend(again.types() if again.types else ())
        return found[position]

    return wire
