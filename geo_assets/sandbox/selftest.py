"""A call that shows what a child can and cannot do; for `geo-assets doctor` and the tests.

Here: harmless probes, each asked for by name. Not here: real work.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

#: What the formats that are promised need (docs/formats.md).
_RASTER_DRIVERS = frozenset({"GTiff", "COG", "PNG", "JPEG", "JP2OpenJPEG", "AAIGrid", "HFA"})
_VECTOR_DRIVERS = frozenset({"GPKG", "ESRI Shapefile", "GeoJSON", "FlatGeobuf", "LIBKML", "OpenFileGDB", "CSV"})


class ProbeRequest(BaseModel):
    """What to try."""

    model_config = ConfigDict(extra="forbid")
    action: Literal["environment", "crash", "hang", "allocate", "network", "libraries", "files"]
    port: int = 0
    path: str = ""


class ProbeReport(BaseModel):
    """What came of it."""

    pid: int
    facts: dict[str, str]


def probe(request: ProbeRequest) -> ProbeReport:
    """Do one of the named things."""
    return ProbeReport(pid=os.getpid(), facts=_ACTIONS[request.action](request))


def _environment(_: ProbeRequest) -> dict[str, str]:
    return {**os.environ, "cwd": str(Path.cwd())}


def _crash(_: ProbeRequest) -> dict[str, str]:
    os._exit(139)


def _hang(_: ProbeRequest) -> dict[str, str]:
    time.sleep(3600)
    return {}


def _allocate(_: ProbeRequest) -> dict[str, str]:
    return {"bytes": str(len(bytearray(1 << 40)))}


def _network(request: ProbeRequest) -> dict[str, str]:
    try:
        with socket.create_connection(("127.0.0.1", request.port), timeout=2):
            return {"network": "reachable"}
    except OSError as error:
        return {"network": f"unreachable: {error.strerror or error}"}


def _files(request: ProbeRequest) -> dict[str, str]:
    """What comes of reading a file of `path`, and of writing one beside it."""
    path = Path(request.path)
    try:
        read = f"{len(path.read_bytes())} bytes"
    except OSError as error:
        read = error.strerror or str(error)
    try:
        path.with_name("written_by_child").write_bytes(b"")
        written = "written"
    except OSError as error:
        written = error.strerror or str(error)
    return {"read": read, "written": written}


def _libraries(_: ProbeRequest) -> dict[str, str]:
    import pyogrio
    import rasterio

    with rasterio.Env() as environment:
        missing = _RASTER_DRIVERS - environment.drivers().keys()
    missing |= _VECTOR_DRIVERS - pyogrio.list_drivers().keys()
    return {
        "missing drivers": ", ".join(sorted(missing)),
        "rasterio": rasterio.__version__,
        "gdal (raster)": rasterio.__gdal_version__,
        "pyogrio": pyogrio.__version__,
        "gdal (vector)": ".".join(map(str, pyogrio.__gdal_version__)),
    }


_ACTIONS = {
    "environment": _environment,
    "crash": _crash,
    "hang": _hang,
    "allocate": _allocate,
    "network": _network,
    "libraries": _libraries,
    "files": _files,
}
