"""PostgreSQL with PostGIS from the packages of Debian and Ubuntu: installed as root, unpacked into a folder otherwise.

Here: everything that calls apt and dpkg. Not here: using what was installed (`postgresql.py`).

Unpacking takes a server out of its packages without installing them. It works because PostgreSQL finds its own files relative to its
binary; the rest is done by two environment variables (`unpacked_environment`) and the links that a package would make when installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from geo_assets.errors import GeoAssetsError

Log = Callable[[str], None]

#: Dependencies that the unpacked server does not need, and why. Without this list it is 177 packages and 181 MB instead of 40 and 45 MB.
SKIPPED: Mapping[str, str] = {
    "libgdal*": "only postgis_raster links it, which we do not create",
    "libsfcgal*": "only postgis_sfcgal links it, which we do not create",
    "libllvm*": "only the JIT compiler links it, which we turn off",
    "postgresql-*jit*": "the JIT compiler",
    "postgresql-common*": "Debian's manager of system clusters; ours are private",
    "postgresql-client-common": "the same, for clients",
    "ssl-cert": "makes a certificate; our server listens on loopback only",
    "perl*": "for postgresql-common",
    "python3*": "for postgresql-common",
    "debconf*": "asks questions while packages are installed",
    "ucf": "keeps configuration files while packages are installed",
    "adduser": "makes the system user postgres",
    "lsb-base": "for init scripts",
    "sysvinit-utils": "for init scripts",
    "init-system-helpers": "for init scripts",
    "locales*": "our clusters use C.UTF-8, which is part of libc",
    "tzdata": "found by its absolute path only, so of no use in a folder",
    "readline-common": "key bindings and manual",
    "libc6": "the machine's own: two C libraries in one process crash",
}

_REQUIRED_TOOLS = ("apt-get", "apt-cache", "dpkg-query", "dpkg-deb")
_NO_MAIN_CLUSTER = Path("/etc/postgresql-common/createcluster.d/geo_assets.conf")


def run_checked(command: Sequence[str], *, code: str = "POSTGRES_NOT_FOUND", timeout: float = 900, **options: object) -> str:
    """The standard output of `command`; `options` are those of `subprocess.run`.

    Raises:
        GeoAssetsError: with `code`; it failed, and the message holds the last lines it said.
    """
    shown = " ".join(Path(part).name if part.startswith("/") else part for part in command[:6])
    try:
        done = subprocess.run(  # type: ignore[call-overload]
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, check=False, **options
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GeoAssetsError(code, f"`{shown}` failed: {error}") from error
    if done.returncode != 0:
        raise GeoAssetsError(code, f"`{shown}` failed with exit code {done.returncode}:\n{last_lines(done.stdout + done.stderr)}")
    return str(done.stdout)


def last_lines(text: str, count: int = 12) -> str:
    """The end of what a program said, without empty lines."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def can_use_apt() -> bool:
    """Whether this is a Debian or Ubuntu, as far as we need it."""
    return all(shutil.which(tool) for tool in _REQUIRED_TOOLS)


def postgis_packages(major: int) -> list[str]:
    """What to ask apt for, to have PostGIS for PostgreSQL `major`."""
    return [f"postgresql-{major}-postgis-3", f"postgresql-{major}-postgis-3-scripts"]


@dataclass(frozen=True, slots=True)
class Apt:
    """apt, with the system's state or with private package lists and caches that need no root."""

    options: tuple[str, ...] = ()

    @classmethod
    def private(cls, state: Path, *, own_lists: bool) -> Apt:
        """apt that writes only below `state`; it reads the system's package lists, or its own after an `update`."""
        for folder in ("lists/partial", "cache/archives/partial"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        lists = ("-o", f"Dir::State::Lists={state / 'lists'}") if own_lists else ()
        return cls(("-o", f"Dir::Cache={state / 'cache'}", *lists))

    def run(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        """The output of one apt command, in English and without questions."""
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return run_checked([tool, *self.options, *arguments], env=environment, cwd=cwd)

    def update(self, log: Log) -> None:
        """Fetch the package lists. One mirror of several that is away is no failure: what matters is whether the package is found."""
        log("fetching the package lists (apt-get update)")
        try:
            self.run("apt-get", "-q", "update")
        except GeoAssetsError as error:
            log(str(error))

    def newest_postgis(self) -> int | None:
        """The newest PostgreSQL major version that the distribution has PostGIS for."""
        found = self.run("apt-cache", "search", "--names-only", r"^postgresql-[0-9]+-postgis-3$")
        return max((int(major) for major in re.findall(r"^postgresql-(\d+)-postgis-3 ", found, re.MULTILINE)), default=None)

    def dependencies(self, packages: Iterable[str]) -> dict[str, list[list[str]]]:
        """Package -> its dependencies, each a list of alternatives; packages unknown to apt are left out."""
        try:
            shown = self.run("apt-cache", "show", "--no-all-versions", *packages)
        except GeoAssetsError:  # exit code 100: it knows none of them
            return {}
        return dict(parse_stanza(stanza) for stanza in shown.split("\n\n") if stanza.strip())


def parse_stanza(stanza: str) -> tuple[str, list[list[str]]]:
    """Name and dependencies from one package's description: `a (>= 1) | b:any, c` is `[[a, b], [c]]`."""
    fields = dict(line.split(":", 1) for line in stanza.splitlines() if ":" in line and not line.startswith(" "))
    groups = ",".join(fields[name] for name in ("Pre-Depends", "Depends") if name in fields)
    return fields["Package"].strip(), [[_name(one) for one in group.split("|")] for group in groups.split(",") if group.strip()]


def _name(dependency: str) -> str:
    """The package's name in `name:arch (>= version)`."""
    return dependency.split("(")[0].split(":")[0].strip()


def needed_packages(
    roots: Sequence[str], dependencies: Callable[[Iterable[str]], Mapping[str, list[list[str]]]], is_met: Callable[[str], bool]
) -> list[str]:
    """`roots` and what they depend on, breadth first, without what `is_met` already.

    Of alternatives the first is taken, unless another is met or already taken. A name that `dependencies` does not know (a virtual
    package) is dropped: whether anything is missing is for the linker to say, at the end.
    """
    taken: dict[str, list[list[str]]] = {}
    level = list(roots)
    while level:
        described = dependencies(level)
        taken.update(described)
        groups = [group for name in level for group in described.get(name, [])]
        wanted = [group[0] for group in groups if not any(name in taken or is_met(name) for name in group)]
        level = list(dict.fromkeys(wanted))
    return list(taken)


def installed_packages() -> set[str]:
    """Every package that dpkg has installed, and every name that one of them provides."""
    listed = run_checked(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}|${Package}, ${Provides}\n"])
    lines = [line.split("|", 1)[1] for line in listed.splitlines() if line.startswith("ii")]
    return {_name(name) for line in lines for name in line.split(",") if name.strip()}


# -- as root --------------------------------------------------------------------------------------------------------------------------


def install_with_apt(major: int | None, log: Log) -> None:
    """Install PostGIS for PostgreSQL `major` (None: the newest there is) and no system cluster.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND; the distribution does not have it, or apt failed.
    """
    apt = Apt(("-o", "DPkg::Lock::Timeout=120"))
    with _without_main_cluster():
        try:
            _apt_install(apt, major, log)
        except GeoAssetsError as error:  # lists missing (container images), or so old that they name files that are gone
            log(f"trying again with fresh package lists, because: {error}")
            apt.update(log)
            _apt_install(apt, major, log)


def _apt_install(apt: Apt, major: int | None, log: Log) -> None:
    packages = postgis_packages(_choose(apt, major))
    log(f"installing {' '.join(packages)}")
    apt.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *packages)


def _choose(apt: Apt, major: int | None) -> int:
    """`major`, or the newest."""
    chosen = major or apt.newest_postgis()
    if chosen is None:
        raise GeoAssetsError("POSTGRES_NOT_FOUND", "the package lists of this machine name no postgresql-N-postgis-3")
    return chosen


@contextmanager
def _without_main_cluster() -> Iterator[None]:
    """Keep Debian from creating and starting its cluster `main` on port 5432, for as long as we install; then leave no trace."""
    _NO_MAIN_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    _NO_MAIN_CLUSTER.write_text("create_main_cluster = false\n")
    try:
        yield
    finally:
        _NO_MAIN_CLUSTER.unlink(missing_ok=True)


# -- without root ---------------------------------------------------------------------------------------------------------------------


def unpack_without_root(target: Path, major: int | None, log: Log) -> None:
    """Unpack PostGIS for PostgreSQL `major` (None: the newest there is) and what they link to as the folder `target`.

    It is made beside `target` and renamed when it is whole. One caller at a time.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND; the distribution does not have it, a download failed, or a library is missing in the end.
    """
    prefix = f"{target.name}.new-"
    for left_by_a_killed_run in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as folder:
        scratch = Path(folder)
        tree = scratch / "tree"
        _unpack(_download(scratch, major, log), tree)
        _link_control_files(tree)
        if missing := missing_libraries(tree):
            raise GeoAssetsError("POSTGRES_NOT_FOUND", f"the unpacked PostgreSQL lacks libraries: {', '.join(missing)}")
        if target.exists():
            target.rename(scratch / "replaced")
        tree.rename(target)


def _download(scratch: Path, major: int | None, log: Log) -> list[Path]:
    """The packages as files: by the system's package lists, or by fresh private ones if those are missing or too old."""
    try:
        return _download_with(Apt.private(scratch / "apt", own_lists=False), scratch / "packages", major, log)
    except GeoAssetsError as error:
        log(f"trying again with fresh package lists, because: {error}")
    apt = Apt.private(scratch / "apt", own_lists=True)
    apt.update(log)
    return _download_with(apt, scratch / "packages", major, log)


def _download_with(apt: Apt, folder: Path, major: int | None, log: Log) -> list[Path]:
    installed = installed_packages()
    roots = postgis_packages(_choose(apt, major))
    packages = needed_packages(roots, apt.dependencies, lambda name: name in installed or is_skipped(name))
    if missing := sorted(set(roots) - set(packages)):
        raise GeoAssetsError("POSTGRES_NOT_FOUND", f"the package lists of this machine do not name {', '.join(missing)}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log(f"downloading {len(packages)} packages: {' '.join(packages)}")
    apt.run("apt-get", "-q", "download", *packages, cwd=folder)
    return sorted(folder.glob("*.deb"))


def is_skipped(package: str) -> bool:
    """Whether the unpacked server does without `package`."""
    return any(fnmatchcase(package, pattern) for pattern in SKIPPED)


def _unpack(packages: Sequence[Path], tree: Path) -> None:
    """Take the files out of `packages`, a few at a time: it is all decompression."""
    tree.mkdir()
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda package: run_checked(["dpkg-deb", "-x", str(package), str(tree)]), packages))


def _link_control_files(tree: Path) -> None:
    """`postgis.control` -> `postgis-3.control`, and its like: Debian makes them by update-alternatives when the package is installed."""
    for control in tree.glob("usr/share/postgresql/*/extension/*-3.control"):
        link = control.with_name(control.name.replace("-3.control", ".control"))
        if not link.exists():
            link.symlink_to(control.name)


def unpacked_environment(tree: Path) -> dict[str, str]:
    """What the programs of an unpacked tree need to find its libraries and, in PostGIS, the projections' database."""
    libraries = {str(library.parent) for pattern in ("usr/lib", "lib") for library in tree.glob(f"{pattern}/*-linux-*/*.so*")}
    environment = {"LD_LIBRARY_PATH": ":".join(sorted(libraries))}
    projections = tree / "usr/share/proj"
    if projections.is_dir():  # else the machine has proj-data installed
        environment |= {"PROJ_DATA": str(projections), "PROJ_LIB": str(projections)}  # PROJ_LIB: its name before PROJ 9.1
    return environment


def missing_libraries(tree: Path) -> list[str]:
    """Shared libraries that the linker does not find for the programs of an unpacked tree: none, or it cannot run.

    Also says whether an old tree is still good: an upgrade of the machine can take away libraries that it was unpacked without.
    """
    programs = [f"bin/{name}" for name in ("postgres", "initdb", "pg_ctl")] + ["lib/postgis-3.so"]
    files = [str(tree / found) for name in programs for found in tree.glob(f"usr/lib/postgresql/*/{name}")]
    if len(files) < len(programs):
        return ["PostgreSQL or PostGIS itself"]
    linked = run_checked(["ldd", *files], env={"PATH": os.defpath, "LC_ALL": "C", **unpacked_environment(tree)})
    return sorted(set(re.findall(r"^\s*(\S+) => not found", linked, re.MULTILINE)))
