"""Vector to PostGIS, side by side: `geo-assets load`, ogr2ogr, geopandas.to_postgis and the floor, a binary COPY of a
ready file.

Here: the data, the commands, the report (`docs/benchmarks/vector.md`). Not here: measuring (`with_server.py`).

    make bench-vector                  # five rounds; about 20 minutes
    python -m benchmarks.vector --rounds 1 --skip-geopandas

Every competitor ends with the same: a table with a primary key, a geometry of a declared type, a GiST index and
ANALYZE. A PostgreSQL of its own is started; the rounds are interleaved, so that a noisy neighbour harms all alike.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pages import publish
from benchmarks.polygons import write_invented, write_real
from benchmarks.with_server import Run, measure, median
from geo_assets.local.postgresql import Cluster, ensure_binaries, free_port
from geo_assets.settings import Settings

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks" / "vector.md"
ROWS = 500_000

#: How the competitors are named that load real shapes.
REAL = "real shapes: "

#: What a GIS server has; the shared 2 cores and a spinning cache have no part in the comparison.
_SERVER = {
    "shared_buffers": "512MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "synchronous_commit": "off",
    "autovacuum": "off",
}

_GEOPANDAS = """
import sys, geopandas as gpd, shapely
from sqlalchemy import create_engine, text
path, url, table = sys.argv[1:]
frame = gpd.read_file(path, engine="pyogrio", use_arrow=True)
bad = ~frame.geometry.is_valid
frame.loc[bad, "geometry"] = shapely.make_valid(frame.geometry.values[bad], method="structure", keep_collapsed=False)
frame = frame.to_crs(4326)
values = frame.geometry.values
single = shapely.get_type_id(values) == 3
values[single] = shapely.multipolygons(values[single], indices=range(single.sum()))
frame = frame.set_geometry(gpd.GeoSeries(values, crs=4326, index=frame.index))
engine = create_engine(url)
frame.to_postgis(table, engine, schema="vector", if_exists="replace")
with engine.begin() as conn:
    conn.execute(text(f"alter table vector.{table} add column gid bigint generated always as identity primary key"))
    conn.execute(text(f"analyze vector.{table}"))
"""


class Database:
    """A server of the benchmark's own, with the project's schemas."""

    def __init__(self, home: Path) -> None:
        from geo_assets.database.bootstrap import bootstrap
        from geo_assets.database.migrate import migrate

        binaries = ensure_binaries(home, print)
        self.cluster = Cluster(
            binaries, home / "postgres" / "data", home / "postgres.log", free_port(), secrets.token_hex(8), _SERVER
        )
        self.cluster.init()
        self.cluster.start()
        self.psql = str(binaries.bin / "psql")
        password = secrets.token_hex(8)
        self.env = {
            **os.environ,
            "GEO_ASSETS_HOME": str(home),
            "GEO_ASSETS_PG_PORT": str(self.cluster.port),
            **{f"GEO_ASSETS_{role}_PASSWORD": password for role in ("MIGRATOR", "PIPELINE", "READER")},
            "PGPASSWORD": password,
        }
        os.environ.update(self.env)
        settings = Settings()
        bootstrap(self.cluster.dsn(), settings)
        migrate(settings)
        self.libpq = f"host=127.0.0.1 port={self.cluster.port} user=geo_pipeline dbname=geo_assets"
        self.url = settings.dsn("pipeline")
        self.postmaster = self.cluster.pid() or 0

    def run(self, statement: str) -> list[str]:
        """A command that executes SQL."""
        return [self.psql, "-q", "-v", "ON_ERROR_STOP=1", "-d", self.libpq, "-c", statement]

    def settle(self) -> None:
        """Between runs: nothing is left to write, and no table is left."""
        tables = (
            "select format('drop table %I.%I cascade', schemaname, tablename) from pg_tables where schemaname ="
            " 'vector'"
        )
        subprocess.run(
            [self.psql, "-q", "-d", self.libpq],
            input=f"{tables} \\gexec\n",
            text=True,
            check=True,
            env=self.env,
            capture_output=True,
        )
        subprocess.run([self.psql, "-q", "-d", self.cluster.dsn(), "-c", "checkpoint"], check=True, env=self.env)


@contextmanager
def served() -> Iterator[tuple[Database, Path]]:
    """A server for a benchmark, and a folder; both end with it."""
    home = Path(tempfile.mkdtemp(prefix="geo_bench_"))
    home.chmod(0o755)
    db = Database(home)
    try:
        yield db, home
    finally:
        db.cluster.stop("immediate")
        shutil.rmtree(home, ignore_errors=True)


class Competitors:
    """The commands of each."""

    def __init__(self, db: Database, home: Path) -> None:
        self.db = db
        self.home = home
        self.script = home / "geopandas_load.py"
        self.script.write_text(_GEOPANDAS)

    def ours(self, path: Path, *options: str) -> list[list[str]]:
        """One command."""
        return [
            [str(Path(sys.executable).with_name("geo-assets")), "load", str(path), "--table", "vector.ours", *options]
        ]

    def ogr2ogr(self, path: Path, *, index_first: bool) -> list[list[str]]:
        """By COPY; with GDAL's index, made before the rows come, or with one made after them."""
        copy = [
            "ogr2ogr", "-q", "-f", "PostgreSQL", f"PG:{self.db.libpq} active_schema=vector", str(path), "-nln", "ogr", "-lco", "GEOMETRY_NAME=geom",
            "-lco", "FID=gid", "-nlt", "PROMOTE_TO_MULTI", "-lco", f"SPATIAL_INDEX={'GIST' if index_first else 'NONE'}", "--config", "PG_USE_COPY", "YES",
        ]  # fmt: skip
        after = (
            "analyze vector.ogr" if index_first else "create index on vector.ogr using gist (geom); analyze vector.ogr"
        )
        return [copy, self.db.run(after)]

    def geopandas(self, path: Path) -> list[list[str]]:
        """Read, repair, transform, Multi, to_postgis."""
        url = self.db.url.replace("postgresql://", "postgresql+psycopg2://", 1)
        return [["uv", "run", "--frozen", "--with", "geoalchemy2", "python", str(self.script), str(path), url, "frame"]]

    def floor(self, path: Path) -> list[list[str]]:
        """What no client can be faster than: COPY of a file that is in PostgreSQL's own format already."""
        ready = self.home / f"{path.stem}.pgcopy"
        if not ready.exists():
            for command in (self.ours(path)[0], self.db.run(f"\\copy vector.ours to '{ready}' (format binary)")):
                subprocess.run(command, check=True, env=self.db.env, capture_output=True)
            shape = subprocess.run(
                [self.db.psql, "-qAt", "-d", self.db.libpq, "-c", "select string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' order by attnum) from pg_attribute where attrelid = 'vector.ours'::regclass and attnum > 0"],
                check=True, env=self.db.env, capture_output=True, text=True,
            )  # fmt: skip
            self.shape = shape.stdout.strip()
        create = f"create table vector.floor ({self.shape})"
        after = (
            "alter table vector.floor add primary key (gid); create index on vector.floor using gist (geom); analyze"
            " vector.floor"
        )
        return [
            [
                self.db.psql,
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                self.db.libpq,
                "-c",
                create,
                "-c",
                f"\\copy vector.floor from '{ready}' (format binary)",
                "-c",
                after,
            ]
        ]


def main() -> None:
    """Measure and report."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--rows", type=int, default=ROWS)
    arguments.add_argument("--skip-geopandas", action="store_true")
    arguments.add_argument("--only", nargs="*", help="names of competitors")
    arguments.add_argument("--work", type=Path, help="a folder for the data, kept")
    chosen = arguments.parse_args()
    results = measured_rounds(chosen)
    text = report(results, chosen)
    print(text)
    if not chosen.only and not chosen.skip_geopandas:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        publish(REPORT, text)


def measured_rounds(chosen: argparse.Namespace) -> dict[str, list[Run]]:
    """Every run of every competitor, on a server that is started for them."""
    if not ogr2ogr_is_here():
        sys.exit("ogr2ogr is not installed: sudo apt-get install gdal-bin")
    with served() as (db, home):
        return rounds(db, home, chosen)


def measured(chosen: argparse.Namespace) -> dict[str, Run]:
    """The medians of the competitors that were chosen."""
    return {name: median(runs) for name, runs in measured_rounds(chosen).items()}


def ogr2ogr_is_here() -> bool:
    """Whether there is an ogr2ogr: Debian's, which is the one that people have. Who may install it does."""
    if shutil.which("ogr2ogr") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "--no-install-recommends", "gdal-bin"]
        subprocess.run(install, check=False, capture_output=True)
    return shutil.which("ogr2ogr") is not None


def rounds(db: Database, home: Path, chosen: argparse.Namespace) -> dict[str, list[Run]]:
    """All competitors, round after round."""
    work = chosen.work or home
    work.mkdir(parents=True, exist_ok=True)
    large, small = work / f"polygons_{chosen.rows}.gpkg", work / f"polygons_{chosen.rows // 10}.gpkg"
    real = work / f"shapes_{chosen.rows}.gpkg"
    for path, write, count in (
        (large, write_invented, chosen.rows),
        (small, write_invented, chosen.rows // 10),
        (real, write_real, chosen.rows),
    ):
        if not path.exists():
            write(path, count)
    competitors = Competitors(db, home)
    commands = {
        "COPY floor": lambda: competitors.floor(large),
        "ours": lambda: competitors.ours(large, "--trust-geometry"),
        "ogr2ogr": lambda: competitors.ogr2ogr(large, index_first=True),
        "ogr2ogr, index after": lambda: competitors.ogr2ogr(large, index_first=False),
        "ours, checked": lambda: competitors.ours(large),
        "ours, checked and transformed": lambda: competitors.ours(large, "--target-crs", "EPSG:4326"),
        "geopandas, checked and transformed": lambda: competitors.geopandas(large),
        "ours, a tenth": lambda: competitors.ours(small, "--trust-geometry"),
        "ours, checked and transformed, a tenth": lambda: competitors.ours(small, "--target-crs", "EPSG:4326"),
        f"{REAL}COPY floor": lambda: competitors.floor(real),
        f"{REAL}ours": lambda: competitors.ours(real, "--trust-geometry"),
        f"{REAL}ogr2ogr": lambda: competitors.ogr2ogr(real, index_first=True),
        f"{REAL}ogr2ogr, index after": lambda: competitors.ogr2ogr(real, index_first=False),
        f"{REAL}ours, checked": lambda: competitors.ours(real),
    }
    if chosen.skip_geopandas:
        commands = {name: make for name, make in commands.items() if not name.startswith("geopandas")}
    if chosen.only:
        commands = {name: make for name, make in commands.items() if name in chosen.only}
    if "geopandas, checked and transformed" in commands:  # the packages are fetched before the clock runs
        subprocess.run(
            ["uv", "run", "--frozen", "--with", "geoalchemy2", "python", "-c", ""], check=True, capture_output=True
        )
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(chosen.rounds):
        for name, make in commands.items():
            db.settle()
            made = make()  # the floor's file is made of a table that is loaded for it
            db.settle()
            results[name].append(measure(made, db.env, db.postmaster))
            print(f"{name:<42}{results[name][-1]}", file=sys.stderr, flush=True)
    return results


def report(results: dict[str, list[Run]], chosen: argparse.Namespace) -> str:
    """Medians, ratios and the budget, as Markdown."""
    medians = {name: median(runs) for name, runs in results.items()}
    invented = [name for name in results if not name.startswith(REAL)]
    lines = [
        "# Vector: load into PostGIS, side by side",
        "",
        (
            f"{chosen.rows:,} polygons with ten typed columns in a GeoPackage, to a table with primary key, GiST index"
            " and ANALYZE."
        ),
        f"Medians of {chosen.rounds} interleaved rounds; {machine()}. `make bench-vector` makes this page.",
        "",
        "## Invented shapes",
        "",
        "Stars of 20-60 vertices, one in 500 of which crosses itself.",
        "",
        *_table(results, medians, invented),
        "",
        "## Real shapes",
        "",
        (
            "The land of Natural Earth's countries in 288 parts of 7 to 556 vertices, 37 on average, each reduced to"
            " the size of a parcel and put to random places."
        ),
        "",
        *_table(results, medians, [name for name in results if name.startswith(REAL)]),
        "",
        "## Budget",
        "",
        "| budget | measured | holds |",
        "|---|---|---|",
        *(f"| {what} | {value:.2f} | {'yes' if holds else '**no**'} |" for what, value, holds in _budget(medians)),
        "",
        (
            "`ours` trusts the geometry, as ogr2ogr does (`--trust-geometry`); `checked` looks for invalid geometry and"
            " repairs it, the default."
        ),
        (
            "`ogr2ogr` is one command, as people run it, with COPY and its own GiST index; `index after` is the same in"
            " two steps by hand. geopandas repairs, transforms and makes Multi geometry as we do."
        ),
        "Peak memory is the sum over all processes of a command, shared pages counted for each.",
        "",
    ]
    return "\n".join(lines)


def _table(results: dict[str, list[Run]], medians: dict[str, Run], names: Sequence[str]) -> Iterator[str]:
    yield "| | wall s | client CPU s | server CPU s | CPU s | peak MB | wall min-max |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        m, walls = medians[name], [run.wall for run in results[name]]
        yield (
            f"| {name.removeprefix(REAL)} | {m.wall:.1f} | {m.client_cpu:.1f} | {m.server_cpu:.1f} | {m.cpu:.1f} |"
            f" {m.peak_mb:,.0f} | {min(walls):.1f}-{max(walls):.1f} |"
        )


def machine() -> str:
    """Where it is measured, and with which ogr2ogr."""
    versions = subprocess.run(["ogr2ogr", "--version"], capture_output=True, text=True, check=False).stdout.split(",")[
        0
    ]
    return (
        f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, ogr2ogr of {versions},"
        f" {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    )


#: (what, its number of a competitor, divided by that of another, at least; or at most).
_BUDGET = (
    ("wall", "ogr2ogr", "ours", 1.4, None),
    ("cpu", "ogr2ogr", "ours", 1.7, None),
    ("wall", "ours", "COPY floor", None, 1.25),
    ("wall", f"{REAL}ogr2ogr, index after", f"{REAL}ours, checked", 1.25, None),
    ("cpu", f"{REAL}ogr2ogr, index after", f"{REAL}ours, checked", 1.0, None),
    ("wall", f"{REAL}ogr2ogr", f"{REAL}ours, checked", 1.6, None),
    ("cpu", f"{REAL}ogr2ogr", f"{REAL}ours, checked", 1.0, None),
    ("wall", "ogr2ogr, index after", "ours, checked", 1.25, None),
    ("wall", "geopandas, checked and transformed", "ours, checked and transformed", 5.0, None),
    ("peak_mb", "geopandas, checked and transformed", "ours, checked and transformed", 12.0, None),
    ("peak_mb", "ours", "ours, a tenth", None, 1.2),
    ("peak_mb", "ours, checked and transformed", "ours, checked and transformed, a tenth", None, 1.2),
)

_SAID = {"wall": "wall", "cpu": "CPU", "peak_mb": "memory"}


def _budget(medians: dict[str, Run]) -> Iterator[tuple[str, float, bool]]:
    """What is compared, its ratio, whether it holds."""
    for number, one, other, least, most in _BUDGET:
        if one in medians and other in medians:
            value = getattr(medians[one], number) / getattr(medians[other], number)
            aim = f"at least {least:g}" if least else f"at most {most:g}"
            holds = (least is None or value >= least) and (most is None or value <= most)
            yield f"{_SAID[number]}, {one} / {other.removeprefix(REAL)}: {aim}", value, holds


if __name__ == "__main__":
    main()
