"""The second call of the sandboxed child for a vector source: send one layer (`stream`).

Here: batches in the table's types, CRS and geometry type, and counts of what was sent. No Dagster, database or network.
Not here: the plan that it follows (`inspect.py`), loading (`../tables/`).
"""

from __future__ import annotations

import shutil
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from geo_assets.errors import GeoAssetsError
from geo_assets.text import how_many
from geo_assets.vector.ends import Way, way_between
from geo_assets.vector.ipc import MOST_BYTES
from geo_assets.vector.models import (
    ColumnPlan,
    Found,
    GeometryType,
    LayerPlan,
    StreamReport,
    StreamRequest,
)
from geo_assets.vector.reader import geometry
from geo_assets.vector.reader.batches import Batch, LayerRef, NotAsStated, OpenLayer
from geo_assets.vector.reader.conversion import as_json, convert
from geo_assets.vector.reader.filters import LayerFilter, Selection, crs_of, filter_of
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.inspect import Inspection
from geo_assets.vector.reader.layers import open_layer
from geo_assets.vector.reader.simple import Sound, moved
from geo_assets.vector.reader.sources import prepare
from geo_assets.vector.reader.survey import Survey, check_kept, is_of
from geo_assets.vector.reader.threads import BATCH_BYTES, THREADS, in_order
from geo_assets.vector.reader.wkb import CODES_OF, COLLECTION, Headers, promote_wkb, to_wkb
from geo_assets.vector.schemas import reject_schema, wire_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from pyproj import CRS

#: Bytes of the largest row, without the metadata of its message.
_LARGEST_ROW = MOST_BYTES - 1024**2

_COPY_BYTES = 1024**2


def stream(request: StreamRequest, sink: BinaryIO) -> StreamReport:
    """Write one layer as an Arrow IPC stream: the plan's columns in order, then `geom` as WKB in the table's CRS; then
    a second stream with the rejected features (`schemas.REJECT_COLUMNS`).

    Args:
        request: the source and the plan that `inspect` made of the layer.
        sink: where both streams are written; at most 8192 rows and 32 MiB at once.

    Raises:
        GeoAssetsError: the file cannot be read to its end, a value does not fit its column, or no feature can be kept.
        BrokenPipeError: the other end of the sink is closed.
    """
    import pyarrow as pa

    plan = request.plan
    ref = _find(request)
    attributes = plan.options.attribute_tables
    with (
        open_layer(ref, attributes=attributes) as layer,
        tempfile.TemporaryFile(dir=Path(request.source).parent) as spool,
    ):
        rejects = pa.ipc.new_stream(spool, reject_schema())
        sender = _Sender(plan, filter_of(ref, layer, plan.options), crs_of(layer, plan.options), ref.title)
        writer = pa.ipc.new_stream(sink, sender.schema)
        batches = layer.read({column.position for column in plan.columns} | sender.filter.positions)
        for sendable, rejected in sender.sent(batches):
            for piece in _bounded(sendable):
                writer.write_batch(piece)
            for piece in _bounded(rejected) if rejected is not None else ():
                rejects.write_batch(piece)
        as_planned = sender.is_whole(layer)
        found = _found(request, ref, layer, sender.survey) if plan.looked_at_later and as_planned else None
        if as_planned:
            sender.check_kept()
        writer.close()
        rejects.close()
        spool.seek(0)
        shutil.copyfileobj(spool, sink, _COPY_BYTES)
    return replace(sender.report(layer.findings), found=found, as_planned=as_planned)


def _found(request: StreamRequest, ref: LayerRef, layer: OpenLayer, survey: Survey) -> Found:
    """What the plan would have said if its layer had been looked at before.

    Raises:
        GeoAssetsError: as `inspect`.
    """
    return Found.of(Inspection.of(request).found(ref, layer, survey))


def _find(request: StreamRequest) -> LayerRef:
    plan = request.plan
    source = prepare(Path(request.source), max_unpacked_bytes=request.max_unpacked_bytes, options=plan.options)
    for dataset in source.datasets:
        if dataset.member == plan.member and dataset.format.value == plan.driver:
            return LayerRef(dataset, plan.layer_index, plan.layer, plan.sound_values, plan.looked_at_later)
    raise GeoAssetsError(
        "UNREADABLE", f"{source.name} is not the file that was inspected: {plan.label or plan.driver} is gone"
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The geometry of a batch, ready to send, and what happens to its features."""

    wkb: pa.Array
    keep: NDArray[np.bool_] | None = None  # None: all
    reasons: dict[int, str] = field(default_factory=dict)
    repairs: Counter[str] = field(default_factory=Counter)
    filtered: int = 0
    elsewhere: int = 0
    looked_at: tuple[Sound, geometry.Cleaned] | None = None  # for the survey
    headers: Headers | None = None  # for it, where geometry is trusted
    differs: bool = False  # the plan does not fit


class _Sender:
    """Converts a layer's batches for sending, and counts."""

    def __init__(self, plan: LayerPlan, layer_filter: LayerFilter, crs: CRS | None, title: str) -> None:
        self._plan = plan
        self.filter = layer_filter
        self._title = title
        self.schema = wire_schema(plan.columns, geometry=plan.geometry_type is not None)
        self.survey = Survey.of(crs)
        self.differs = False  # the layer is not what its file states
        self._rows = self._geometries = self._filtered = self._elsewhere = self._seen = 0
        self._last: int | None = None  # id, of a layer that is looked at while it is sent
        self._rejected: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()

    @property
    def threads(self) -> int:
        """Return the number of threads: one where bytes are sent unchanged, or where a prepared box is used, which is
        not thread-safe.
        """
        plan = self._plan
        as_is = (plan.wkb_as_is and not plan.looked_at_later) or plan.geometry_type is None
        return 1 if as_is or self.filter.reads_geometry else THREADS

    def prepare(self, batch: Batch) -> tuple[Selection, _Prepared | None]:
        """Do the expensive work, without counting: any thread may call it."""
        selected = self.filter.apply(batch)
        plan = self._plan
        if plan.geometry_type is None:
            return selected, None
        kept = selected.batch
        if plan.wkb_as_is and not self.filter.reads_geometry:
            return selected, self._as_is(kept, plan.geometry_type)
        return selected, self._parsed(kept, plan.geometry_type)

    def _parsed(self, batch: Batch, kind: GeometryType) -> _Prepared:
        """Parse what cannot be made of bytes alone."""
        import pyarrow as pa
        import pyarrow.compute as pc

        plan = self._plan
        way = way_between(plan.source_crs, plan.srid) if plan.transform_name is not None else None
        later = way is not None and plan.part is None and not self.filter.reads_geometry
        made = self._moved(batch, kind, way) if way and later else pa.nulls(len(batch.wkb), pa.binary())
        rest = np.asarray(made.is_null())
        rows = np.flatnonzero(rest)
        cleaned = self.filter.clean(batch.geometries(rest), sound=plan.sound, unchecked=later)
        mine = self._mine(cleaned)
        geometry.fit(cleaned, kind, has_z=plan.has_z, way=way, trust=plan.options.trust_geometry)
        reasons = {int(rows[row]): reason for row, reason in sorted(cleaned.reasons.items()) if mine[row]}
        repairs = Counter(reason for row, reason in cleaned.repairs.items() if mine[row])
        keep = np.ones(len(rest), dtype=bool)
        keep[rows[~mine]] = False
        keep[[*reasons, *(int(rows[row]) for row in cleaned.filtered)]] = False
        wkb = to_wkb(cleaned.geometries, has_z=plan.has_z)
        wkb = wkb if rest.all() else pc.replace_with_mask(made, pa.array(rest), wkb)
        elsewhere = int((~mine).sum())
        return _Prepared(wkb, None if keep.all() else keep, reasons, repairs, len(cleaned.filtered), elsewhere)

    def _moved(self, batch: Batch, kind: GeometryType, way: Way) -> pa.Array:
        """The transformed geometries of a batch whose bytes are enough for it; null for the others."""
        import pyarrow as pa
        import pyarrow.compute as pc

        plan, wkb = self._plan, batch.wkb
        if batch.faults:
            return pa.nulls(len(wkb), pa.binary())
        found = moved(
            wkb,
            Headers.of(wkb),
            way,
            self.filter.domain,
            geometry.PLAUSIBLE,
            has_z=plan.has_z,
            trust=plan.options.trust_geometry,
        )
        made = pc.coalesce(found.sound, geometry.valid_of(found.unproven))
        return promote_wkb(made, kind, has_z=plan.has_z)

    def _as_is(self, batch: Batch, kind: GeometryType) -> _Prepared:
        """Send the bytes unchanged; only features that a survey marked are looked at, or those that are not sound by
        their bytes where nobody looked at them before, and only those are written anew whose bytes are not right.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        plan, trust = self._plan, self._plan.options.trust_geometry
        headers = Headers.of(batch.wkb) if plan.looked_at_later else None
        if headers is not None and not self._fits(headers, batch):
            return _Prepared(batch.wkb, differs=True)
        wkb = promote_wkb(batch.wkb, kind, has_z=plan.has_z)
        if headers is not None and trust:
            return _Prepared(wkb, headers=headers)
        looked_at = None
        if headers is not None:
            sound, cleaned = self.filter.look(batch, headers)
            mask, looked_at = ~sound.rows, (sound, cleaned.copy())
        else:
            mask = self._marked(len(wkb))
            if not mask.any():
                return _Prepared(wkb)
            cleaned = self.filter.clean(batch.geometries(mask))
        rows = np.flatnonzero(mask)
        anew = np.asarray(sorted(cleaned.changed), dtype=np.intp)
        if len(anew):
            written = cleaned.only(anew)
            geometry.fit(written, kind, has_z=plan.has_z)
            mask = np.zeros(len(wkb), dtype=bool)
            mask[rows[anew]] = True
            wkb = pc.replace_with_mask(wkb, pa.array(mask), to_wkb(written.geometries, has_z=plan.has_z))
        reasons = {int(rows[row]): reason for row, reason in sorted(cleaned.reasons.items())}
        keep = np.ones(len(wkb), dtype=bool)
        keep[list(reasons)] = False
        return _Prepared(wkb, keep if reasons else None, reasons, cleaned.repaired, looked_at=looked_at)

    def _fits(self, headers: Headers, batch: Batch) -> bool:
        """Whether a batch can be sent by the plan: its geometries are of the table's kind and dimension. Those that
        are none are rejected; trusted ones need no work at all.
        """
        plan = self._plan
        if plan.options.trust_geometry and (batch.faults or not headers.need_nothing):
            return False
        known = (headers.codes > 0) & (headers.codes <= COLLECTION)
        of_its_kind = np.isin(headers.codes, CODES_OF[plan.geometry_type or "GEOMETRY"])
        return bool((~known | (of_its_kind & (headers.has_z == plan.has_z))).all())

    def _marked(self, count: int) -> NDArray[np.bool_]:
        """Which of the next features a survey marked. Called by one thread, because it counts positions."""
        changed, first = self._plan.changed, self._seen
        self._seen += count
        low, high = (bisect_left(changed, place) for place in (first, self._seen))
        mask = np.zeros(count, dtype=bool)
        mask[np.array(changed[low:high], dtype=np.int64) - first] = True
        return mask

    def convert(self, selected: Selection, prepared: _Prepared | None) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """Return one batch to send, and its rejected features, if any; count them."""
        import pyarrow as pa

        main, kept = self._plan.main, selected.batch
        if self._plan.looked_at_later and (not self._ascend(kept.fids) or (prepared and prepared.differs)):
            self.differs = True
            return pa.RecordBatch.from_pylist([], schema=self.schema), None
        self._filtered += selected.filtered if main else 0
        self._elsewhere += 0 if main else selected.filtered
        arrays = [self._column(column, kept) for column in self._plan.columns]
        if prepared is None:
            self._rows += len(kept.wkb)
            return pa.record_batch(arrays, schema=self.schema), None
        if prepared.looked_at is not None:
            self.survey.add(*prepared.looked_at, filtered=selected.filtered, linearised=kept.linearised)
        if prepared.headers is not None and self._plan.bounds is not None:
            self.survey.add_headers(prepared.headers, self._plan.bounds, filtered=selected.filtered)
        self._rejected.update(prepared.reasons.values())
        self._repaired.update(prepared.repairs)
        self._filtered += prepared.filtered if main else 0
        self._elsewhere += prepared.elsewhere
        result = pa.record_batch([*arrays, prepared.wkb], schema=self.schema)
        result = result if prepared.keep is None else result.filter(pa.array(prepared.keep))
        self._rows += len(result)
        self._geometries += len(result) - result.column(len(arrays)).null_count
        return result, self._rejects(kept, arrays, prepared.reasons) if prepared.reasons else None

    def _ascend(self, fids: pa.Array) -> bool:
        """Whether the ids of a batch are greater than all before, each than the one before it: none is there twice."""
        numbers = fids.to_numpy()
        if not len(numbers):
            return True
        before, self._last = self._last, int(numbers[-1])
        return (before is None or int(numbers[0]) > before) and bool((numbers[1:] > numbers[:-1]).all())

    def _column(self, column: ColumnPlan, batch: Batch) -> pa.Array:
        import pyarrow as pa

        try:
            return convert(batch.columns[column.position], column.arrow_type, self._notes)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            said = " ".join(str(error).split())[:200]
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED_TYPE",
                f"column {column.source_name!r} of {self._title} cannot be loaded as {column.sql_type}: {said}",
            ) from error

    def _mine(self, cleaned: geometry.Cleaned) -> NDArray[np.bool_]:
        """Return which features belong to this table; the geometries of the others are removed."""
        plan = self._plan
        if plan.part is None:
            return np.ones(len(cleaned.geometries), dtype=bool)
        codes = cleaned.codes
        mine: NDArray[np.bool_] = is_of(codes, plan.part) | ((codes == 0) & plan.main)
        cleaned.geometries[~mine] = None
        return mine

    def _rejects(self, batch: Batch, arrays: list[pa.Array], reasons: dict[int, str]) -> pa.RecordBatch:
        import pyarrow as pa

        rows = pa.array(list(reasons), pa.int64())
        chosen = self._plan.columns
        texts = {
            i: {column.name: batch.texts[row][column.position] for column in chosen}
            for i, row in enumerate(reasons)
            if row in batch.texts
        }
        names = [column.name for column in chosen]
        attributes = as_json(names, [array.take(rows) for array in arrays], len(reasons), self._notes, texts)
        columns = [
            batch.fids.take(rows),
            pa.array(reasons.values(), pa.string()),
            batch.wkb.take(rows).cast(pa.binary()),
            attributes,
        ]
        return pa.record_batch(columns, schema=reject_schema())

    def report(self, findings: Findings) -> StreamReport:
        """Return the counts of what was sent; findings about values are reported once, for the layer's main table."""
        notes = (
            *(f"{how_many(count, 'value is', 'values are')} {note}" for note, count in self._notes.items()),
            *(findings.warnings() if self._plan.main else ()),
        )
        return StreamReport(
            rows=self._rows,
            filtered=self._filtered,
            rejected=dict(self._rejected),
            repaired=dict(self._repaired),
            warnings=notes,
        )

    def sent(self, batches: Iterator[Batch]) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch | None]]:
        """Yield what is sent of each batch, and what is rejected, until the layer turns out to be another."""
        try:
            for selected, prepared in in_order(batches, self.prepare, threads=self.threads):
                made = self.convert(selected, prepared)
                if self.differs:
                    return
                yield made
        except NotAsStated:
            self.differs = True

    def is_whole(self, layer: OpenLayer) -> bool:
        """Whether no feature was lost; False where its file may have stated something else than what there is.

        Raises:
            GeoAssetsError: UNREADABLE, there were others when it was looked at; or its table is damaged.
        """
        plan = self._plan
        mine = self._rows + sum(self._rejected.values()) + self._filtered
        is_whole = mine == plan.feature_count and mine + self._elsewhere == plan.feature_count + plan.elsewhere
        if plan.looked_at_later:
            has_some = bool(self._geometries or self._rejected)  # a header states a kind also where there is none
            return not self.differs and is_whole and has_some and layer.last() == self._last
        if not is_whole:
            raise GeoAssetsError(
                "UNREADABLE",
                f"{self._title} had {how_many(plan.feature_count, 'feature')} when it was inspected and has {mine} now",
            )
        return True

    def check_kept(self) -> None:
        """Check that at least one geometry is kept."""
        if self._plan.geometry_type is not None:
            check_kept(self._geometries, self._rejected, self._title)


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the batch in pieces of at most 32 MiB; a single row may be larger, up to what the parent accepts."""
    if len(batch) == 1 and batch.nbytes > _LARGEST_ROW:
        raise GeoAssetsError("TOO_LARGE", f"a feature of {batch.nbytes:,} bytes is in it; {_LARGEST_ROW:,} are allowed")
    if len(batch) > 1 and batch.nbytes > BATCH_BYTES:
        half = len(batch) // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))
    elif len(batch):
        yield batch
