"""The rasters of a zip or tar, each with its sidecars in a directory of its own, as if they had been uploaded loose.

Here: which member belongs to which, by the same rules as in a container, and where each is put. It runs in the
sandboxed child.
Not here: unpacking and its limits (`geo_assets/archives.py`), opening a member.

Each has a directory to itself because GDAL reads the files beside the one that it opens: one of a hundred rasters in a
directory could bring sidecars for all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from geo_assets.archives import notes_on_names, unpack
from geo_assets.raster import safe
from geo_assets.raster.product import product_datetime
from geo_assets.raster.variables_models import RasterMember, UnpackReport, UnpackRequest
from geo_assets.storage.journals import refuse_unwritten
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source, sorted_sources


def rasters(request: UnpackRequest) -> UnpackReport:
    """Unpack a zip or tar and list its rasters. An archive without rasters is not an error here: it may hold vectors.

    Raises:
        GeoAssetsError: UNSAFE_ARCHIVE, TOO_LARGE, EMPTY_ARCHIVE, UNREADABLE.
        OSError: the disk is full.
    """
    folder = Path(tempfile.mkdtemp(prefix="rasters-", dir=request.folder))  # a call that was killed may have left one
    unpacked = folder / "unpacked"
    try:
        members = unpack(Path(request.archive), unpacked, max_bytes=request.max_bytes, name=request.name)
        sources = sorted_sources(map(_member, map(str, members)))
        data, aside = safe.sorted_out([s for s in sources if s.kind is Kind.RASTER], key=lambda s: s.path)
        taken = product_datetime(unpacked, [s.path for s in sources if s.kind is not Kind.RASTER])
        made = tuple(_alone(source, unpacked, folder / f"{number:05d}") for number, source in enumerate(data, 1))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(unpacked)
    others = sorted({m.path for s in sources if s.kind is not Kind.RASTER for m in s.members})
    return UnpackReport(
        rasters=made,
        others=tuple(others),
        aside=tuple(s.path for s in aside),
        notes=notes_on_names(Path(request.archive), request.name),
        product_datetime=taken,
    )


def _member(path: str) -> Member:
    return Member(path=path, size=0, etag="")


def _alone(source: Source, unpacked: Path, folder: Path) -> RasterMember:
    """Link a raster and its sidecars into a directory; links, because rasters with the same name may share a .prj."""
    refuse_unwritten(unpacked / source.path, source.path)
    folder.mkdir()
    paths = []
    for member in source.members:
        path = folder / Path(member.path).name
        os.link(unpacked / member.path, path)
        paths.append(str(path))
    return RasterMember(name=source.path, path=paths[0], sidecars=tuple(paths[1:]))
