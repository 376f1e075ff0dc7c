"""One raster becomes a validated COG: an exact copy through GDAL's COG driver, then proof, then a report.

Here: `convert`, the one door, and the order of the steps. It runs in the sandboxed child.
Not here: each step (`inspect.py`, `profiles.py`, `reproject.py`, `validate.py`, `footprint.py`, `thumbnail.py`).

GDAL's driver, never rio-cogeo's `cog_translate`, which goes through a WarpedVRT and so changes pixels under masks,
drops GCPs and shifts georeferencing. Not its option STATISTICS=YES either: it needs the VRT driver, which the sandbox
does without, and its numbers ignore masks and alpha. Statistics are summed up while the copy is compared.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rasterio.shutil
from rasterio.crs import CRS

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal, tiff
from geo_assets.raster.footprint import footprint, refuse_off_earth
from geo_assets.raster.georeference import (
    dataset_crs,
    epsg,
    georeferencing,
    gsd,
    native_bounds,
    parse_crs,
    projjson,
    resolution,
    same_crs,
    wkt2,
)
from geo_assets.raster.inspect import RasterInfo, dtype_names, inspect
from geo_assets.raster.models import BandReport, ConvertReport, ConvertRequest, Georeferencing, NoData
from geo_assets.raster.pixels import BandStatistics, Measurement, pieces
from geo_assets.raster.profiles import Profile, choose_profile
from geo_assets.raster.reproject import warp
from geo_assets.raster.thumbnail import write_thumbnail
from geo_assets.raster.validate import compare, lost_metadata, raise_for, structure, undecodable

#: Words of GDAL and the C library for a full disk, a quota or the sandbox's limit on a file.
_DISK_FULL = ("No space left", "File too large", "quota", "Write error", "write error", "Cannot write", "TIFFAppendToStrip")

#: How far a STATISTICS_ item of the source may be off, in parts of the range, before it is called stale.
_STALE = 1e-3


@dataclass(frozen=True, slots=True)
class _Origin:
    """What the COG is copied from, and what it must then equal.

    A source without a CRS is copied by way of a staged file, but still compared with the source itself; a reprojected
    one can only be compared with the staged file.
    """

    path: Path
    driver: str
    crs: CRS | None  # that the COG will have
    equals: Path
    equals_driver: str


def convert(request: ConvertRequest) -> ConvertReport:
    """Write the COG (and thumbnail) that is asked for, or leave nothing and say why.

    Raises:
        GeoAssetsError: UNREADABLE, UNSUPPORTED_FORMAT, RASTER_SUBDATASETS, RASTER_UNSUPPORTED, RASTER_NO_CRS, INVALID_CRS,
            INVALID_PARAMETERS, TOO_LARGE, DISK_FULL, COG_VALIDATION_FAILED.
        MemoryError: one file is given too little memory for this one.
    """
    started = time.monotonic()
    destination = Path(request.destination)
    with gdal.session() as log, _private_directory(destination.parent) as work:
        info = inspect(Path(request.source))
        profile = choose_profile(info, request.profile)
        notes: list[str] = []
        _refuse_damage(info, request.threads)
        origin = _origin(info, request, work, notes)
        made = work / "cog.tif"
        _write(origin, made, info, profile, request.threads)
        notes += _left_behind(made, info)
        report = _proven(info, origin, made, profile, notes, log)
        if request.thumbnail:
            with gdal.open_raster(made) as cog:
                write_thumbnail(cog, info.kind, work / "thumbnail.png")
        report = report.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
        _publish(work, request)
    return report


@contextmanager
def _private_directory(parent: Path) -> Iterator[Path]:
    """A directory on the destination's file system; nothing in it outlives the conversion, whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=".cog-", dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, request: ConvertRequest) -> None:
    """The COG last: where it is, everything is."""
    if request.thumbnail:
        shutil.move(work / "thumbnail.png", request.thumbnail)
    (work / "cog.tif").replace(request.destination)


def _refuse_damage(info: RasterInfo, threads: int) -> None:
    """What GDAL would read without a word: blocks beyond the end, DEFLATE blocks that do not match their checksum."""
    if info.driver != "GTiff":
        return
    try:
        layout = tiff.read_layout(info.path)
        cut = tiff.cut_off(layout)
    except tiff.LayoutError as error:
        raise gdal.unreadable(info.path, info.driver, str(error)) from error
    if cut:
        remedy = f"upload it again, whole (what is there has {layout.size:,} bytes), then submit again"
        raise gdal.unreadable(info.path, info.driver, "; ".join(cut), remedy=remedy)
    if wrong := tiff.bad_checksums(info.path, layout, threads):
        raise gdal.unreadable(info.path, info.driver, "; ".join(wrong))


def _origin(info: RasterInfo, request: ConvertRequest, work: Path, notes: list[str]) -> _Origin:
    """The source itself where it can be copied as it is; else a staged GeoTIFF with another CRS."""
    given = parse_crs(request.source_crs) if request.source_crs else None
    target = parse_crs(request.target_crs) if request.target_crs else None
    if info.georeferencing is None:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{info.path.name} does not say where its pixels lie: no transform, ground control points or RPCs",
            remedy="upload its world file beside it, or georeference it first, for example with: gdal_translate -a_ullr",
        )
    needs_crs = info.crs is None and info.georeferencing is not Georeferencing.RPCS
    if needs_crs and given is None:
        raise GeoAssetsError("RASTER_NO_CRS", f"{info.path.name} does not say in which CRS its coordinates are")
    if given and not needs_crs and not same_crs(given, info.crs):
        notes.append(f"source_crs {request.source_crs} is not used: the file has a CRS of its own")
    origin = _Origin(info.path, info.driver, info.crs, info.path, info.driver)
    if needs_crs and given:
        origin = _with_crs(origin, given, work / "assigned.tif", request.threads)
    if target and not same_crs(target, origin.crs):
        origin = _warped(origin, info, target, work / "warped.tif", request.threads)
    elif info.georeferencing is not Georeferencing.TRANSFORM:
        notes.append("its place is approximate (ground control points or RPCs): submit with target_crs to have it rectified")
    return origin


def _with_crs(origin: _Origin, crs: CRS, path: Path, threads: int) -> _Origin:
    """A copy that has this CRS; pixels and everything else untouched."""
    options = {"TILED": "YES", "COMPRESS": "ZSTD", "ZSTD_LEVEL": "1", "BIGTIFF": "IF_SAFER", "NUM_THREADS": str(threads)}
    with gdal.reading(origin.path, origin.driver), gdal.open_raster(origin.path, origin.driver) as dataset:
        rasterio.shutil.copy(dataset, path, driver="GTiff", **options)
    with rasterio.open(path, "r+", driver="GTiff") as staged:
        if staged.gcps[0]:
            staged.gcps = (staged.gcps[0], crs)
        else:
            staged.crs = crs
    return replace(origin, path=path, driver="GTiff", crs=crs)


def _warped(origin: _Origin, info: RasterInfo, target: CRS, path: Path, threads: int) -> _Origin:
    with gdal.reading(info.path, info.driver), gdal.open_raster(origin.path, origin.driver) as dataset:
        refuse_off_earth(dataset, info.path.name)
        warp(dataset, info, target, path, threads)
    return _Origin(path, "GTiff", target, path, "GTiff")


def _write(origin: _Origin, made: Path, info: RasterInfo, profile: Profile, threads: int) -> None:
    """Write the COG; where that fails, find out whose fault it is."""
    try:
        with gdal.open_raster(origin.path, origin.driver) as dataset:
            refuse_off_earth(dataset, info.path.name)
            rasterio.shutil.copy(dataset, made, driver="COG", **profile.options(threads), **_metadata_options(info, origin))
    except gdal.GDAL_ERRORS as error:
        _refuse_unreadable_pixels(origin, info)
        why = gdal.reason(error, made)
        if any(words in why for words in _DISK_FULL):
            raise GeoAssetsError("DISK_FULL", f"no room for the COG of {info.path.name}: {why}") from error
        raise GeoAssetsError("INTERNAL", f"GDAL could not write the COG of {info.path.name}: {why}") from error


def _metadata_options(info: RasterInfo, origin: _Origin) -> dict[str, str]:
    """GDAL copies either the metadata of bands or the domains beyond the default one, not both; see `_left_behind`."""
    options = {"COPY_SRC_MDD": "YES"} if info.domains and not info.band_tags else {}
    if origin.path == info.path and info.driver == "GTiff" and tiff.read_layout(info.path).geotiff_minor == 0:
        options["GEOTIFF_VERSION"] = "1.0"  # as it was: 1.0 and 1.1 readers differ in what they make of a vertical CRS
    return options


def _refuse_unreadable_pixels(origin: _Origin, info: RasterInfo) -> None:
    with gdal.reading(info.path, info.driver), gdal.open_raster(origin.path, origin.driver) as dataset:
        for piece in pieces(dataset):
            dataset.read(list(piece.bands), window=piece.window)
            dataset.read_masks(1, window=piece.window)


def _left_behind(made: Path, info: RasterInfo) -> list[str]:
    """What GDAL wrote beside the COG because a TIFF cannot hold it, and what it did not copy; the COG stands alone."""
    notes = []
    if info.domains and info.band_tags:
        notes.append(f"metadata domains are not carried over: {', '.join(info.domains)}"[:300])
    for extra in sorted(made.parent.glob(f"{made.stem}*")):
        if extra != made:
            notes.append(f"a TIFF cannot hold {_held_by(extra)}; left out")
            extra.unlink()
    return notes


#: Elements of an .aux.xml that have no place in a TIFF.
_IN_AUX_XML = {
    "<GDALRasterAttributeTable": "its attribute table",
    "<CategoryNames": "the names of its categories",
    "<Histograms": "its histograms",
}


def _held_by(extra: Path) -> str:
    text = extra.read_bytes()[: 1 << 20].decode("utf-8", "replace") if extra.suffix == ".xml" else ""
    held = [what for element, what in _IN_AUX_XML.items() if element in text]
    return " and ".join(held) or f"what is in its {extra.suffix} file"


def _proven(info: RasterInfo, origin: _Origin, made: Path, profile: Profile, notes: list[str], log: gdal.Log) -> ConvertReport:
    """Validate and describe the COG.

    Raises:
        GeoAssetsError: COG_VALIDATION_FAILED; UNREADABLE, a decoder warned of damage.
    """
    name = info.path.name
    try:
        raise_for(name, structure(made) + undecodable(made, first_level=1))
    except tiff.LayoutError as error:
        raise GeoAssetsError("COG_VALIDATION_FAILED", f"the COG of {name} is not right: {error}") from error
    with (
        gdal.reading(info.path, info.driver),
        gdal.open_raster(origin.equals, origin.equals_driver) as source,
        gdal.open_raster(made) as cog,
    ):
        measurement = Measurement(cog)
        problems = compare(source, cog, crs=origin.crs, measurement=measurement)
        if damage := log.damage():
            raise gdal.unreadable(info.path, info.driver, damage)
        _refuse_a_crs_that_a_tiff_cannot_hold(name, origin, cog)
        raise_for(name, problems)
        notes = [*notes, *lost_metadata(source, cog)]
        report = _report(info, cog, profile, measurement)
    return report.model_copy(update={"warnings": (*report.warnings, *notes, *log.messages)})


def _refuse_a_crs_that_a_tiff_cannot_hold(name: str, origin: _Origin, cog: Any) -> None:
    """Not every WKT has GeoTIFF keys: what was read back is another CRS then, and coordinates would be off by some metres."""
    if not same_crs(origin.crs, dataset_crs(cog)):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"a GeoTIFF cannot hold the CRS of {name} exactly: {_name(origin.crs)} becomes {_name(dataset_crs(cog))}",
            remedy="submit with --param target_crs=EPSG:…, or write the file again with an EPSG code",
        )


def _name(crs: CRS | None) -> str:
    return crs.to_string()[:80] if crs else "none"


def _report(info: RasterInfo, cog: Any, profile: Profile, measurement: Measurement) -> ConvertReport:
    made = Path(cog.name)
    crs = dataset_crs(cog)
    outline = footprint(cog, info.path.name)
    with made.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    statistics = measurement.statistics()
    warnings = _stale_statistics(cog, statistics)
    return ConvertReport(
        driver=info.driver,
        profile=profile.name,
        kind=info.kind,
        georeferencing=georeferencing(cog) or Georeferencing.TRANSFORM,
        width=cog.width,
        height=cog.height,
        count=cog.count,
        dtypes=dtype_names(cog),
        nodata=_json_number(cog.nodata, info.dtype),
        epsg=epsg(crs),
        crs_wkt2=wkt2(crs),
        projjson=projjson(crs),
        transform=tuple(cog.transform)[:6],
        bbox=native_bounds(cog),
        footprint=outline.geometry,
        bbox_4326=outline.bbox,
        bands=tuple(_band(cog, band, s) for band, s in zip(cog.indexes, statistics, strict=True)),
        resolution=resolution(cog),
        gsd=gsd(cog),
        datetime=info.captured,
        bytes=made.stat().st_size,
        sha256=sha256,
        pixels_sha256=measurement.sha256(),
        warnings=(*warnings, *(["no pixel is valid"] if outline.empty else [])),
        seconds=0,
        software=_software(),
    )


def _band(cog: Any, band: int, statistics: BandStatistics) -> BandReport:
    description, unit = cog.descriptions[band - 1], cog.units[band - 1]
    return BandReport(
        name=description or f"b{band}",
        description=description or None,
        unit=unit or None,
        scale=cog.scales[band - 1],
        offset=cog.offsets[band - 1],
        colorinterp=cog.colorinterp[band - 1].name,
        minimum=statistics.minimum,
        maximum=statistics.maximum,
        mean=statistics.mean,
        stddev=statistics.stddev,
        valid_percent=statistics.valid_percent,
    )


def _stale_statistics(cog: Any, statistics: Sequence[BandStatistics]) -> list[str]:
    """Whether STATISTICS_ items came with the source that are not true of its valid pixels; readers show them as if they were."""
    stale = [str(band) for band, true in zip(cog.indexes, statistics, strict=True) if _is_stale(cog.tags(band), true)]
    return [f"the statistics that band {', '.join(stale)} brought along are not those of its valid pixels"] if stale else []


def _is_stale(tags: dict[str, str], true: BandStatistics) -> bool:
    if true.minimum is None or true.maximum is None:
        return False
    slack = _STALE * max(float(true.maximum) - float(true.minimum), 1e-9)
    for item, value in (("MINIMUM", true.minimum), ("MAXIMUM", true.maximum), ("MEAN", true.mean), ("STDDEV", true.stddev)):
        try:
            claimed = float(tags[f"STATISTICS_{item}"])
        except (KeyError, ValueError):
            continue
        if value is not None and not abs(claimed - value) <= slack:
            return True
    return False


def _json_number(value: float | None, dtype: str) -> NoData | None:
    if value is None:
        return None
    if value != value:  # noqa: PLR0124 - NaN
        return "nan"
    if value in {float("inf"), float("-inf")}:
        return "inf" if value > 0 else "-inf"
    return int(value) if "int" in dtype and not dtype.startswith("complex") and value == int(value) else float(value)


def _software() -> dict[str, str]:
    from importlib.metadata import version

    import pyproj

    return {
        "geo_assets": version("geo_assets"),
        "rasterio": rasterio.__version__,
        "gdal": rasterio.__gdal_version__,
        "proj": pyproj.proj_version_str,
        "rio_cogeo": version("rio-cogeo"),
    }
