"""Command line options for a vector file and its table, and the requests made from them.

Here: the options that several commands have, each declared once; from their text to `InspectRequest`, `LoadOptions` and
a table's name. Not here: the commands (`vector.py`), what the options do (`vector/`, `stages/vector_load.py`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_assets.errors import GeoAssetsError
from geo_assets.wire import checked

if TYPE_CHECKING:
    from geo_assets.stages.vector_load import LoadOptions
    from geo_assets.vector.models import InspectRequest

_SCHEMA = "vector"

SourceCrs = Annotated[
    str | None, typer.Option("--source-crs", help="CRS of layers that do not name one, as EPSG:code.")
]
TargetCrs = Annotated[str | None, typer.Option("--target-crs", help="Transform to this CRS, as EPSG:code.")]
Accuracy = Annotated[
    float | None, typer.Option("--max-transform-accuracy-m", help="Refuse a transformation that is less accurate.")
]
Where = Annotated[
    str | None, typer.Option("--where", help="A condition, for example: \"population > 1000 AND name LIKE 'A%'\"")
]
Columns = Annotated[
    list[str] | None, typer.Option("--columns", metavar="A,B", help="Only these columns; may be repeated.")
]
BoxOption = Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Only features that touch this box.")]
BoxCrs = Annotated[str, typer.Option("--bbox-crs", help="The CRS of --bbox.")]
Layers = Annotated[list[str] | None, typer.Option("--layer", help="Only this layer; may be repeated.")]
Mixed = Annotated[
    str, typer.Option("--mixed", help="A layer that mixes points, lines and polygons: split, generic or reject.")
]
Nulls = Annotated[str, typer.Option("--null-geometry", help="Features without geometry: keep or reject.")]
Attributes = Annotated[bool, typer.Option("--attribute-tables", help="Also layers without geometry.")]
Override = Annotated[bool, typer.Option("--override-crs", help="Use --source-crs even if the file names another CRS.")]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="Encoding of text, if the file names none or the wrong one, e.g. windows-1252."),
]
GeometryColumn = Annotated[
    str | None, typer.Option("--geometry-column", help="In plain Parquet: the column of WKB or WKT.")
]
XColumn = Annotated[
    str | None, typer.Option("--x", help="In tables without geometry: the column of longitude or easting.")
]
YColumn = Annotated[str | None, typer.Option("--y", help="The column of latitude or northing.")]
WktColumn = Annotated[str | None, typer.Option("--wkt", help="The column of WKT, EWKT, hexadecimal WKB or GeoJSON.")]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", help="Field delimiter of CSV: one character; \\t is a tab.")
]
Decimal = Annotated[str | None, typer.Option("--decimal", help="Decimal separator of coordinates in text: . or ,")]


def _options(
    source_crs: SourceCrs = None,
    target_crs: TargetCrs = None,
    max_transform_accuracy_m: Accuracy = None,
    where: Where = None,
    columns: Columns = None,
    bbox: BoxOption = None,
    bbox_crs: BoxCrs = "EPSG:4326",
    layer: Layers = None,
    mixed: Mixed = "split",
    null_geometry: Nulls = "keep",
    override_crs: Override = False,
    encoding: Encoding = None,
    geometry_column: GeometryColumn = None,
    x: XColumn = None,
    y: YColumn = None,
    wkt: WktColumn = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    attribute_tables: Attributes = False,
) -> None:
    """The options of a command that reads a vector file, in the order of its help."""


def reads_vector(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `_options` in the place of its parameter `reading`, which receives them as one dictionary."""
    options = inspect.signature(_options, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters

    @functools.wraps(command)
    def called(**given: Any) -> None:
        command(reading={name: given.pop(name) for name in options}, **given)

    shown = [p for name, its in own.items() for p in (options.values() if name == "reading" else (its,))]
    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return called


def _wanted(reading: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options as `InspectRequest` has them."""
    wanted = {**reading, **options}
    wanted["layers"] = wanted.pop("layer")
    wanted["columns"] = listed(wanted["columns"])
    wanted["bbox"] = _box(wanted["bbox"])
    if wanted["delimiter"] == "\\t":  # as a shell passes it on
        wanted["delimiter"] = "\t"
    return wanted


def listed(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """`--columns A,B` and `--columns A --columns B` are the same."""
    if values is None:
        return None
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _box(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{text!r} is not a box",
            remedy="west,south,east,north, for example --bbox=166,-48,179,-34",
        )
    return numbers


def table_name(text: str) -> str:
    """The table's name in the one schema where tables are published.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    from geo_assets.vector.tables.staging import check_table_name

    schema, dot, name = text.rpartition(".")
    if dot and schema != _SCHEMA:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"tables are published in the schema {_SCHEMA}, not {schema[:63]!r}",
            remedy=f"--table {_SCHEMA}.{name}",
        )
    check_table_name(name)
    return name


def request_of(source: Path, reading: dict[str, Any], **options: Any) -> InspectRequest:
    """The request, before anything is read.

    Raises:
        GeoAssetsError: SOURCE_GONE; INVALID_PARAMETERS; INVALID_FILTER; INVALID_CRS.
    """
    from pydantic import ValidationError

    from geo_assets.epsg import parse_code
    from geo_assets.faults import faults
    from geo_assets.vector.models import InspectRequest
    from geo_assets.vector.where import parse

    if not source.is_file() and not source.is_dir():
        raise GeoAssetsError("SOURCE_GONE", f"there is no file or folder {source}", remedy="check the path")
    try:
        request = checked(InspectRequest, {"source": str(source), **_wanted(reading, options)})
    except ValidationError as error:
        raise GeoAssetsError("INVALID_PARAMETERS", "; ".join(faults(error)), remedy="geo-assets load --help") from error
    for code in filter(None, (request.source_crs, request.target_crs, request.bbox and request.bbox_crs)):
        parse_code(code)
    if request.where is not None:
        parse(request.where)
    return request


def load_options(
    mode: str, key: tuple[str, ...], *, allow_drift: bool, keep_versions: int, index: str, cluster: bool
) -> LoadOptions:
    """How a table is written.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    from geo_assets.stages.vector_load import LoadOptions
    from geo_assets.vector.tables.load import StageOptions

    for what, value, allowed in (
        ("--mode", mode, ("replace", "append", "upsert")),
        ("--index", index, ("gist", "spgist", "brin")),
    ):
        if value not in allowed:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"{what} {value[:40]!r} is none of {', '.join(allowed)}",
                remedy="geo-assets load --help",
            )
    if (mode == "upsert") != bool(key):
        raise GeoAssetsError(
            "INVALID_PARAMETERS", "--key and --mode upsert go together", remedy="--mode upsert --key id"
        )
    return LoadOptions(
        mode=mode,  # type: ignore[arg-type]
        key=key,
        schema_drift="allow" if allow_drift else "refuse",
        keep_versions=keep_versions,
        accept_superseded=True,
        stage=StageOptions(index=index, cluster=cluster),  # type: ignore[arg-type]
    )
