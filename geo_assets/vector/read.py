"""What the sandboxed child does with a vector source: look at it (`inspect`), then send a layer of it (`stream`).

Here: the two calls of the sandbox, in plain Python, without Dagster, database or network.
Not here: the steps themselves (`sources.py`, `layers.py`, `geometry.py`, `crs.py`, `types.py`), loading (`load.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from geo_assets.errors import GeoAssetsError
from geo_assets.vector import geometry
from geo_assets.vector.crs import footprint, geographic_box, parse_code, parse_file_crs, plan_crs, transformer
from geo_assets.vector.layers import Batch, LayerRef, OpenLayer, list_layers, open_layer
from geo_assets.vector.models import ColumnPlan, InspectReport, InspectRequest, LayerPlan, StreamReport, StreamRequest
from geo_assets.vector.names import column_names
from geo_assets.vector.sources import Dataset, Format, prepare
from geo_assets.vector.types import convert, sql_type, wire_schema, wire_type

if TYPE_CHECKING:
    import pyarrow as pa
    from pyproj import CRS

#: A batch on the wire: the parent holds a few of them at once. Bytes.
_BATCH_BYTES = 32 * 1024**2

#: What an archive may hold beside its data; JSON and CSV may be no data at all, but documentation.
_NOTHING = frozenset({"VECTOR_NO_GEOMETRY", "VECTOR_NO_LAYERS"})
_MAY_BE_NO_DATA = frozenset({Format.GEOJSON, Format.CSV})


def inspect(request: InspectRequest) -> InspectReport:
    """Read every layer of a source once and plan the table that it becomes.

    Args:
        request: the source, and what its CRS is or shall be.

    Raises:
        GeoAssetsError: with the code of what is wrong; the source is refused as a whole.
    """
    source_crs = parse_code(request.source_crs) if request.source_crs else None
    target_crs = parse_code(request.target_crs) if request.target_crs else None
    source = prepare(Path(request.source), max_unpacked_bytes=request.max_unpacked_bytes)
    warnings = list(source.warnings)
    plans: list[LayerPlan] = []
    for dataset in source.datasets:
        try:
            plans += _plans(dataset, source_crs, target_crs, warnings)
        except GeoAssetsError as error:
            if len(source.datasets) == 1 or not _is_no_data(dataset, error):
                raise
            warnings.append(f"left out: {error}")
    if not plans:
        raise GeoAssetsError(
            "VECTOR_NO_LAYERS", f"{source.name} has no layer with features" + (f" ({'; '.join(warnings)})" if warnings else "")
        )
    return InspectReport(layers=tuple(plans), warnings=tuple(warnings), software=software())


def stream(request: StreamRequest, sink: BinaryIO) -> StreamReport:
    """Write one layer as an Arrow IPC stream: the plan's columns in order, then `geom` as WKB in the table's CRS.

    Args:
        request: the source and the plan that `inspect` made of the layer.
        sink: takes the stream; at most 8192 rows and 32 MiB at once.

    Raises:
        GeoAssetsError: the file cannot be read to its end, a value has no place in its column, or nothing of it can be kept.
        BrokenPipeError: the reader of the sink is gone.
    """
    import pyarrow as pa

    plan = request.plan
    ref = _find(request)
    sender = _Sender(plan)
    with open_layer(ref) as layer:
        writer = pa.ipc.new_stream(sink, wire_schema(plan.columns))
        for batch in layer.batches:
            for piece in _bounded(sender.convert(batch, ref.title)):
                writer.write_batch(piece)
    sender.check(ref.title)
    writer.close()
    return sender.report()


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


def _is_no_data(dataset: Dataset, error: GeoAssetsError) -> bool:
    return error.code in _NOTHING or (error.code == "VECTOR_UNSUPPORTED" and dataset.format in _MAY_BE_NO_DATA)


def _plans(dataset: Dataset, source_crs: CRS | None, target_crs: CRS | None, warnings: list[str]) -> Iterator[LayerPlan]:
    """The plans of a dataset's layers; one without features or geometry is left out with a warning."""
    refs = list_layers(dataset)
    if not refs:
        raise GeoAssetsError("VECTOR_NO_LAYERS", f"{dataset.name} has no layer with geometry")
    for ref in refs:
        survey = geometry.Survey()
        with open_layer(ref) as layer:
            for batch in layer.batches:
                survey.add(batch.wkb, batch.faults)
        if layer.declared and layer.declared != survey.features:
            raise GeoAssetsError("UNREADABLE", f"{ref.title} is cut off: it has {survey.features:,} of {layer.declared:,} features")
        if survey.nulls == survey.features:
            empty = f"no geometry in its {survey.features} features" if survey.features else "no feature"
            if len(refs) == 1:
                raise GeoAssetsError("VECTOR_NO_GEOMETRY" if survey.features else "VECTOR_NO_LAYERS", f"{ref.title} has {empty}")
            warnings.append(f"left out: {ref.title} has {empty}")
        else:
            yield _plan(ref, layer, survey, source_crs, target_crs)


def _plan(ref: LayerRef, layer: OpenLayer, survey: geometry.Survey, source_crs: CRS | None, target_crs: CRS | None) -> LayerPlan:
    _check_kept(survey.kept, survey.rejected, ref.title)
    if survey.mixed:
        raise GeoAssetsError(
            "VECTOR_MIXED_GEOMETRY", f"{ref.title} mixes kinds of geometry, which one table cannot hold: {survey.type_counts()}"
        )
    file_crs = parse_file_crs(layer.crs)
    if file_crs is None and source_crs is None:
        raise GeoAssetsError("VECTOR_NO_CRS", f"{ref.title} does not say which CRS its coordinates are in")
    layer_crs = file_crs or source_crs
    assert layer_crs is not None  # noqa: S101 - one of them is there
    crs = plan_crs(layer_crs, target_crs, survey.bounds, ref.title)
    box = geographic_box(crs.source, survey.bounds)
    notes = [
        *layer.warnings,
        *crs.warnings,
        *_survey_warnings(survey),
        *_crs_warnings(file_crs, source_crs),
        *_range_warnings(layer_crs, survey),
    ]
    return LayerPlan(
        member=ref.dataset.member,
        layer=ref.layer,
        layer_index=ref.index,
        driver=ref.dataset.format.value,
        columns=_columns(layer),
        geometry_type=survey.geometry_type,
        has_z=survey.with_z > 0,
        srid=crs.srid,
        source_crs=crs.source,
        crs_name=crs.name,
        transform_name=crs.transform_name,
        transform_accuracy_m=crs.accuracy_m,
        feature_count=survey.features,
        null_geometries=survey.nulls,
        rejected_by_reason=dict(survey.rejected),
        repaired_by_reason=dict(survey.repaired),
        sound=survey.untouched,
        wkb_as_is=survey.wkb_as_is and crs.transform_name is None,
        bounds=survey.bounds,
        bbox_4326=box,
        footprint=footprint(box),
        warnings=tuple(notes),
    )


def _columns(layer: OpenLayer) -> tuple[ColumnPlan, ...]:
    wires = layer.types() if layer.types else [wire_type(name, arrow) for name, arrow in zip(layer.names, layer.arrow_types, strict=True)]
    unused = layer.unused()
    positions = [i for i in range(len(layer.names)) if i not in unused]
    names = column_names([layer.names[i] for i in positions])
    return tuple(
        ColumnPlan(position=i, source_name=layer.names[i], name=name, arrow_type=wires[i], sql_type=sql_type(wires[i]))
        for i, name in zip(positions, names, strict=True)
    )


def _survey_warnings(survey: geometry.Survey) -> Iterator[str]:
    if survey.with_m:
        yield f"{survey.with_m} geometries have M values, which were dropped"
    if 0 < survey.with_z < survey.kept:
        yield f"{survey.kept - survey.with_z} of {survey.kept} geometries have no height and got 0"
    if survey.area_changed:
        yield f"the repair of {survey.area_changed} geometries changed their area by more than 1 %"


def _crs_warnings(file_crs: CRS | None, source_crs: CRS | None) -> Iterator[str]:
    if file_crs is not None and source_crs is not None and not file_crs.equals(source_crs, ignore_axis_order=True):
        yield f"source_crs was not used: the file says that it is in {file_crs.name!r}"


def _range_warnings(crs: CRS, survey: geometry.Survey) -> Iterator[str]:
    west, south, east, north = survey.bounds
    if crs.is_geographic and (south < -90 or north > 90 or west < -360 or east > 360):
        yield f"its coordinates reach beyond longitude and latitude ({west:g}, {south:g} to {east:g}, {north:g}): is its CRS right, and longitude first?"


def _check_kept(kept: int, rejected: Counter[str], title: str) -> None:
    if kept == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        raise GeoAssetsError("VECTOR_ALL_REJECTED", f"no geometry of {title} can be kept: {reasons}")


def _find(request: StreamRequest) -> LayerRef:
    source = prepare(Path(request.source), max_unpacked_bytes=request.max_unpacked_bytes)
    plan = request.plan
    for dataset in source.datasets:
        if dataset.member == plan.member and dataset.format.value == plan.driver:
            return LayerRef(dataset, plan.layer_index, plan.layer)
    raise GeoAssetsError("UNREADABLE", f"{source.name} is not the file that was inspected: {plan.label or plan.driver} is gone")


class _Sender:
    """Turns a layer's batches into what goes over the wire, and keeps the account."""

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        self._schema = wire_schema(plan.columns)
        self._transformer = transformer(plan.source_crs, plan.srid) if plan.transform_name is not None else None
        self.rows = 0
        self.geometries = 0
        self.rejected: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()

    def convert(self, batch: Batch, title: str) -> pa.RecordBatch:
        """One batch for the wire, without its rejected rows."""
        import pyarrow as pa

        wkb, keep = self._geometry(batch)
        arrays = [self._column(column, batch, title) for column in self._plan.columns]
        result = pa.record_batch([*arrays, wkb], schema=self._schema)
        result = result if keep is None else result.filter(keep)
        self.rows += len(result)
        self.geometries += len(result) - result.column(len(arrays)).null_count
        return result

    def _column(self, column: ColumnPlan, batch: Batch, title: str) -> pa.Array:
        import pyarrow as pa

        try:
            return convert(batch.columns[column.position], column.arrow_type, self._notes)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            said = " ".join(str(error).split())[:200]
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED_TYPE", f"column {column.source_name!r} of {title} cannot be loaded as {column.sql_type}: {said}"
            ) from error

    def _geometry(self, batch: Batch) -> tuple[pa.Array, Any]:
        """WKB for the table, and which rows to keep (None: all)."""
        import pyarrow as pa

        plan = self._plan
        if plan.wkb_as_is:
            return geometry.promote_wkb(batch.wkb, plan.geometry_type, has_z=plan.has_z), None
        cleaned = geometry.clean(batch.wkb, batch.faults, sound=plan.sound)
        geometry.fit(cleaned, plan.geometry_type, has_z=plan.has_z, transformer=self._transformer)
        self.rejected.update(cleaned.reasons.values())
        self._repaired.update(cleaned.repaired)
        wkb = geometry.to_wkb(cleaned.geometries, has_z=plan.has_z)
        return wkb, pa.array([row not in cleaned.reasons for row in range(len(wkb))]) if cleaned.reasons else None

    def report(self) -> StreamReport:
        """The account of what was sent."""
        notes = tuple(f"{count} values are {note}" for note, count in self._notes.items())
        return StreamReport(rows=self.rows, rejected=dict(self.rejected), repaired=dict(self._repaired), warnings=notes)

    def check(self, title: str) -> None:
        """Nothing was lost, and something is left."""
        seen = self.rows + sum(self.rejected.values())
        if seen != self._plan.feature_count:
            raise GeoAssetsError("UNREADABLE", f"{title} had {self._plan.feature_count} features when it was inspected and has {seen} now")
        _check_kept(self.geometries, self.rejected, title)


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces of at most 32 MiB; a single row may be larger."""
    if len(batch) > 1 and batch.nbytes > _BATCH_BYTES:
        half = len(batch) // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))
    elif len(batch):
        yield batch
