"""The first call of the sandboxed child for a vector source: inspect it and plan its tables (`inspect`).

Here: one pass over each layer, and the plan that follows from it. No Dagster, database or network.
Not here: the steps themselves (`sources.py`, `layers.py`, `filters.py`, `geometry.py`, `survey.py`), sending a layer
(`stream.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geo_assets.epsg import parse_code
from geo_assets.errors import NAME_CRS, GeoAssetsError
from geo_assets.longitudes import footprint
from geo_assets.text import how_many
from geo_assets.vector.crs import (
    axes_look_swapped,
    geographic_box,
    heights_of,
    is_kept,
    parse_file_crs,
    plan_crs,
)
from geo_assets.vector.models import (
    ColumnPlan,
    GeometryType,
    InspectReport,
    InspectRequest,
    LayerOptions,
    LayerPlan,
    Part,
    StreamRequest,
)
from geo_assets.vector.names import column_names
from geo_assets.vector.reader import geometry
from geo_assets.vector.reader.batches import Batch, LayerRef, OpenLayer
from geo_assets.vector.reader.conversion import wire_type
from geo_assets.vector.reader.filters import LayerFilter, Selection, chosen_columns, crs_of, filter_of
from geo_assets.vector.reader.formats import Format
from geo_assets.vector.reader.layers import foreign_layers, list_layers, open_layer, tile_tables, without_column
from geo_assets.vector.reader.prj import said_by
from geo_assets.vector.reader.simple import Sound
from geo_assets.vector.reader.sources import Dataset, prepare
from geo_assets.vector.reader.survey import PARTS, Survey, Tally, check_kept, kind_of_most, table_type
from geo_assets.vector.reader.threads import THREADS, in_order
from geo_assets.vector.reader.wkb import Headers
from geo_assets.vector.types import sql_type
from geo_assets.vector.where import parse
from geo_assets.wire import told

if TYPE_CHECKING:
    from pyproj import CRS


#: The remedy for a GeoPackage of tiles, which by its name is a vector.
_AS_A_RASTER = "a job that takes rasters makes a COG of it, and so does: geo-assets cog in.gpkg out.tif"

#: Errors of one layer, or of one member of an archive, that do not affect the others. Not errors in what was requested.
_OF_ONE = frozenset(
    {
        "AXES_SWAPPED", "INCOMPLETE_SHAPEFILE", "INVALID_CRS", "UNREADABLE", "VECTOR_ALL_FILTERED",
        "VECTOR_ALL_REJECTED", "VECTOR_NO_CRS",
        "VECTOR_NO_GEOMETRY", "VECTOR_NO_LAYERS", "VECTOR_UNSUPPORTED", "VECTOR_UNSUPPORTED_TYPE",
    }
)  # fmt: skip

#: Formats whose rows SQLite counts.
_COUNTED = frozenset({Format.GPKG, Format.SQLITE})


def inspect(request: InspectRequest) -> InspectReport:
    """Read every layer of a source once and plan its table.

    Args:
        request: the source and the options.

    Raises:
        GeoAssetsError: the source is refused as a whole; its code says why.
    """
    if request.where:
        parse(request.where)
    inspection = Inspection(request)
    source = prepare(Path(request.source), max_unpacked_bytes=request.max_unpacked_bytes, options=inspection.options)
    inspection.is_alone = len(source.datasets) == 1 and not source.left_out
    inspection.warnings += source.warnings
    for error in source.left_out:
        inspection.leave_out(error)
    plans = [plan for dataset in source.datasets for plan in inspection.plans(dataset)]
    if not plans:
        raise inspection.nothing(source.name)
    return InspectReport(layers=tuple(plans), warnings=tuple(inspection.warnings), software=software())


def software() -> dict[str, str]:
    """Return the versions of all software that affects the contents of a table."""
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


class Inspection:
    """One inspection of a source: the request, what was found, and the warnings."""

    @classmethod
    def of(cls, request: StreamRequest) -> Self:
        """The one that made a plan."""
        options = told(request.plan.options)
        return cls(InspectRequest(source=request.source, thorough=False, **options))

    def __init__(self, request: InspectRequest) -> None:
        self._request = request
        self.options = LayerOptions(**{each.name: getattr(request, each.name) for each in fields(LayerOptions)})
        self._source_crs = parse_code(request.source_crs) if request.source_crs else None
        self._target_crs = parse_code(request.target_crs) if request.target_crs else None
        self._seen: list[str] = []
        self._names: set[str] = set()
        self._faults: list[GeoAssetsError] = []
        self.warnings: list[str] = []
        self.is_alone = False  # one layer is all that the source has: nothing goes on without it

    def leave_out(self, error: GeoAssetsError) -> None:
        """Continue without the layer or member at fault, with a warning.

        Raises:
            GeoAssetsError: this error, where it does not concern one layer or member alone, or where the layer was
                requested by name.
        """
        if error.code not in _OF_ONE or self._request.layers is not None:
            raise error
        self._faults.append(error)
        self.warnings.append(f"left out: {error}")

    def nothing(self, name: str) -> GeoAssetsError:
        """Return the error that says why there is no plan at all."""
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
        """Yield the plans of a dataset's layers; one that cannot be read is left out with a warning."""
        self.warnings += [
            f"left out: layer {name[:63]!r} of {dataset.name} is {what}, not a table"
            for name, what in foreign_layers(dataset).items()
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
                told = f"{dataset.name} has no layer with geometry"
                raise GeoAssetsError("VECTOR_NO_LAYERS", told)  # noqa: TRY301 - of this dataset alone
        except GeoAssetsError as error:
            self.leave_out(error)
            return
        self.is_alone = self.is_alone and len(refs) == 1
        self._names.clear()
        for ref in refs:
            name = ref.layer or dataset.stem
            self._seen.append(name)
            if self._request.layers is None or name in self._request.layers:
                try:
                    yield from self._layer(ref)
                except GeoAssetsError as error:
                    self.leave_out(error)
        self.warnings += without_column(dataset, self._names) if self._request.layers is None else []

    def _layer(self, ref: LayerRef) -> Iterator[LayerPlan]:
        with open_layer(ref, attributes=self.options.attribute_tables) as layer:
            self._names.update(layer.names)
            crs = crs_of(layer, self.options)
            layer_filter = filter_of(ref, layer, self.options)
            chosen_columns(self.options, layer.names, set(), ref.title)  # fails early, before anything is read
            if crs is None and self.options.bbox is not None:
                raise _no_crs(ref, layer.crs)
            check = self._checks(crs)
            trust, whole = self.options.trust_geometry, self._request.thorough
            may_wait = self._may_look_later(crs)
            stated = _stated(layer, layer_filter) if may_wait else None
            scanned = _scanned(layer, layer_filter) if not stated and (may_wait or (trust and not whole)) else None
            survey = stated or scanned or _survey(layer, layer_filter, crs, trust=trust, check=check, whole=whole)
            later = stated is not None or (scanned is not None and may_wait and not trust)
            declared = None if stated or scanned else layer.declared()
        if declared and survey.features < declared:
            raise GeoAssetsError(
                "UNREADABLE",
                f"{ref.title} is cut off: it has {survey.features:,} of {how_many(declared, 'feature')}",
            )
        if declared and survey.features > declared and ref.dataset.format in _COUNTED:
            told = f"{ref.title} has {how_many(declared, 'feature')}, of which GDAL reads {survey.features:,}"
            raise GeoAssetsError("UNREADABLE", told)
        lacks = self._lack(survey, ref.title)
        if lacks is not None:
            raise lacks
        if survey.nulls == survey.features - survey.filtered:
            yield self._attribute_plan(ref, layer, survey)
        else:
            yield from self._geometry_plans(ref, layer, survey, crs, checked=check, later=later)

    def found(self, ref: LayerRef, layer: OpenLayer, survey: Survey) -> LayerPlan:
        """The plan of a layer whose geometries were looked at while it was sent.

        Raises:
            GeoAssetsError: AXES_SWAPPED; VECTOR_ALL_REJECTED.
        """
        (plan,) = self._geometry_plans(ref, layer, survey, crs_of(layer, self.options), checked=True)
        return plan

    def _may_look_later(self, crs: CRS | None) -> bool:
        """Whether geometries may be looked at while they are sent: whatever is found, it is the same table."""
        before = self._request.thorough or self._request.look_first
        return self.is_alone and not before and crs is not None and is_kept(crs, self._target_crs)

    def _checks(self, crs: CRS | None) -> bool:
        """Whether this pass checks for invalid geometry. What will be transformed is checked afterwards."""
        moves = (
            crs is not None
            and self._target_crs is not None
            and not crs.equals(self._target_crs, ignore_axis_order=True)
        )
        return self._request.thorough or not moves

    def _lack(self, survey: Survey, title: str) -> GeoAssetsError | None:
        left = survey.features - survey.filtered
        if survey.features == 0:
            return GeoAssetsError("VECTOR_NO_LAYERS", f"{title} has no feature")
        if left == 0:
            return GeoAssetsError(
                "VECTOR_ALL_FILTERED", f"the filter leaves nothing of {how_many(survey.features, 'feature')} of {title}"
            )
        if survey.nulls == left and not self.options.attribute_tables:
            return GeoAssetsError("VECTOR_NO_GEOMETRY", f"{title} has no geometry in its {how_many(left, 'feature')}")
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

    def _attribute_plan(self, ref: LayerRef, layer: OpenLayer, survey: Survey) -> LayerPlan:
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
        self,
        ref: LayerRef,
        layer: OpenLayer,
        survey: Survey,
        crs: CRS | None,
        *,
        checked: bool,
        later: bool = False,
    ) -> Iterator[LayerPlan]:
        if crs is not None and not later and axes_look_swapped(crs, survey.whole_bounds):
            raise GeoAssetsError(
                "AXES_SWAPPED",
                f"x and y of {ref.title} look swapped: it lies outside the area of {crs.name!r}, and inside the other"
                " way round",
            )
        check_kept(survey.kept, survey.rejected, ref.title)
        if survey.mixed and self.options.mixed == "reject":
            raise GeoAssetsError(
                "VECTOR_MIXED_GEOMETRY",
                f"{ref.title} mixes kinds of geometry, which one table cannot hold: {survey.type_counts()}",
            )
        if crs is None:
            raise _no_crs(ref, layer.crs)
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
            "looked_at_later": later,
            "sound": survey.untouched and checked and not later,
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

    def _crs_warnings(self, layer: OpenLayer, code: str, survey: Survey) -> Iterator[str]:
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


@dataclass(frozen=True, slots=True)
class _Looked:
    """A batch: what is sound by its bytes, and the rest of it."""

    selected: Selection
    headers: Headers
    found: tuple[Sound, geometry.Cleaned] | None = None  # None: the headers are enough


def _survey(
    layer: OpenLayer, layer_filter: LayerFilter, crs: CRS | None, *, trust: bool, check: bool, whole: bool
) -> Survey:
    """Survey a layer in one pass. Where geometry is trusted and the file declares its extent, the headers of the WKB
    are enough; for a GeoPackage SQLite reads them, and checks every value.

    `whole`: every column is read, so that faulty values are found.
    """
    survey = Survey.of(crs)
    bounds = layer.bounds() if trust and not layer_filter.reads_geometry else None

    def look(batch: Batch) -> _Looked:
        selected = layer_filter.apply(batch)
        headers = Headers.of(selected.batch.wkb)
        if bounds and headers.need_nothing and not selected.batch.faults:
            return _Looked(selected, headers)
        return _Looked(selected, headers, layer_filter.look(selected.batch, headers, unchecked=not check))

    for seen in in_order(
        layer.read(None if whole else layer_filter.positions),
        look,
        threads=1 if bounds or layer_filter.reads_geometry else THREADS,
    ):
        filtered = seen.selected.filtered
        if seen.found is not None:
            survey.add(*seen.found, filtered=filtered, linearised=seen.selected.batch.linearised)
        elif bounds is not None:
            survey.add_headers(seen.headers, bounds, filtered=filtered)
    return survey


def _stated(layer: OpenLayer, layer_filter: LayerFilter) -> Survey | None:
    """What a file states of a layer, for a plan that is checked while it is carried out; None where it states too
    little.
    """
    outline = layer.outline() if layer_filter.takes_all else None
    bounds = layer.bounds() if outline is not None else None
    if outline is None or bounds is None or not outline.headers.need_nothing:
        return None
    survey = Survey()
    survey.add_alike(outline.headers, outline.features, 0, bounds)
    return survey


def _scanned(layer: OpenLayer, layer_filter: LayerFilter) -> Survey | None:
    """Survey a layer by the headers of its geometries, which SQLite reads for a GeoPackage and checks every value;
    None where it has to be read: the headers differ, or its extent is not known.
    """
    scan = layer.scan() if layer_filter.takes_all else None
    if scan is None or not scan.headers.need_nothing:
        return None
    survey = Survey()
    survey.add_alike(scan.headers, scan.geometries, scan.nulls, scan.bounds)
    survey.sound_values = not scan.odd
    return survey


def _parts(survey: Survey, *, split: bool) -> Iterator[tuple[Part | None, GeometryType, Tally, bool]]:
    """Yield the tables of a layer: one, unless it is mixed and split; and which of them accounts for features of no
    kind.
    """
    if not survey.mixed:
        ((kind, tally),) = survey.tallies.items()
        yield None, table_type(kind, tally), tally, True
    elif split:
        most = kind_of_most(survey.tallies)
        for kind in sorted(survey.tallies):
            yield (
                PARTS[kind],
                table_type(kind, survey.tallies[kind]),
                survey.tallies[kind],
                kind == most,
            )
    else:
        yield None, "GEOMETRY", survey.total, True


def _tallied(survey: Survey, tally: Tally, source_crs: str, *, main: bool) -> dict[str, Any]:
    """Return the counts and the extent of one table."""
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


def _no_crs(ref: LayerRef, named: str | None) -> GeoAssetsError:
    prj = ref.dataset.path.with_suffix(".prj")
    if prj.is_file():
        found = f"{text[:80]!r} in its .prj is no CRS that is known" if (text := said_by(prj)) else "its .prj is empty"
        remedy = f"replace the .prj, or {NAME_CRS}"
        return GeoAssetsError("VECTOR_NO_CRS", f"{ref.title} does not say its CRS: {found}", remedy=remedy)
    if named and "[" not in named and "{" not in named:  # a name, not a definition
        return GeoAssetsError("VECTOR_NO_CRS", f"{ref.title} names a CRS that is not known: {named[:80]!r}")
    remedy = f"add the .prj, or {NAME_CRS}" if ref.dataset.format is Format.SHAPEFILE else NAME_CRS
    return GeoAssetsError("VECTOR_NO_CRS", f"{ref.title} does not say which CRS its coordinates are in", remedy=remedy)


def _survey_warnings(survey: Survey) -> Iterator[str]:
    total = survey.total
    if survey.linearised:
        off = 100 * (1 - math.cos(math.radians(geometry.ARC_STEP_DEGREES / 2)))
        curves = how_many(survey.linearised, "curve")
        yield f"{curves} became lines, whose chords are at most {off:.2f} % of the radius off"
    if survey.with_m:
        yield f"{how_many(survey.with_m, 'geometry has', 'geometries have')} M values, which were dropped"
    if 0 < total.with_z < survey.kept:
        yield f"{survey.kept - total.with_z} of {survey.kept} geometries have no height and got 0"
    if survey.area_changed:
        changed = how_many(survey.area_changed, "geometry changed its", "geometries changed their")
        yield f"the repair of {changed} area by more than 1 %"
    if survey.wide:
        yield (
            f"{how_many(survey.wide, 'geometry is', 'geometries are')} wider than half the globe: what crosses the"
            " antimeridian must be cut there"
        )
    if strays := survey.rejected[geometry.OFF_THE_GLOBE]:
        lie = how_many(strays, "geometry lies", "geometries lie")
        yield f"{lie} beyond longitude and latitude: is its CRS right, and longitude first?"
