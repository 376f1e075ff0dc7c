"""`geo-assets cog SRC DST` and `geo-assets cog validate FILE`: the raster engine for one file, without a database.

Here: arguments, progress, what is printed. Not here: conversion and validation (`geo_assets.raster`), which run in a
sandboxed child.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from geo_assets import capture
from geo_assets.background import every
from geo_assets.commands.console import JsonFlag, err, out, print_json
from geo_assets.commands.own_file import in_words_of_commands, own_file
from geo_assets.commands.place import put_in_place
from geo_assets.commands.source import lay_out, members_of, unchanged
from geo_assets.errors import GeoAssetsError
from geo_assets.raster.profiles import DEFAULT, PROFILES
from geo_assets.storage.kinds import Kind, kind_of
from geo_assets.text import human_bytes, one_line
from geo_assets.wire import json_of

if TYPE_CHECKING:
    from geo_assets.raster.models import ConvertReport
    from geo_assets.stages.raster_conversion import ConvertedSource

#: Seconds between two looks at the child's progress.
_LOOK_EVERY = 0.1

#: The most bytes of the number that reports its progress.
_TOLD_BYTES = 64

#: A single file at the command line may take as long as it takes.
_TIMEOUT = 24 * 3600.0

#: Imported by the child while it waits.
_PRELOAD = ("geo_assets.raster.cog",)

_CONVERT_EXAMPLES = """Examples:

`geo-assets cog scan.tif scan.cog.tif`

`geo-assets cog dem.asc dem.tif --source-crs EPSG:25832 --profile analysis --json`

`geo-assets cog ortho.tif web.tif --target-crs EPSG:3857 --web-tiles`

`geo-assets cog ortho-jpeg.tif ortho.cog.tif --keep-lossy`

`geo-assets cog climate.nc cogs/`

`geo-assets cog climate.nc tas.tif --variable tas`

`geo-assets cog validate scan.cog.tif`
"""


_VARIABLE = "One variable of a container, one member of a zip, or member:variable."
_FIRST, *_REST = (f"{name} (default)" if name == DEFAULT else name for name in PROFILES)
_PROFILES = f"{', '.join([_FIRST, *_REST[:-1]])} or {_REST[-1]}."
_KEPT = "Keep the JPEG blocks of a tiled TIFF, bit by bit."
_OVERRIDE = "Use --source-crs even if the file names another CRS."
_RESAMPLING = "nearest, mode (both also for overviews), bilinear, …; by default by the kind of pixels."
_WEB = "Align to the grid of web map tiles (EPSG:3857)."
_TAKEN = "Time of capture: ISO 8601, a date, a month, or START/END."


class _ConvertByDefault(TyperGroup):
    """`cog SRC DST` is `cog convert SRC DST`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the name of the default command if none is given."""
        if args and args[0] not in self.commands and not (len(args) == 1 and args[0] in ctx.help_option_names):
            args = ["convert", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_ConvertByDefault,
    no_args_is_help=True,
    help="Convert one raster to a validated COG, or check that a file is a complete, unaltered COG.",
    epilog=_CONVERT_EXAMPLES,
)


@app.command(epilog=_CONVERT_EXAMPLES)
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Any raster; sidecar files beside it are used too.")],
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DST",
            help="The COG; replaced only after the new one is verified. A directory if SRC holds several.",
        ),
    ],
    profile: Annotated[str | None, typer.Option(help=_PROFILES)] = None,
    keep_lossy: Annotated[bool, typer.Option("--keep-lossy", help=_KEPT)] = False,
    source_crs: Annotated[str | None, typer.Option(help="For a file without a CRS: EPSG:code.")] = None,
    override_crs: Annotated[bool, typer.Option("--override-crs", help=_OVERRIDE)] = False,
    target_crs: Annotated[str | None, typer.Option(help="Reproject to EPSG:code.")] = None,
    resolution: Annotated[float | None, typer.Option(help="Size of a pixel, in units of the target CRS.")] = None,
    resampling: Annotated[str | None, typer.Option(help=_RESAMPLING)] = None,
    web_tiles: Annotated[bool, typer.Option("--web-tiles", help=_WEB)] = False,
    variable: Annotated[str | None, typer.Option(metavar="NAME", help=_VARIABLE)] = None,
    taken: Annotated[str | None, typer.Option("--datetime", metavar="TIME", help=_TAKEN)] = None,
    as_json: JsonFlag = False,
) -> None:
    """Convert to a COG: every pixel, mask, nodata value, colour and coordinate as in the source, verified by reading it
    back.

    A NetCDF, HDF5 or GRIB file, a TIFF with several images, or a zip becomes one COG per raster, in the directory DST.
    """
    from geo_assets.stages.raster_conversion import PRODUCT, Converter

    destination = destination.absolute()
    into_folder = destination.is_dir() or not destination.suffix
    _refuse_options(None if into_folder else destination.parent, destination, resolution, taken)
    with own_file(source, raster=True), _alone(source) as (pool, folder, private):
        told = folder / "progress"
        options = {
            "profile": profile,
            "keep_lossy": keep_lossy,
            "source_crs": source_crs,
            "override_crs": override_crs,
            "target_crs": target_crs,
            "resolution": resolution,
            "resampling": resampling,
            "web_tiles": web_tiles,
            "datetime": taken,
            "threads": os.cpu_count() or 1,
            "require_crs": False,
            "progress": str(told),
        }
        converter = Converter(pool, folder, options, wanted=variable, single=not into_folder, product=folder / PRODUCT)
        progress = _progress(f"{source.name} → {destination.name}", lambda: pool.peek(told, _TOLD_BYTES))
        with unchanged(private.parent.iterdir()), progress:
            converted = converter.archive(private) if kind_of(source.name) is Kind.ZIP else converter.source(private)
        pool.abort()  # its child dies while the results are moved
        in_it = destination.is_dir() if converted.is_single else into_folder
        placed = _put(converted, source, destination, into_folder=in_it)
    if converted.is_single or not into_folder:
        _tell_one(source, placed[0], converted, as_json=as_json)
    else:
        _tell_all(placed, converted, as_json=as_json)


def _refuse_options(folder: Path | None, destination: Path, resolution: float | None, taken: str | None) -> None:
    """Refuse what cannot be meant before any work is done.

    Args:
        folder: that must be there.
        destination: that must be no device or pipe, which a result would take the place of, as that of a file.
        resolution: of the COG.
        taken: when the image was captured.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    wrong, remedy = "", ""
    if folder is not None and not folder.is_dir():
        wrong, remedy = f"there is no directory {folder}", f"make it: mkdir -p {shlex.quote(str(folder))}"
    elif folder is not None and not os.access(folder, os.W_OK):
        wrong, remedy = f"{folder} cannot be written to", "name a directory that you may write to"
    elif destination.exists() and not destination.is_file() and not destination.is_dir():
        wrong, remedy = f"{destination} is neither a file nor a directory", "name one that a COG may take the place of"
    elif resolution is not None and not 0 < resolution < math.inf:
        wrong, remedy = f"--resolution {resolution:g} is no size of a pixel", "give a number greater than 0"
    elif taken is not None and capture.taken(taken, "--datetime") is None:
        wrong = f"--datetime {taken[:40]!r} is no time"
        remedy = "give a date (2021-06-05), a month (2021-06), a year, a time (2021-06-05T10:30:00Z) or START/END"
    if wrong:
        raise GeoAssetsError("INVALID_PARAMETERS", wrong, remedy=remedy)


def _put(converted: ConvertedSource, source: Path, destination: Path, *, into_folder: bool) -> list[Path]:
    """Move the results to their destination."""
    if into_folder:
        destination.mkdir(parents=True, exist_ok=True)
        places = [destination / f"{source.stem if converted.is_single else part.stem}.tif" for part in converted.made]
    else:
        places = [destination]
    for part, where in zip(converted.made, places, strict=True):
        if into_folder and where.exists() and where.samefile(source):
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{where} is the source itself", remedy="name another directory, or the file"
            )
        if part.cog:
            part.cog.chmod(0o666 & ~_umask())
            put_in_place(part.cog, where)
    return places


def _tell_one(source: Path, placed: Path, converted: ConvertedSource, *, as_json: bool) -> None:
    (part,) = converted.made
    if as_json and part.report:
        print_json(json_of(replace(part.report, warnings=tuple(converted.warnings()))))
        return
    if part.report:
        out.print(_line(placed, part.report, f"{human_bytes(source.stat().st_size)} → "), markup=False, soft_wrap=True)
    _note(converted)


def _tell_all(placed: list[Path], converted: ConvertedSource, *, as_json: bool) -> None:
    made = list(zip(placed, converted.made, strict=True))
    if as_json:
        cogs = [{"name": p.name, "cog": str(place), **(json_of(p.report) if p.report else {})} for place, p in made]
        left_out = [{"name": part.name, **part.error.to_dict()} for part in converted.parts if part.error]
        print_json({"cogs": cogs, "left_out": left_out, "warnings": converted.warnings()})
        return
    for place, part in made:
        if part.report:
            out.print(_line(place, part.report), markup=False, soft_wrap=True)
    _note(converted)


def _note(converted: ConvertedSource) -> None:
    for warning in converted.warnings():
        err.print(f"note: {one_line(in_words_of_commands(warning))}", markup=False, soft_wrap=True)


def _line(placed: Path, report: ConvertReport, before: str = "") -> str:
    pixels = f"{report.width:,} x {report.height:,} x {report.count}"
    how = "JPEG blocks kept" if report.kept_blocks else report.profile
    return f"{placed}: {pixels}, {how}, {before}{human_bytes(report.bytes)}, {report.seconds:.1f} s"


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A COG, written by any program.")],
    as_json: JsonFlag = False,
) -> None:
    """Check every block of every level: order, frames, checksums, and in our own COGs every bit against the stamp."""
    from geo_assets.raster.models import ValidateReport, ValidateRequest

    with _alone(file) as (pool, _, private):
        request = ValidateRequest(source=str(private), threads=os.cpu_count() or 1)
        report = pool.call("geo_assets.raster.validate:validate", request, ValidateReport)
    if as_json:
        print_json(json_of(report))
    elif not report.problems:
        stamp = ", as it was made" if report.stamped else " (no stamp: alterations that decode cannot be told)"
        out.print(f"{file}: a whole COG{stamp}", markup=False, soft_wrap=True)
    if report.problems:
        raise GeoAssetsError(
            "COG_VALIDATION_FAILED",
            f"{file.name} is not a valid COG: {'; '.join(report.problems)}",
            remedy=_how_it_is_made_again(file),
        )


def _how_it_is_made_again(file: Path) -> str:
    """By hand, unless a job published it: into its containers nobody writes but jobs, which know the bytes that lie
    there.
    """
    if collection := _published_in(file):
        return f"a job published it; which, and what makes it again: geo-assets verify --collection {collection}"
    return (
        "if it is a COG that was damaged, make it again from its source; if it is an ordinary raster: geo-assets cog"
        f" {shlex.quote(str(file))} OTHER.tif"
    )


def _published_in(file: Path) -> str | None:
    """The collection of a file that lies where jobs of this stack publish COGs."""
    from geo_assets.accounts import LocalAccount
    from geo_assets.settings import load_settings

    try:
        settings = load_settings()
    except GeoAssetsError:
        return None
    account = settings.storage_accounts.get(settings.output_account)
    if not isinstance(account, LocalAccount) or account.root is None:
        return None
    published, place = (account.root / settings.cog_container).resolve(), file.resolve()
    folders = place.relative_to(published).parts[:-1] if place.is_relative_to(published) else ()
    return folders[0] if folders else None


@contextmanager
def _alone(source: Path) -> Iterator[tuple[Any, Path, Path]]:
    """A pool of one child, a private folder, and in it the source with the sidecars that belong to it and nothing else.

    The metadata of its product lie in `product` below that folder.
    """
    from geo_assets.sandbox.pool import SandboxPool
    from geo_assets.sandbox.scratch import leave, of_this_user
    from geo_assets.stages.raster_conversion import PRODUCT
    from geo_assets.storage.products import metadata_beside

    if not source.is_file():
        raise GeoAssetsError("UNREADABLE", f"there is no file {source}", remedy="check the path")
    members, described = members_of(source), {Path(path.name): path for path in metadata_beside(source)}
    pool = SandboxPool(
        scratch := of_this_user(),
        timeout_seconds=_TIMEOUT,
        permissive=os.environ.get("GEO_ASSETS_SANDBOX")
        == "permissive",  # of the settings, whose import takes longer than this command
        preload=_PRELOAD,
        readable=[member.resolve() for member in (*members.values(), *described.values())],
        only_ours=True,
    )
    try:
        with pool:
            pool.warm_up()  # it imports its libraries meanwhile
            with pool.workspace() as folder:
                private = folder / "in"
                lay_out(members, private, linked=True)
                lay_out(described, folder / PRODUCT, linked=True)
                yield pool, folder, private / source.name
    finally:
        leave(scratch)


@contextmanager
def _progress(label: str, told: Callable[[], bytes]) -> Iterator[None]:
    """A bar on standard error that follows the child's reports; nothing if standard error is not a terminal."""
    if not err.is_terminal:
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(label, total=1.0)

        def look() -> None:
            with suppress(ValueError):  # nothing yet, or half of it
                bar.update(task, completed=min(max(float(told()), 0.0), 1.0))

        with every(_LOOK_EVERY, look, "bar"):
            yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
