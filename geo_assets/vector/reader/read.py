"""What the sandboxed child does with a vector source: look at it (`inspect`), then send a layer of it (`stream`).

Here: the two calls of the sandbox, in plain Python, without Dagster, database or network.
Not here: the steps themselves (`sources.py`, `layers.py`, `geometry.py`, `crs.py`, `conversion.py`), loading (`tables/`).
"""

from __future__ import annotations

import math
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from geo_assets.epsg import parse_code
from geo_assets.errors import GeoAssetsError
from geo_assets.vector.crs import (
    axes_look_swapped,
    footprint,
    geographic_box,
    heights_of,
    parse_file_crs,
    plan_crs,
    transformer,
)
from geo_assets.vector.ipc import MOST_BYTES
from geo_assets.vector.models import (
    ColumnPlan,
    GeometryType,
    InspectReport,
    InspectRequest,
    LayerOptions,
    LayerPlan,
    Part,
    StreamReport,
    StreamRequest,
)
from geo_assets.vector.names import column_names
from geo_assets.vector.reader import geometry
from geo_assets.vector.reader.conversion import as_json, convert, wire_type
from geo_assets.vector.reader.filters import Sieve, Sifted, chosen_columns
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.layers import (
    Batch,
    LayerRef,
    OpenLayer,
    foreign_layers,
    list_layers,
    open_layer,
    tile_tables,
)
from geo_assets.vector.reader.sources import Dataset, prepare
from geo_assets.vector.schemas import reject_schema, wire_schema
from geo_assets.vector.types import sql_type
from geo_assets.vector.where import parse

if TYPE_CHECKING:
    import pyarrow as pa
    from pyproj import CRS

T = TypeVar("T")

#: Batches that are worked on at once. GEOS and PROJ run outside of Python's lock; more would take the server's core.
_THREADS = 2

#: A batch on the wire: the parent holds a few of them at once. Bytes.
_BATCH_BYTES = 32 * 1024**2

#: A row with all that a message says beside it.
_LARGEST_ROW = MOST_BYTES - 1024**2

_COPY_BYTES = 1024**2

#: What to do with a GeoPackage of tiles, which is a vector by its name.
_AS_A_RASTER = "a job that takes rasters makes a COG of it, and so does: geo-assets cog in.gpkg out.tif"

#: What is wrong with one layer, or one member of an archive, and leaves the others as they are. Not what somebody asked
#: for in vain.
_OF_ONE = frozenset(
    {
        "AXES_SWAPPED", "INCOMPLETE_SHAPEFILE", "INVALID_CRS", "UNREADABLE", "VECTOR_ALL_FILTERED", "VECTOR_ALL_REJECTED", "VECTOR_NO_CRS",
        "VECTOR_NO_GEOMETRY", "VECTOR_NO_LAYERS", "VECTOR_UNSUPPORTED", "VECTOR_UNSUPPORTED_TYPE",
    }
)  # fmt: skip


def inspect(request: InspectRequest) -> InspectReport:
    """Read every layer of a source once and plan the table that it becomes.

    Args:
        request: the source, and what is wanted of it.

    Raises:
        GeoAssetsError: with the code of what is wrong; the source is refused as a whole.
    """
    if request.where:
        parse(request.where)
    inspection = _Inspection(request)
    source = prepare(Path(request.source), max_unpacked_bytes=request.max_unpacked_bytes, options=inspection.options)
    inspection.warnings += source.warnings
    for error in source.left_out:
        inspection.leave_out(error)
    plans = [plan for dataset in source.datasets for plan in inspection.plans(dataset)]
    if not plans:
        raise inspection.nothing(source.name)
    return InspectReport(layers=tuple(plans), warnings=tuple(inspection.warnings), software=software())


def stream(request: StreamRequest, sink: BinaryIO) -> StreamReport:
    """Write one layer as an Arrow IPC stream: the plan's columns in order, then `geom` as WKB in the table's CRS; after
    it, as a second stream, the rejected features (`schemas.REJECT_COLUMNS`).

    Args:
        request: the source and the plan that `inspect` made of the layer.
        sink: takes the streams; at most 8192 rows and 32 MiB at once.

    Raises:
        GeoAssetsError: the file cannot be read to its end, a value has no place in its column, or nothing of it can be
            kept.
        BrokenPipeError: the reader of the sink is gone.
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
        sender = _Sender(plan, _sieve(ref, layer, plan.options), ref.title)
        writer = pa.ipc.new_stream(sink, sender.schema)
        batches = layer.read({column.position for column in plan.columns} | sender.sieve.positions)
        for sifted, prepared in _ahead(batches, sender.prepare, threads=sender.threads):
            sendable, rejected = sender.convert(sifted, prepared)
            for piece in _bounded(sendable):
                writer.write_batch(piece)
            for piece in _bounded(rejected) if rejected is not None else ():
                rejects.write_batch(piece)
        sender.check()
        writer.close()
        rejects.close()
        spool.seek(0)
        shutil.copyfileobj(spool, sink, _COPY_BYTES)
    return sender.report(layer.findings)


def software() -> dict[str, str]:
    """Versions of everything that has a part in what a table holds."""
    import pyarrow as pa
    import pyogrio
    import pyproj
    import shapely

    return {
        "gdal": pyogrio.__gdal_version_string__,
        "geos": shapely.geos_version_string,
        "proj": pyproj.proj_version_str,
        "pyarrow": pa.__version__,
        "pyogrio": pyogrio.__version__,
        "pyproj": pyproj.__version__,
        "shapely": shapely.__version__,
    }


def _sieve(ref: LayerRef, layer: OpenLayer, options: LayerOptions) -> Sieve:
    return Sieve(options, layer.names, _wires(ref, layer, options), _crs_of(layer, options), ref.title)


def _crs_of(layer: OpenLayer, options: LayerOptions) -> CRS | None:
    """What the layer says, else what is said of it; the other way round only where that is asked for."""
    said = parse_code(options.source_crs) if options.source_crs else None
    return said if options.override_crs else parse_file_crs(layer.crs) or said


def _wires(ref: LayerRef, layer: OpenLayer, options: LayerOptions) -> Callable[[int], str]:
    """A column's wire type; text that is typed by its values is read through for it."""
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


class _Inspection:
    """One look at a source: what is asked for, what was seen, what is worth saying."""

    def __init__(self, request: InspectRequest) -> None:
        self._request = request
        self.options = LayerOptions(**{name: getattr(request, name) for name in LayerOptions.model_fields})
        self._source_crs = parse_code(request.source_crs) if request.source_crs else None
        self._target_crs = parse_code(request.target_crs) if request.target_crs else None
        self._seen: list[str] = []
        self._faults: list[GeoAssetsError] = []
        self.warnings: list[str] = []

    def leave_out(self, error: GeoAssetsError) -> None:
        """Go on without what is at fault, and say so.

        Raises:
            GeoAssetsError: this error, where it is not of one layer or member alone, or where somebody named the layer.
        """
        if error.code not in _OF_ONE or self._request.layers is not None:
            raise error
        self._faults.append(error)
        self.warnings.append(f"left out: {error}")

    def nothing(self, name: str) -> GeoAssetsError:
        """Why there is no plan at all."""
        if len(self._faults) == 1:
            return self._faults[0]
        if self._request.layers is not None:
            shown = ", ".join(repr(layer[:63]) for layer in self._seen[:20])
            return GeoAssetsError(
                "UNKNOWN_LAYER",
                f"{name} has no layer {', '.join(map(repr, self._request.layers))}; its layers are {shown}",
            )
        codes = {error.code for error in self._faults}
        code = codes.pop() if len(codes) == 1 else "VECTOR_NO_LAYERS"
        if code == "VECTOR_ALL_FILTERED":
            return GeoAssetsError(code, f"the filter leaves nothing of {name} ({'; '.join(self.warnings[:5])})")
        said = f" ({'; '.join(self.warnings[:5])})" if self.warnings else ""
        return GeoAssetsError(code, f"{name} has no layer with features that can be read{said}")

    def plans(self, dataset: Dataset) -> Iterator[LayerPlan]:
        """The plans of a dataset's layers; one that cannot be read is left out with a warning."""
        self.warnings += [
            f"left out: layer {name[:63]!r} of {dataset.name} is {what}, not a table"
            for name, what in self._foreign(dataset)
        ]
        tiles, alone = tile_tables(dataset)
        self.warnings += [
            f"left out: {name[:63]!r} of {dataset.name} holds tiles, which are a raster: {_AS_A_RASTER}"
            for name in tiles
        ]
        if alone:
            told = f"{dataset.name} holds tiles, which are a raster, and no features"
            self.leave_out(GeoAssetsError("VECTOR_NO_LAYERS", told, remedy=_AS_A_RASTER))
            return
        try:
            refs = list_layers(dataset, attributes=self.options.attribute_tables)
            if not refs:
                raise GeoAssetsError("VECTOR_NO_LAYERS", f"{dataset.name} has no layer with geometry")  # noqa: TRY301 - of this dataset alone
        except GeoAssetsError as error:
            self.leave_out(error)
            return
        for ref in refs:
            name = ref.layer or dataset.stem
            self._seen.append(name)
            if self._request.layers is None or name in self._request.layers:
                try:
                    yield from self._layer(ref)
                except GeoAssetsError as error:
                    self.leave_out(error)

    def _foreign(self, dataset: Dataset) -> list[tuple[str, str]]:
        return [(name, dataset.left_out[name]) for name in foreign_layers(dataset)]

    def _layer(self, ref: LayerRef) -> Iterator[LayerPlan]:
        with open_layer(ref, attributes=self.options.attribute_tables) as layer:
            crs = _crs_of(layer, self.options)
            sieve = _sieve(ref, layer, self.options)
            chosen_columns(self.options, layer.names, set(), ref.title)  # before anything is read for nothing
            if crs is None and self.options.bbox is not None:
                raise _no_crs(ref)
            check = self._checks(crs)
            survey = _survey(
                layer, sieve, crs, trust=self.options.trust_geometry, check=check, whole=self._request.thorough
            )
        if layer.declared and survey.features < layer.declared:
            raise GeoAssetsError(
                "UNREADABLE", f"{ref.title} is cut off: it has {survey.features:,} of {layer.declared:,} features"
            )
        lacks = self._lack(survey, ref.title)
        if lacks is not None:
            raise lacks
        if survey.nulls == survey.features - survey.filtered:
            yield self._attribute_plan(ref, layer, survey)
        else:
            yield from self._geometry_plans(ref, layer, survey, crs, checked=check)

    def _checks(self, crs: CRS | None) -> bool:
        """Whether this pass looks for invalid geometry. What is to be transformed is looked at once it is."""
        moves = (
            crs is not None
            and self._target_crs is not None
            and not crs.equals(self._target_crs, ignore_axis_order=True)
        )
        return self._request.thorough or not moves

    def _lack(self, survey: geometry.Survey, title: str) -> GeoAssetsError | None:
        left = survey.features - survey.filtered
        if survey.features == 0:
            return GeoAssetsError("VECTOR_NO_LAYERS", f"{title} has no feature")
        if left == 0:
            return GeoAssetsError(
                "VECTOR_ALL_FILTERED", f"the filter leaves none of the {survey.features:,} features of {title}"
            )
        if survey.nulls == left and not self.options.attribute_tables:
            return GeoAssetsError("VECTOR_NO_GEOMETRY", f"{title} has no geometry in its {left} features")
        return None

    def _common(self, ref: LayerRef, layer: OpenLayer) -> dict[str, Any]:
        return {
            "member": ref.dataset.member,
            "layer": ref.layer,
            "layer_index": ref.index,
            "driver": ref.dataset.format.value,
            "columns": self._columns(layer, ref.title),
            "options": self.options,
            "encoding": layer.encoding,
        }

    def _columns(self, layer: OpenLayer, title: str) -> tuple[ColumnPlan, ...]:
        positions = chosen_columns(self.options, layer.names, layer.unused(), title)
        found = layer.types() if layer.types else None
        wires = [found[i] if found else wire_type(layer.names[i], layer.arrow_types[i]) for i in positions]
        names = column_names([layer.names[i] for i in positions])
        return tuple(
            ColumnPlan(position=i, source_name=layer.names[i], name=name, arrow_type=wire, sql_type=sql_type(wire))
            for i, name, wire in zip(positions, names, wires, strict=True)
        )

    def _attribute_plan(self, ref: LayerRef, layer: OpenLayer, survey: geometry.Survey) -> LayerPlan:
        common = self._common(ref, layer)
        if not common["columns"]:
            raise GeoAssetsError("VECTOR_NO_GEOMETRY", f"{ref.title} has neither geometry nor attributes")
        return LayerPlan(
            **common,
            geometry_type=None,
            feature_count=survey.features,
            filtered=survey.filtered,
            null_geometries=survey.nulls,
            warnings=(*layer.warnings, "it has no geometry: a table of attributes"),
        )

    def _geometry_plans(
        self, ref: LayerRef, layer: OpenLayer, survey: geometry.Survey, crs: CRS | None, *, checked: bool
    ) -> Iterator[LayerPlan]:
        if crs is not None and axes_look_swapped(crs, survey.whole_bounds):
            raise GeoAssetsError(
                "AXES_SWAPPED",
                f"x and y of {ref.title} look swapped: it lies outside the area of {crs.name!r}, and inside the other"
                " way round",
            )
        _check_kept(survey.kept, survey.rejected, ref.title)
        if survey.mixed and self.options.mixed == "reject":
            raise GeoAssetsError(
                "VECTOR_MIXED_GEOMETRY",
                f"{ref.title} mixes kinds of geometry, which one table cannot hold: {survey.type_counts()}",
            )
        if crs is None:
            raise _no_crs(ref)
        bounds = survey.total.bounds
        way = plan_crs(crs, self._target_crs, bounds, ref.title, max_accuracy_m=self.options.max_transform_accuracy_m)
        notes = [
            *layer.warnings,
            *way.warnings,
            *_survey_warnings(survey),
            *self._crs_warnings(layer, f"{way.authority}:{way.srid}", survey),
        ]
        notes += layer.findings.warnings() if self._request.thorough else ()
        common = {
            **self._common(ref, layer),
            "srid": way.srid,
            "authority": way.authority,
            "source_crs": way.source,
            "crs_name": way.name,
            "transform_name": way.transform_name,
            "transform_accuracy_m": way.accuracy_m,
            "sound": survey.untouched and checked,
            "sound_values": survey.sound_values,
            "wkb_as_is": survey.wkb_as_is and checked and way.transform_name is None,
            "changed": (
                tuple(survey.changed or ()) if survey.wkb_as_is and checked and way.transform_name is None else ()
            ),
        }
        for part, geometry_type, tally, main in _parts(survey, split=self.options.mixed == "split"):
            yield LayerPlan(
                **common,
                **_tallied(survey, tally, way.source, main=main),
                part=part,
                geometry_type=geometry_type,
                warnings=tuple(notes if main else ()),
            )

    def _crs_warnings(self, layer: OpenLayer, code: str, survey: geometry.Survey) -> Iterator[str]:
        file_crs, said = parse_file_crs(layer.crs), self._source_crs
        if file_crs is not None and said is not None and not file_crs.equals(said, ignore_axis_order=True):
            if self.options.override_crs:
                yield f"the file says that it is in {file_crs.name!r}; it was read as {said.name!r}, as was asked for"
            else:
                yield (
                    f"source_crs was not used: the file says that it is in {file_crs.name!r} (override_crs makes it"
                    " count)"
                )
        heights = heights_of(layer.crs)
        if heights is not None and (survey.total.with_z or heights.named):
            yield (
                f"its heights are {heights.name}, which the vertical half of its CRS says and {code} does not; they are"
                " kept as they are"
            )


def _survey(
    layer: OpenLayer, sieve: Sieve, crs: CRS | None, *, trust: bool, check: bool, whole: bool
) -> geometry.Survey:
    """One pass over a layer. Where geometry is trusted and the file knows its extent, the headers of the WKB are
    enough; of a GeoPackage SQLite says them, and whether every value is sound.

    `whole`: every column is read, so that what is wrong with its values is found.
    """
    half = math.pi / crs.axis_info[0].unit_conversion_factor if crs is not None and crs.is_geographic else None
    survey = geometry.Survey(widest=half)
    bounds = layer.bounds if trust and not sieve.reads_geometry else None
    scan = layer.scan() if bounds and sieve.takes_all and not whole else None
    if scan is not None and bounds is not None and scan.headers.need_nothing:
        survey.add_alike(scan.headers, scan.geometries, scan.nulls, bounds)
        survey.sound_values = not scan.odd
        return survey

    def look(batch: Batch) -> tuple[Sifted, geometry.Headers | geometry.Cleaned]:
        sifted = sieve.sift(batch)
        headers = geometry.Headers.of(sifted.batch.wkb) if bounds else None
        as_it_is = headers is not None and headers.need_nothing and not sifted.batch.faults
        return sifted, headers if headers is not None and as_it_is else sieve.clean(sifted.batch, unchecked=not check)

    for sifted, found in _ahead(
        layer.read(None if whole else sieve.positions), look, threads=1 if bounds or sieve.reads_geometry else _THREADS
    ):
        if isinstance(found, geometry.Cleaned):
            survey.add(found, filtered=sifted.filtered, linearised=sifted.batch.linearised)
        elif bounds is not None:
            survey.add_headers(found, bounds, filtered=sifted.filtered)
    return survey


def _ahead(batches: Iterator[Batch], work: Callable[[Batch], T], *, threads: int) -> Iterator[T]:
    """The work's results in order; while one is used, the next are made. A batch that is large is worked on alone."""
    if threads == 1:
        yield from map(work, batches)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for batch in batches:
            while waiting and (len(waiting) > threads or batch.wkb.nbytes > _BATCH_BYTES):
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, batch))
            if batch.wkb.nbytes > _BATCH_BYTES:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _parts(survey: geometry.Survey, *, split: bool) -> Iterator[tuple[Part | None, GeometryType, geometry.Tally, bool]]:
    """The tables that a layer becomes: one, unless it is mixed and split; and which of them takes what is of
    no kind.
    """
    if not survey.mixed:
        ((kind, tally),) = survey.tallies.items()
        yield None, geometry.table_type(kind, tally), tally, True
    elif split:
        most = geometry.kind_of_most(survey.tallies)
        for kind in sorted(survey.tallies):
            yield (
                geometry.PARTS[kind],
                geometry.table_type(kind, survey.tallies[kind]),
                survey.tallies[kind],
                kind == most,
            )
    else:
        yield None, "GEOMETRY", survey.total, True


def _tallied(survey: geometry.Survey, tally: geometry.Tally, source_crs: str, *, main: bool) -> dict[str, Any]:
    """The account and the extent of one table."""
    rest = survey.features - survey.kept if main else 0
    box = geographic_box(source_crs, tally.bounds)
    return {
        "has_z": tally.with_z > 0,
        "main": main,
        "feature_count": tally.count + rest,
        "elsewhere": survey.features - tally.count - rest,
        "filtered": survey.filtered if main else 0,
        "null_geometries": survey.nulls if main else 0,
        "linearised": survey.linearised if main else 0,
        "m_dropped": survey.with_m if main else 0,
        "rejected_by_reason": dict(survey.rejected) if main else {},
        "repaired_by_reason": dict(tally.repaired),
        "bounds": tally.bounds,
        "bbox_4326": box,
        "footprint": footprint(box),
    }


def _no_crs(ref: LayerRef) -> GeoAssetsError:
    return GeoAssetsError("VECTOR_NO_CRS", f"{ref.title} does not say which CRS its coordinates are in")


def _survey_warnings(survey: geometry.Survey) -> Iterator[str]:
    total = survey.total
    if survey.linearised:
        off = 100 * (1 - math.cos(math.radians(geometry.ARC_STEP_DEGREES / 2)))
        yield f"{survey.linearised} curves became lines, whose chords are at most {off:.2f} % of the radius off"
    if survey.with_m:
        yield f"{survey.with_m} geometries have M values, which were dropped"
    if 0 < total.with_z < survey.kept:
        yield f"{survey.kept - total.with_z} of {survey.kept} geometries have no height and got 0"
    if survey.area_changed:
        yield f"the repair of {survey.area_changed} geometries changed their area by more than 1 %"
    if survey.wide:
        yield (
            f"{survey.wide} geometries are wider than half the globe: if they cross the antimeridian, they must be cut"
            " there"
        )
    if strays := survey.rejected[geometry.OFF_THE_GLOBE]:
        yield f"{strays} geometries lie beyond longitude and latitude: is its CRS right, and longitude first?"


def _check_kept(kept: int, rejected: Counter[str], title: str) -> None:
    if kept == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        raise GeoAssetsError("VECTOR_ALL_REJECTED", f"no geometry of {title} can be kept: {reasons}")


def _find(request: StreamRequest) -> LayerRef:
    plan = request.plan
    source = prepare(Path(request.source), max_unpacked_bytes=request.max_unpacked_bytes, options=plan.options)
    for dataset in source.datasets:
        if dataset.member == plan.member and dataset.format.value == plan.driver:
            return LayerRef(dataset, plan.layer_index, plan.layer, plan.sound_values)
    raise GeoAssetsError(
        "UNREADABLE", f"{source.name} is not the file that was inspected: {plan.label or plan.driver} is gone"
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The geometry of a batch, ready for the wire, and the fate of its features."""

    wkb: pa.Array
    keep: NDArray[np.bool_] | None = None  # None: all
    reasons: dict[int, str] = field(default_factory=dict)
    repairs: Counter[str] = field(default_factory=Counter)
    filtered: int = 0
    elsewhere: int = 0


class _Sender:
    """Turns a layer's batches into what goes over the wire, and keeps the account."""

    def __init__(self, plan: LayerPlan, sieve: Sieve, title: str) -> None:
        self._plan = plan
        self.sieve = sieve
        self._title = title
        self.schema = wire_schema(plan.columns, geometry=plan.geometry_type is not None)
        self._rows = self._geometries = self._filtered = self._elsewhere = self._seen = 0
        self._rejected: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()

    @property
    def threads(self) -> int:
        """As many as the work is worth: bytes that pass as they are need none, and a prepared box is not for
        several.
        """
        as_is = self._plan.wkb_as_is or self._plan.geometry_type is None
        return 1 if as_is or self.sieve.reads_geometry else _THREADS

    def prepare(self, batch: Batch) -> tuple[Sifted, _Prepared | None]:
        """What costs time, and touches no count: any thread may do it."""
        sifted = self.sieve.sift(batch)
        plan = self._plan
        if plan.geometry_type is None:
            return sifted, None
        kept = sifted.batch
        if plan.wkb_as_is and not self.sieve.reads_geometry:
            return sifted, self._as_is(kept, plan.geometry_type)
        later = plan.transform_name is not None and plan.part is None and not self.sieve.reads_geometry
        cleaned = self.sieve.clean(kept, sound=plan.sound, unchecked=later)
        mine = self._mine(cleaned)
        way = (
            transformer(plan.source_crs, plan.srid) if plan.transform_name is not None else None
        )  # cached for each thread
        geometry.fit(cleaned, plan.geometry_type, has_z=plan.has_z, transformer=way, trust=plan.options.trust_geometry)
        reasons = {row: reason for row, reason in sorted(cleaned.reasons.items()) if mine[row]}
        repairs = Counter(reason for row, reason in cleaned.repairs.items() if mine[row])
        elsewhere = int((~mine).sum())
        mine[[*reasons, *cleaned.filtered]] = False
        wkb = geometry.to_wkb(cleaned.geometries, has_z=plan.has_z)
        return sifted, _Prepared(wkb, None if mine.all() else mine, reasons, repairs, len(cleaned.filtered), elsewhere)

    def _as_is(self, batch: Batch, kind: GeometryType) -> _Prepared:
        """The bytes themselves; what a survey found to need work is worked on alone. One thread's, for it counts the
        places.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        plan, first = self._plan, self._seen
        self._seen += len(batch.wkb)
        low, high = (bisect_left(plan.changed, place) for place in (first, self._seen))
        wkb = geometry.promote_wkb(batch.wkb, kind, has_z=plan.has_z)
        if low == high:
            return _Prepared(wkb)
        rows = np.array(plan.changed[low:high]) - first
        mask = np.zeros(len(wkb), dtype=bool)
        mask[rows] = True
        cleaned = self.sieve.clean(batch.keep(mask))
        geometry.fit(cleaned, kind, has_z=plan.has_z)
        reasons = {int(rows[row]): reason for row, reason in sorted(cleaned.reasons.items())}
        wkb = pc.replace_with_mask(wkb, pa.array(mask), geometry.to_wkb(cleaned.geometries, has_z=plan.has_z))
        mask[:] = True
        mask[list(reasons)] = False
        return _Prepared(wkb, mask if reasons else None, reasons, cleaned.repaired)

    def convert(self, sifted: Sifted, prepared: _Prepared | None) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """One batch for the wire, and its rejected features, if any; what they are is counted."""
        import pyarrow as pa

        main, kept = self._plan.main, sifted.batch
        self._filtered += sifted.filtered if main else 0
        self._elsewhere += 0 if main else sifted.filtered
        arrays = [self._column(column, kept) for column in self._plan.columns]
        if prepared is None:
            self._rows += len(kept.wkb)
            return pa.record_batch(arrays, schema=self.schema), None
        self._rejected.update(prepared.reasons.values())
        self._repaired.update(prepared.repairs)
        self._filtered += prepared.filtered if main else 0
        self._elsewhere += prepared.elsewhere
        result = pa.record_batch([*arrays, prepared.wkb], schema=self.schema)
        result = result if prepared.keep is None else result.filter(pa.array(prepared.keep))
        self._rows += len(result)
        self._geometries += len(result) - result.column(len(arrays)).null_count
        return result, self._rejects(kept, arrays, prepared.reasons) if prepared.reasons else None

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
        """Which features are this table's; the geometries of the others are taken out."""
        plan = self._plan
        if plan.part is None:
            return np.ones(len(cleaned.geometries), dtype=bool)
        codes = cleaned.codes
        mine: NDArray[np.bool_] = geometry.is_of(codes, plan.part) | ((codes == 0) & plan.main)
        cleaned.geometries[~mine] = None
        return mine

    def _rejects(self, batch: Batch, arrays: list[pa.Array], reasons: dict[int, str]) -> pa.RecordBatch:
        import pyarrow as pa

        rows = pa.array(list(reasons), pa.int64())
        attributes = as_json(
            [column.name for column in self._plan.columns], [array.take(rows) for array in arrays], len(reasons)
        )
        columns = [
            batch.fids.take(rows),
            pa.array(reasons.values(), pa.string()),
            batch.wkb.take(rows).cast(pa.binary()),
            attributes,
        ]
        return pa.record_batch(columns, schema=reject_schema())

    def report(self, findings: Findings) -> StreamReport:
        """The account of what was sent; what was found out about values is said once, of the layer's main table."""
        notes = (
            *(f"{count} values are {note}" for note, count in self._notes.items()),
            *(findings.warnings() if self._plan.main else ()),
        )
        return StreamReport(
            rows=self._rows,
            filtered=self._filtered,
            rejected=dict(self._rejected),
            repaired=dict(self._repaired),
            warnings=notes,
        )

    def check(self) -> None:
        """Nothing was lost, and something is left."""
        plan = self._plan
        mine = self._rows + sum(self._rejected.values()) + self._filtered
        if mine != plan.feature_count or mine + self._elsewhere != plan.feature_count + plan.elsewhere:
            raise GeoAssetsError(
                "UNREADABLE",
                f"{self._title} had {plan.feature_count} features when it was inspected and has {mine} now",
            )
        if plan.geometry_type is not None:
            _check_kept(self._geometries, self._rejected, self._title)


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most 32 MiB; a single row may be larger, as far as the parent takes it."""
    if len(batch) == 1 and batch.nbytes > _LARGEST_ROW:
        raise GeoAssetsError("TOO_LARGE", f"a feature of {batch.nbytes:,} bytes is in it; {_LARGEST_ROW:,} are allowed")
    if len(batch) > 1 and batch.nbytes > _BATCH_BYTES:
        half = len(batch) // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))
    elif len(batch):
        yield batch
