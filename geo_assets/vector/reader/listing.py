"""GDAL as this package uses it for vectors: its settings, and the layers that it lists.

Here: everything before a layer is opened. Not here: reading one (`ogr.py`), which reader reads which format
(`layers.py`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_assets.once import remembered_of_file
from geo_assets.vector.reader.formats import Format, forbid_drivers
from geo_assets.vector.reader.geometry import ARC_STEP_DEGREES
from geo_assets.vector.reader.wkb import FIRST_CURVE

forbid_drivers()  # before anything imports pyogrio

#: GDAL ends a batch here, so that large geometries do not add up; a single feature beyond it cannot be read. Bytes.
BATCH_BYTES = 256 * 1024**2

#: Formats that state number and extent of a layer's features in their header.
KNOW_THEMSELVES = frozenset({Format.GPKG, Format.SHAPEFILE, Format.FLATGEOBUF, Format.FILEGDB})

#: Open options by format. The schema of a GML, which GDAL finds by reading it whole, is kept beside our link to it.
OPEN_OPTIONS: dict[Format, dict[str, str]] = {
    Format.GML: {"DOWNLOAD_SCHEMA": "NO", "WRITE_GFS": "YES", "EXPOSE_FID": "YES"},
    Format.SHAPEFILE: {"ADJUST_GEOM_TYPE": "ALL_SHAPES"},  # where the first has no M it would drop that of all
}

#: How pyogrio begins to warn that it takes the first of them.
SEVERAL_LAYERS = "More than one layer found"

_CONFIGURATION = {
    "OGR_ARROW_MEM_LIMIT": str(BATCH_BYTES),
    "OGR_ARC_STEPSIZE": str(ARC_STEP_DEGREES),
    "GML_FIELDTYPES": "ALWAYS_STRING",  # 007 would become 7; text is typed by ourselves
    "GML_SKIP_RESOLVE_ELEMS": "ALL",  # no xlink is followed
    "GML_DOWNLOAD_SCHEMA": "NO",
    "GML_ATTRIBUTES_TO_OGR_FIELDS": "NO",
    "OGR_XLSX_HEADERS": "FORCE",  # the first row names the columns
}

#: Layers' kinds of geometry that GDAL has and pyogrio refuses, with the whole file: any kind with z, m or both, and the
#: codes from `FIRST_CURVE` to triangles (17). The kinds of their features are what counts.
_ANY_KIND = "Unknown"
_KINDS_WITHOUT_NAME = (
    0x80000000, -0x80000000, 2000, 3000,
    *(code + dimensions for code in range(FIRST_CURVE, 18) for dimensions in (0, 1000, 2000, 3000)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listing:
    """What GDAL says of all layers of a file."""

    kinds: tuple[tuple[str, str | None], ...]  # their names, and kinds of geometry; None: it has none
    driver: str | None  # None: it is checked where a layer is opened


def configure() -> None:
    """Configure GDAL before it opens anything."""
    import pyogrio
    from pyogrio._geometry import GEOMETRY_TYPES

    pyogrio.set_gdal_config_options(_CONFIGURATION)
    for code in _KINDS_WITHOUT_NAME:
        GEOMETRY_TYPES.setdefault(code, _ANY_KIND)


@remembered_of_file  # it is asked for twice, and GDAL opens the file each time
def layers_of(path: Path, kind: Format) -> Listing:
    """List the layers of a file, or a FileGDB.

    Raises:
        pyogrio.errors.DataSourceError: GDAL cannot open it.
    """
    import pyogrio

    configure()
    kinds, driver = (None, None) if kind in KNOW_THEMSELVES else _alone(path, OPEN_OPTIONS.get(kind, {}))
    if kinds is None:
        kinds = tuple((str(name), geometry) for name, geometry in pyogrio.list_layers(path))
    return Listing(kinds, driver)


@remembered_of_file
def info_of(path: Path, layer: int | str) -> dict[str, Any]:
    """Return what GDAL says of a layer by its place in the file, or by its name."""
    import pyogrio

    found: dict[str, Any] = pyogrio.read_info(path, layer=layer)
    return found


def _alone(path: Path, options: dict[str, str]) -> tuple[tuple[tuple[str, str | None], ...] | None, str | None]:
    """Return the layer of a file that has one, nothing for one without, None for one with several; and the driver. To
    list the layers as well GDAL would read some files whole once more.
    """
    import pyogrio

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            info = pyogrio.read_info(path, **options)
        except IndexError:  # of pyogrio 0.13, which takes the first of no layers
            return (), None
    if any(str(warning.message).startswith(SEVERAL_LAYERS) for warning in heard):
        return None, info["driver"]
    return ((info["layer_name"], info["geometry_type"]),), info["driver"]
