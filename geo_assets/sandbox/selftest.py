"""A call that shows what a child can and cannot do; for `geo-assets doctor` and the tests.

Here: harmless probes, each requested by name. Not here: real work.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from geo_assets.lean import NOT_OF_A_CHILD
from geo_assets.sandbox.walls import Walls
from geo_assets.wire import Message

#: The drivers for the documented formats (docs/formats.md).
_RASTER_DRIVERS = frozenset({"GTiff", "COG", "PNG", "JPEG", "JP2OpenJPEG", "AAIGrid", "HFA"})
_VECTOR_DRIVERS = frozenset({"GPKG", "ESRI Shapefile", "GeoJSON", "FlatGeobuf", "LIBKML", "OpenFileGDB", "CSV"})


#: The walls of this process, set when they are raised.
WALLS: list[Walls] = []


@dataclass(frozen=True)
class ProbeRequest(Message):
    """The probe to run."""

    action: Literal[
        "environment",
        "crash",
        "hang",
        "allocate",
        "network",
        "libraries",
        "modules",
        "files",
        "walls",
        "socket",
        "signal",
        "fork",
        "fill",
    ]
    port: int = 0
    path: str = ""
    pid: int = 0


@dataclass(frozen=True)
class ProbeReport(Message):
    """The result of a probe."""

    pid: int
    facts: dict[str, str]


def probe(request: ProbeRequest) -> ProbeReport:
    """Run one probe."""
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
    """Return the result of reading the file `path`, and of writing one beside it."""
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


def _walls(_: ProbeRequest) -> dict[str, str]:
    """Return the walls that this process reports, and their visible effects."""
    words = {"standing": [], "missing": [], "without": []} if not WALLS else asdict(WALLS[-1])
    facts = {name: ", ".join(names) for name, names in words.items()}
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        **facts,
        "host name": socket.gethostname(),
        **{key: status.get(key, "") for key in ("Uid", "CapEff", "NoNewPrivs", "Seccomp")},
    }


def _socket(request: ProbeRequest) -> dict[str, str]:
    """Return the result of using a Unix socket at `path`; a leading @ makes it an abstract one."""
    name = f"\0{request.path[1:]}" if request.path.startswith("@") else request.path
    return {
        "connected": _outcome(lambda: socket.socket(socket.AF_UNIX).connect(name)),
        "pair": _outcome(socket.socketpair),
    }


def _signal(request: ProbeRequest) -> dict[str, str]:
    """Return the result of a signal to `pid`, directly and by way of a file's owner."""
    with Path("/dev/null").open("rb") as file:
        return {
            "kill": _outcome(lambda: os.kill(request.pid, 0)),
            "owner": _outcome(lambda: fcntl.fcntl(file, fcntl.F_SETOWN, request.pid)),
        }


def _fork(_: ProbeRequest) -> dict[str, str]:
    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    return {
        "fork": _outcome(fork),
        "exec": _outcome(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606
        "spawn": _outcome(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    }


def _fill(request: ProbeRequest) -> dict[str, str]:
    """Write files into a directory, one MB each, until something stops it."""
    number = 0
    while True:
        number += 1
        (Path(request.path) / f"{number}.bin").write_bytes(bytes(1 << 20))


def _outcome(do: Callable[[], object]) -> str:
    try:
        do()
    except OSError as error:
        return error.strerror or str(error)
    return "done"


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


def _modules(_: ProbeRequest) -> dict[str, str]:
    """What has been imported for the two conversions although no child needs it."""
    for conversion in ("geo_assets.raster.cog", "geo_assets.vector.reader.stream"):
        importlib.import_module(conversion)
    needless = (*NOT_OF_A_CHILD, "pydantic")
    return {name: str(sys.modules[name].__file__) for name in needless if name in sys.modules}


_ACTIONS = {
    "environment": _environment,
    "crash": _crash,
    "hang": _hang,
    "allocate": _allocate,
    "network": _network,
    "libraries": _libraries,
    "modules": _modules,
    "files": _files,
    "walls": _walls,
    "socket": _socket,
    "signal": _signal,
    "fork": _fork,
    "fill": _fill,
}
