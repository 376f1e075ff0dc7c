"""What a COG is made from: the source itself where it can be copied as it is, else a staged file; and its CRS.

Here: one conversion as it is requested (`Task`), and which file and CRS it starts from (`Origin`). Not here: writing
and proving the COG (`cog.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rasterio.shutil
from rasterio.crs import CRS

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import domains, gdal, tiff
from geo_assets.raster.georeference import other_body, parse_crs, same_crs
from geo_assets.raster.inspect import RasterInfo
from geo_assets.raster.models import WEB_CRS, ConvertRequest, Georeferencing
from geo_assets.raster.nodata import ELEMENT, WIDE
from geo_assets.raster.pixels import pieces
from geo_assets.raster.profiles import Profile
from geo_assets.raster.progress import Progress

#: Decoded bytes of a block below which handing it to another thread costs GDAL more (some 70 microseconds) than
#: decoding it.
_WORTH_A_THREAD = 1 << 14

#: Creation options of a staged copy, which is read once.
STAGED = {"TILED": "YES", "COMPRESS": "ZSTD", "ZSTD_LEVEL": "1", "BIGTIFF": "IF_SAFER"}

#: Drivers that tell the nodata value of 64-bit integers as a double, where GDAL looks for an integer; and what a double
#: holds of those.
_AS_DOUBLES, _MOST_OF_A_DOUBLE = frozenset({"ENVI", "EHdr"}), 2**53


@dataclass(frozen=True, slots=True)
class Origin:
    """What the COG is made from: the source itself, or a staged file; and the CRS that it is reprojected to."""

    path: Path
    driver: str
    crs: CRS | None  # that the COG will have
    assigned: bool = False  # the source has none, or another: `crs` was given with the request
    target: CRS | None = None  # reproject to it


@dataclass(frozen=True, slots=True)
class Task:
    """One conversion: what does not change while it runs."""

    request: ConvertRequest
    info: RasterInfo
    profile: Profile
    work: Path  # a private directory
    notes: list[str]
    log: gdal.Log
    layout: tiff.Layout | None  # of the source, where it is a TIFF
    progress: Progress

    def open(self, origin: Origin) -> Any:
        """Open what is copied; GDAL decodes blocks with several threads, which costs more than it gains where there is
        little to decode.
        """
        staged = origin.path != self.info.path  # written by us, compressed
        images = self.layout.directories if self.layout else ()
        worth = staged or (
            bool(images) and images[0].compression != tiff.UNCOMPRESSED and images[0].block_bytes >= _WORTH_A_THREAD
        )
        return gdal.open_raster(origin.path, origin.driver, **({"NUM_THREADS": self.request.threads} if worth else {}))

    @property
    def made(self) -> Path:
        """Return the path of the COG before it is published."""
        return self.work / "cog.tif"

    @property
    def name(self) -> str:
        """Return the name of the source."""
        return self.info.path.name


def origin_of(task: Task) -> Origin:
    """Return the source itself where it can be copied unchanged; else a staged GeoTIFF, or one to be reprojected."""
    request, info = task.request, task.info
    said = parse_crs(request.source_crs) if request.source_crs else None
    overruled = said is not None and request.override_crs and info.georeferencing is not Georeferencing.RPCS
    given = said if overruled else info.prj or said
    target = _target(request)
    if info.georeferencing is None and (request.require_crs or target):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{task.name} does not say where its pixels are: no transform, ground control points or RPCs",
            remedy=(
                "upload its world file beside it, or georeference it first, for example with: gdal_translate -a_ullr"
            ),
        )
    needs_crs = overruled or (info.crs is None and info.georeferencing is not Georeferencing.RPCS)
    if needs_crs and given is None:
        if request.require_crs or target:
            raise GeoAssetsError("RASTER_NO_CRS", f"{task.name} does not say in which CRS its coordinates are")
        task.notes.append("it has no CRS, so its place is unknown (give one with --source-crs)")
    if said and not same_crs(said, own := info.crs or info.prj or said):
        task.notes.append(
            f"its CRS is {request.source_crs}, as was asked for, and not the file's own: {own.to_string()[:60]}"
            if overruled
            else (
                f"source_crs {request.source_crs} is not used: the file has a CRS of its own (override_crs makes it"
                " count)"
            )
        )
    another = _names_another_nodata(task)
    origin = _mended(task, nodata=another) if info.world or another else Origin(info.path, info.driver, info.crs)
    if needs_crs and given:
        origin = replace(origin, crs=given, assigned=True)
    if body := other_body(origin.crs):
        told = f"its CRS is not of the Earth ({body})"
        if request.require_crs:
            remedy = "a catalogue of the Earth has no place for it; a COG of it is made by: geo-assets cog SRC DST"
            raise GeoAssetsError("INVALID_CRS", f"{task.name} cannot be placed: {told}", remedy=remedy)
        task.notes.append(f"{told}: it has no longitude and latitude there")
    approximate = info.georeferencing in {Georeferencing.GCPS, Georeferencing.RPCS}  # no grid in any CRS yet
    if target and (approximate or request.resolution or request.web_tiles or not same_crs(target, origin.crs)):
        return replace(origin, target=target)
    if approximate:
        task.notes.append(
            "its place is approximate (ground control points or RPCs): submit with target_crs to have it rectified"
        )
    return origin


def _names_another_nodata(task: Task) -> bool:
    """Whether the file names a nodata value that its pixels cannot hold in every bit, see `nodata_of`, or in a way in
    which GDAL does not copy it.
    """
    info = task.info
    if info.dtype in WIDE:
        return info.driver in _AS_DOUBLES and info.nodata is not None and abs(info.nodata) <= _MOST_OF_A_DOUBLE
    alone = info.driver == "GTiff" and not info.path.with_name(f"{info.path.name}.aux.xml").exists()
    if info.dtype != "float32" or alone:
        return False  # GDAL has rounded what is in a TIFF itself
    if info.named_nodata is not None:
        return repr(info.named_nodata) != repr(info.nodata)
    with gdal.reading(info.path, info.driver), gdal.open_raster(info.path, info.driver) as dataset:
        told = task.work / "nodata.vrt"  # rasterio is silent about one that is out of range, and GDAL is not
        rasterio.shutil.copy(dataset, told, driver="VRT")
    return bool(ELEMENT.search(told.read_bytes()))


def _mended(task: Task, *, nodata: bool) -> Origin:
    """Make a copy with the transform of the world file beside the source, where its driver does not read one, and, if
    `nodata`, with the value that pixels hold: GDAL reads, averages and warps by it.
    """
    info, path = task.info, task.work / "mended.tif"
    with gdal.reading(info.path, info.driver), gdal.open_raster(info.path, info.driver) as dataset:
        rasterio.shutil.copy(dataset, path, driver="GTiff", **STAGED, **domains.copied_by_gdal(info))
    beside = path.with_name(f"{path.name}.aux.xml")
    if nodata and beside.exists():  # there GDAL keeps the value that it rounded, and reads it first
        beside.write_bytes(ELEMENT.sub(b"", beside.read_bytes()))
    with rasterio.open(path, "r+", driver="GTiff") as staged:
        if info.world:
            staged.transform = info.world
        if nodata:
            staged.nodata = info.nodata
    return Origin(path, "GTiff", info.crs)


def refuse_unreadable_pixels(origin: Origin, info: RasterInfo) -> None:
    """Read everything: where a copy failed, the source may be the reason.

    Raises:
        GeoAssetsError: UNREADABLE.
    """
    with gdal.reading(info.path, info.driver), gdal.open_raster(origin.path, origin.driver) as dataset:
        for piece in pieces(dataset):
            dataset.read(list(piece.bands), window=piece.window)
            dataset.read_masks(1, window=piece.window)


def _target(request: ConvertRequest) -> CRS | None:
    """Return the CRS to reproject to."""
    if request.web_tiles and request.target_crs not in {None, WEB_CRS}:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"web tiles are in {WEB_CRS}, not in {request.target_crs}", remedy="leave one out"
        )
    if request.resolution and not (request.target_crs or request.web_tiles):
        raise GeoAssetsError(
            "INVALID_PARAMETERS", "a resolution is in units of target_crs, which is missing", remedy="give target_crs"
        )
    name = WEB_CRS if request.web_tiles else request.target_crs
    return parse_crs(name) if name else None
