"""PostgreSQL with PostGIS from Debian's packages: installed as root, unpacked into the home by anyone else.

Here: apt and dpkg. Not here: finding binaries or running a cluster (`postgresql.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from geo_assets.errors import GeoAssetsError

Log = Callable[[str], None]

#: Where an unpacked PostgreSQL lies, below the home.
UNPACKED = "postgresql-dist"

#: Not needed by postgres, initdb, pg_ctl and postgis-3.so, though a package depends on them: prefix -> why.
_NOT_NEEDED = {
    "libgdal": "postgis_raster only, and it brings a hundred packages",
    "libsfcgal": "postgis_sfcgal only",
    "libllvm": "JIT, switched off",
    "postgresql-common": "Debian's cluster management; the cluster is ours",
    "postgresql-client-common": "as above",
    "ssl-cert": "loopback only",
    "perl": "used by Debian's wrappers",
    "python": "used by maintainer scripts",
    "locales": "C.UTF-8 is built in",
    "debconf": "maintainer scripts are not run",
    "sensible-utils": "as above",
    "tzdata": "PostgreSQL carries its own zones, or the system has them",
    "ucf": "maintainer scripts are not run",
    "netbase": "no service names are needed",
}


def install(home: Path, log: Log) -> None:
    """Bring PostgreSQL with PostGIS onto this machine, the way this user may.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND, there is no apt, or it could not.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise GeoAssetsError("POSTGRES_NOT_FOUND", "there is no PostgreSQL with PostGIS here, and no apt-get to bring it")
    if os.geteuid() == 0:
        _install_as_root(log)
    else:
        _unpack_without_root(home, log)


def _install_as_root(log: Log) -> None:
    log("installing PostgreSQL and PostGIS with apt-get")
    _run(["apt-get", "update", "-qq"])
    config = Path("/etc/postgresql-common/createcluster.conf")
    if not config.exists():
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("create_main_cluster = false\n", encoding="utf-8")  # ours is private; Debian's would take a port
    version = _newest_version([])
    packages = [f"postgresql-{version}", f"postgresql-{version}-postgis-3", f"postgresql-{version}-postgis-3-scripts"]
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", *packages])


def _unpack_without_root(home: Path, log: Log) -> None:
    """Unpack beside the final place and rename: a killed run leaves nothing that looks whole."""
    log("unpacking PostgreSQL and PostGIS (no root needed)")
    target = home / UNPACKED
    work = home / f".{UNPACKED}.{os.getpid()}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        (work / "root").mkdir(parents=True)
        apt = _private_apt(work / "apt")
        _run(["apt-get", *apt, "update", "-qq"])
        version = _newest_version(apt)
        packages = _needed(
            apt,
            [
                f"postgresql-{version}",
                f"postgresql-client-{version}",
                f"postgresql-{version}-postgis-3",
                f"postgresql-{version}-postgis-3-scripts",
            ],
        )
        log(f"downloading {len(packages)} packages")
        _run(["apt-get", *apt, "download", "-qq", *packages], cwd=work / "apt")
        for archive in sorted((work / "apt").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(archive), str(work / "root")])
        _finish_control_files(work / "root")
        shutil.rmtree(target, ignore_errors=True)
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _private_apt(folder: Path) -> list[str]:
    """Options that let anyone run apt: lists, caches and locks of its own, the machine's sources and keys."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    options = {"Dir::State::Lists": folder / "lists", "Dir::Cache": folder / "cache", "Debug::NoLocking": 1, "APT::Sandbox::User": ""}
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _newest_version(apt: list[str]) -> int:
    found = [
        int(n) for n in re.findall(r"^postgresql-(\d+)-postgis-3$", _run(["apt-cache", *apt, "pkgnames", "postgresql-"]), re.MULTILINE)
    ]
    if not found:
        raise GeoAssetsError("POSTGRES_NOT_FOUND", "this distribution has no package postgresql-N-postgis-3")
    return max(found)


def _needed(apt: list[str], wanted: list[str]) -> list[str]:
    """The packages to unpack: `wanted` and what they depend on, less what is installed or not needed."""
    installed = set(re.findall(r"^(\S+) install ok installed$", _run(["dpkg-query", "-W", "-f", "${Package} ${Status}\n"]), re.MULTILINE))
    seen: dict[str, None] = {}
    queue = list(wanted)
    while queue:
        package = queue.pop(0)
        if package in seen or (package in installed and package not in wanted) or package.startswith(tuple(_NOT_NEEDED)):
            continue
        seen[package] = None
        queue.extend(
            _depends(
                _run(
                    [
                        "apt-cache",
                        *apt,
                        "depends",
                        "--no-recommends",
                        "--no-suggests",
                        "--no-conflicts",
                        "--no-breaks",
                        "--no-replaces",
                        "--no-enhances",
                        package,
                    ]
                )
            )
        )
    return list(seen)


def _depends(output: str) -> Iterable[str]:
    """Dependencies in the output of `apt-cache depends`; of alternatives (`|`) the first, of virtual packages none."""
    skip = False
    for line in output.splitlines():
        match = re.match(r"\s*(\|?)(?:Pre)?Depends: (\S+)", line)
        if not match:
            continue
        if not skip and not match[2].startswith("<"):
            yield match[2].partition(":")[0]
        skip = bool(match[1])


def _finish_control_files(root: Path) -> None:
    """Debian names `postgis-3.control` and lets update-alternatives make `postgis.control`; nobody ran that here."""
    for control in root.glob("usr/share/postgresql/*/extension/*-3.control"):
        plain = control.with_name(control.name.replace("-3.control", ".control"))
        if not plain.exists():
            plain.symlink_to(control.name)


def _run(command: list[str], *, cwd: Path | None = None) -> str:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise GeoAssetsError("POSTGRES_NOT_FOUND", f"`{' '.join(command[:2])} …` failed: {tail}")
    return done.stdout
