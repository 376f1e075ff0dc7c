"""Starting the process of a child: its command, its environment, its descriptors.

Here: nothing but the standard library, so that a command which will need a child can start one before it imports
anything else. What it may do comes later, in its terms. Not here: those (`protocol.py`), calls, ending it
(`process.py`).
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from typing import NamedTuple

#: Configuration of GDAL and PROJ before they are loaded. Drivers that read other files, use the network or run code are
#: never registered, except VRT, which every warp needs in memory; a disguised VRT is not opened because each open names
#: its one driver. OGR_SQLITE_LOAD_EXTENSIONS is not among them: it *names* extensions ("NO" would be one), and without
#: it SQLite loads none.
GDAL_ENVIRONMENT = {
    "GDAL_SKIP": (
        "GTI,STACIT,STACTA,MRF,WMS,WMTS,WCS,DAAS,EEDAI,EEDA,PLMosaic,NGW,HTTP,PDF,OSM,KMLSUPEROVERLAY,RPFTOC,"
        "TIL,SAFE,Zarr,DERIVED,NGSGEOID,GDALG,PostGISRaster,Rasterlite"
    ),
    "OGR_SKIP": (
        "OGR_VRT,ADBC,WFS,OAPIF,OGCAPI,CSW,NGW,Elasticsearch,Carto,AmigoCloud,PLSCENES,GPSBabel,PDF,PMTiles,"
        "OSM,PostgreSQL,MySQL,MSSQLSpatial,ODBC,MongoDBv3,GDALG,HTTP,EEDA"
    ),
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",  # each source is alone with its own sidecars
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_CACHEMAX": "64",  # MB a child: a row of blocks; more is only more memory to clear
    "PROJ_NETWORK": "OFF",
}

#: The C library gives large blocks back to the kernel at once, which then clears the same pages for the next tile:
#: a quarter of the time of a fast conversion. Here they are kept; one arena per core.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_ARENA_MAX": str(os.cpu_count() or 1),
}

#: What else is in the environment: nothing of ours.
_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",  # until its terms name its directory
    "OPENBLAS_NUM_THREADS": "1",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # it would look for them in every distribution that is installed
}

#: -P: otherwise a module written into the child's directory by a hostile file would be found first.
_CHILD = ("-P", "-m", "geo_assets.sandbox.child")


class Started(NamedTuple):  # not a dataclass: `dataclasses` takes longer to import than the rest of this module
    """A process that waits for its terms; it dies when the lifeline is closed."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    lifeline: io.FileIO

    def end(self) -> None:
        """Kill it and close its descriptors; may be repeated."""
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.lifeline.close()


_AHEAD: list[Started] = []


def ahead(*preload: str) -> None:
    """Start one now, for `taken`: it loads what it needs while its parent does the same.

    Args:
        preload: modules that it imports at once. They may start no thread, which would be outside of the walls.
    """
    _AHEAD.append(_started(preload))


def taken() -> Started:
    """The one that was started ahead, or a new one."""
    try:
        return _AHEAD.pop()
    except IndexError:
        return _started()


def drop() -> None:
    """End those that nobody took."""
    while _AHEAD:
        _AHEAD.pop().end()


def _started(preload: tuple[str, ...] = ()) -> Started:
    control, theirs = socket.socketpair()
    lifeline_read, lifeline = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, *_CHILD, str(theirs.fileno()), str(lifeline_read), *preload],
            env={**GDAL_ENVIRONMENT, **MALLOC, **_ENVIRONMENT},
            cwd=os.sep,
            pass_fds=(theirs.fileno(), lifeline_read),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except BaseException:
        control.close()
        os.close(lifeline)
        raise
    finally:
        theirs.close()
        os.close(lifeline_read)
    return Started(process, control, io.FileIO(lifeline, "w"))
