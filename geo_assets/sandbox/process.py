"""One sandboxed child, seen from its parent: the process with its environment, and the pipe that it writes to.

Here: starting and killing it, the end of a stream. Not here: which call it gets (`lane.py`, `pool.py`), the limits
inside it (`child.py`, `walls.py`).
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from geo_assets.sandbox.protocol import Terms
from geo_assets.sandbox.scratch import (
    TEMPORARY,
)

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

#: -P: otherwise a module written into the child's directory by a hostile file would be found first.
_CHILD = ("-P", "-m", "geo_assets.sandbox.child")

#: Milliseconds of silence in a stream after which to check whether its child still lives.
_SILENCE_MS = 250


class Child:
    """One process, its control socket and its lifeline."""

    def __init__(self, folder: Path, terms: Terms) -> None:
        self.calls = 0
        mine, theirs = socket.socketpair()
        lifeline_read, self._lifeline = os.pipe()
        environment = {
            **GDAL_ENVIRONMENT,
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(folder / TEMPORARY),
            "TMPDIR": str(folder / TEMPORARY),
            "CPL_TMPDIR": str(folder / TEMPORARY),
            "OPENBLAS_NUM_THREADS": "1",
            **MALLOC,
        }
        command = [sys.executable, *_CHILD, str(theirs.fileno()), str(lifeline_read), *terms.arguments()]
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            pass_fds=(theirs.fileno(), lifeline_read),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        os.close(lifeline_read)
        self.control = mine

    def close(self) -> None:
        """Kill it and close its descriptors."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.control.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)


class PipeEnd(io.RawIOBase):
    """The end of a stream's pipe from which we read. It ends when the child is dead, even if another process holds the
    other end.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._alive = descriptor, _yes

    def written_by(self, process: subprocess.Popen[bytes]) -> None:
        """Set the child that writes at the other end."""
        self._alive = lambda: process.poll() is None

    def readable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def readinto(self, buffer: Any) -> int:
        """Read the available bytes; wait for some while the child lives."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            living = self._alive()  # checked before reading: what the child wrote before it died can still be read
            with contextlib.suppress(BlockingIOError):
                return os.readv(self._descriptor, [buffer])
            if not living:
                return 0
            poll.poll(_SILENCE_MS)

    def close(self) -> None:
        """Close it, once."""
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def _yes() -> bool:
    return True
