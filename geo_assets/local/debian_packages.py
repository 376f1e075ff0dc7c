"""PostgreSQL with PostGIS from Debian's packages: installed as root, unpacked into the home by anyone else.

Here: apt and dpkg. Not here: finding binaries or running a cluster (`postgresql.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from geo_assets.errors import GeoAssetsError

Log = Callable[[str], None]

#: The directory of an unpacked PostgreSQL, below the home.
UNPACKED = "postgresql-dist"

#: Packages that postgres, initdb, pg_ctl and postgis-3.so do not need, though a package depends on them: prefix -> why.
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
    "tzdata": "Debian's PostgreSQL reads the system's by an absolute path, so a copy in a folder is of no use",
    "ucf": "maintainer scripts are not run",
    "netbase": "no service names are needed",
    "readline-common": "key bindings and manual pages",
}

#: Read by Debian's postgresql-common; replaced by ours during the installation, so that it creates no cluster `main` on
#: port 5432.
_NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/geo_assets.conf")


def install(home: Path, log: Log, version: int | None = None) -> None:
    """Install PostgreSQL `version` (None: the newest available) with PostGIS on this machine, in the way that this user
    may.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND, there is no apt, or it failed.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise GeoAssetsError(
            "POSTGRES_NOT_FOUND", "there is no PostgreSQL with PostGIS here, and no apt-get to install it"
        )
    if os.geteuid() == 0:
        _install_as_root(log, version)
    else:
        _unpack_without_root(home, log, version)


def _install_as_root(log: Log, version: int | None) -> None:
    with _without_main_cluster():
        try:
            _apt_install(log, version)
        except GeoAssetsError as error:  # no package lists (container images), or outdated ones
            log(f"again with fresh package lists, because {error}")
            _update([], log)
            _apt_install(log, version)


def _apt_install(log: Log, version: int | None) -> None:
    packages = _packages(version or _newest_version([]))
    log(f"installing {' '.join(packages)} with apt-get")
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *packages])


@contextmanager
def _without_main_cluster() -> Iterator[None]:
    """Keep Debian from creating and starting a cluster of its own; the machine's default is restored afterwards."""
    _NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    _NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n", encoding="utf-8")
    try:
        yield
    finally:
        _NO_MAIN_CLUSTER.unlink(missing_ok=True)


def _unpack_without_root(home: Path, log: Log, version: int | None) -> None:
    log("unpacking PostgreSQL and PostGIS (no root needed)")

    def finish(root: Path) -> None:
        _finish_control_files(root)
        if missing := missing_libraries(root):
            raise GeoAssetsError("POSTGRES_NOT_FOUND", f"the unpacked PostgreSQL lacks {', '.join(missing)}")

    unpack(home / UNPACKED, lambda apt: _packages(version or _newest_version(apt)), log, finish)


def unpack(
    target: Path, packages: Callable[[list[str]], list[str]], log: Log, finish: Callable[[Path], None] = lambda _: None
) -> None:
    """Unpack packages and what they depend on into a folder, which any user may. It is filled beside its place and
    renamed: a killed run leaves nothing that looks complete, and the next run removes it.

    Args:
        target: the folder.
        packages: from options of apt to the names of packages.
        log: called with a line for each part.
        finish: called with the folder before it is renamed.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND, apt or dpkg failed.
    """
    for left_by_a_killed_run in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        (work / "root").mkdir(parents=True)
        apt = _private_apt(work / "apt")
        _update(apt, log)
        needed = _needed(apt, packages(apt))
        log(f"downloading {len(needed)} packages: {' '.join(needed)}")
        run(["apt-get", *apt, "download", "-qq", *needed], cwd=work / "apt")
        for archive in sorted((work / "apt").glob("*.deb")):
            run(["dpkg-deb", "-x", str(archive), str(work / "root")])
        finish(work / "root")
        shutil.rmtree(target, ignore_errors=True)
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _packages(version: int) -> list[str]:
    """Return the packages to request; also the server and psql, because the machine may have them without PostGIS."""
    return [
        f"postgresql-{version}",
        f"postgresql-client-{version}",
        f"postgresql-{version}-postgis-3",
        f"postgresql-{version}-postgis-3-scripts",
    ]


def _update(apt: list[str], log: Log) -> None:
    """Fetch the package lists. One unavailable source is not a failure yet: what counts is whether the packages are
    found.
    """
    try:
        run(["apt-get", *apt, "update", "-qq"])
    except GeoAssetsError as error:
        log(str(error))


def _private_apt(folder: Path) -> list[str]:
    """Return options that let any user run apt: lists, caches and locks of its own, the machine's sources and keys."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    options = {
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Debug::NoLocking": 1,
        "APT::Sandbox::User": "",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def _newest_version(apt: list[str]) -> int:
    names = run(["apt-cache", *apt, "search", "--names-only", r"^postgresql-[0-9]+-postgis-3$"])
    found = [int(n) for n in re.findall(r"^postgresql-(\d+)-postgis-3 ", names, re.MULTILINE)]
    if not found:
        raise GeoAssetsError("POSTGRES_NOT_FOUND", "this distribution has no package postgresql-N-postgis-3")
    return max(found)


def _needed(apt: list[str], wanted: list[str]) -> list[str]:
    """Return the packages to unpack: `wanted` and their dependencies, except those installed or not needed."""
    installed = set(
        re.findall(
            r"^(\S+) install ok installed$", run(["dpkg-query", "-W", "-f", "${Package} ${Status}\n"]), re.MULTILINE
        )
    )
    only_depends = [
        f"--no-{relation}" for relation in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    ]
    seen: dict[str, None] = {}
    queue = list(wanted)
    while queue:
        package = queue.pop(0)
        if (
            package in seen
            or (package in installed and package not in wanted)
            or package.startswith(tuple(_NOT_NEEDED))
        ):
            continue
        seen[package] = None
        queue.extend(_depends(run(["apt-cache", *apt, "depends", *only_depends, package])))
    return list(seen)


def _depends(output: str) -> Iterable[str]:
    """Yield dependencies in the output of `apt-cache depends`; the first of alternatives (`|`), no virtual packages."""
    skip = False
    for line in output.splitlines():
        match = re.match(r"\s*(\|?)(?:Pre)?Depends: (\S+)", line)
        if not match:
            continue
        if not skip and not match[2].startswith("<"):
            yield match[2].partition(":")[0]
        skip = bool(match[1])


def _finish_control_files(root: Path) -> None:
    """Create `postgis.control`, which on Debian update-alternatives makes from `postgis-3.control`; it did not run
    here.
    """
    for control in root.glob("usr/share/postgresql/*/extension/*-3.control"):
        plain = control.with_name(control.name.replace("-3.control", ".control"))
        if not plain.exists():
            plain.symlink_to(control.name)


def unpacked_environment(root: Path) -> dict[str, str]:
    """Return the environment in which programs of an unpacked tree find its libraries and PROJ data."""
    libraries = sorted(
        {str(p.parent) for pattern in ("usr/lib", "lib") for p in root.glob(f"{pattern}/*-linux-*/*.so*")}
    )
    environment = {"LD_LIBRARY_PATH": ":".join(libraries)}
    projections = root / "usr/share/proj"
    # Else the machine has proj-data. With a wrong path PROJ does not fail: it transforms less exactly (EPSG:31468 by 11
    # cm, without a warning).
    if projections.is_dir():
        environment |= {
            "PROJ_DATA": str(projections),
            "PROJ_LIB": str(projections),
        }  # the second is its name before PROJ 9.1
    return environment


def missing_libraries(root: Path) -> list[str]:
    """Return the libraries that the linker does not find for an unpacked tree; it can run only if there are none."""
    parts = ("bin/postgres", "bin/initdb", "bin/pg_ctl", "lib/postgis-3.so")
    files = [str(path) for part in parts for path in root.glob(f"usr/lib/postgresql/*/{part}")]
    if len(files) < len(parts):
        return ["PostgreSQL or PostGIS itself"]
    return sorted(
        set(re.findall(r"^\s*(\S+) => not found", run(["ldd", *files], env=unpacked_environment(root)), re.MULTILINE))
    )


def run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run `command` and return its output.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND with the last lines of its output.
    """
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", **(env or {})}
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        tail = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise GeoAssetsError("POSTGRES_NOT_FOUND", f"`{' '.join(command[:2])} …` failed: {tail}")
    return done.stdout
