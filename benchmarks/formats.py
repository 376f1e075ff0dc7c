"""The same polygons in each format to PostGIS, against ogr2ogr: `make bench-formats`.

Here: the files, the commands, the report (`docs/benchmarks/formats.md`). Not here: how each competitor is run
(`vector.py`), measuring (`with_server.py`).

    python -m benchmarks.formats --rows 20000 --rounds 1
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.pages import publish
from benchmarks.polygons import write_real
from benchmarks.vector import Competitors, Database, machine, ogr2ogr_is_here, served
from benchmarks.with_server import Run, measure, median

REPORT = Path(__file__).parent.parent / "docs" / "benchmarks" / "formats.md"
ROWS = 100_000

#: Of the shapes, as they are made.
CRS = "EPSG:25832"

#: Formats by their endings: their names, and how ogr2ogr writes them.
FORMATS = {
    "gpkg": ("GeoPackage", ["-f", "GPKG"]),
    "fgb": ("FlatGeobuf", ["-f", "FlatGeobuf"]),
    "shp": ("Shapefile", ["-f", "ESRI Shapefile", "-lco", "ENCODING=UTF-8"]),
    "geojson": ("GeoJSON", ["-f", "GeoJSON"]),
    "geojsonl": ("GeoJSON, a feature a line", ["-f", "GeoJSONSeq"]),
    "csv": ("CSV with WKT", ["-f", "CSV", "-lco", "GEOMETRY=AS_WKT"]),
    "kml": ("KML", ["-f", "KML"]),
    "gml": ("GML", ["-f", "GML"]),
    "mif": ("MIF", ["-f", "MapInfo File", "-dsco", "FORMAT=MIF"]),
    "tab": ("MapInfo TAB", ["-f", "MapInfo File"]),
}


def main() -> None:
    """Measure and report."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--rows", type=int, default=ROWS)
    arguments.add_argument("--only", nargs="*", choices=FORMATS, default=list(FORMATS), help="endings")
    chosen = arguments.parse_args()
    if not ogr2ogr_is_here():
        sys.exit("ogr2ogr is not installed: sudo apt-get install gdal-bin")
    with served() as (db, home):
        files = {ending: write(home, ending, chosen.rows) for ending in chosen.only}
        results = rounds(db, home, files, chosen.rounds)
        text = report(results, files, chosen)
    print(text)
    if list(chosen.only) == list(FORMATS):
        publish(REPORT, text)


def write(home: Path, ending: str, rows: int) -> Path:
    """The polygons in one format; in longitude and latitude where it has no other, or no word for one."""
    source, file = home / "shapes.gpkg", home / f"shapes_{ending}.{ending}"
    if not source.exists():
        write_real(source, rows)
    degrees = ["-t_srs", "EPSG:4326"] if ending in {"geojson", "geojsonl", "kml", "csv"} else []
    command = ["ogr2ogr", "-q", *FORMATS[ending][1], *degrees, str(file), str(source), "-nln", file.stem]
    subprocess.run(command, check=True, capture_output=True)
    file.with_suffix(".xsd").unlink(missing_ok=True)
    return file


def rounds(db: Database, home: Path, files: dict[str, Path], count: int) -> dict[str, tuple[list[Run], list[Run]]]:
    """Our runs and theirs, round after round."""
    competitors = Competitors(db, home)
    results: dict[str, tuple[list[Run], list[Run]]] = {ending: ([], []) for ending in files}
    for _ in range(count):
        for ending, file in files.items():
            ours = competitors.ours(file, *(["--source-crs", "EPSG:4326"] if ending == "csv" else []))
            theirs = competitors.ogr2ogr(file, index_first=True)
            if ending in {"csv", "mif", "tab"}:  # which name no CRS, or in words that it does not find again
                theirs[0] += ["-a_srs", "EPSG:4326" if ending == "csv" else CRS]
            if ending == "csv":
                theirs[0] += ["-oo", "AUTODETECT_TYPE=YES"]
            for runs, commands in zip(results[ending], (ours, theirs), strict=True):
                db.settle()
                file.with_suffix(".gfs").unlink(missing_ok=True)  # what ogr2ogr remembers of a GML
                runs.append(measure(commands, db.env, db.postmaster))
            print(
                f"{ending:<10}{results[ending][0][-1]}  ogr2ogr {results[ending][1][-1]}", file=sys.stderr, flush=True
            )
    return results


def report(results: dict[str, tuple[list[Run], list[Run]]], files: dict[str, Path], chosen: argparse.Namespace) -> str:
    """Medians and ratios, as Markdown."""
    lines = [
        "# Vector formats: load into PostGIS",
        "",
        (
            f"The same {chosen.rows:,} polygons with ten columns in each format, to a table with primary key, GiST"
            " index and ANALYZE: by `geo-assets load`, which looks at every geometry and holds every value against what"
            " is written, and by `ogr2ogr` with COPY and its index, which does neither. The GML comes without a schema, as"
            " from a server: both look for its columns first."
        ),
        f"Medians of {chosen.rounds} interleaved rounds; {machine()}. `make bench-formats` makes this page.",
        "",
        "| | MB | wall s | ogr2ogr, wall s | ogr2ogr / ours | CPU s | ogr2ogr, CPU s | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for ending, runs in results.items():
        ours, theirs = map(median, runs)
        size = sum(part.stat().st_size for part in files[ending].parent.glob(f"{files[ending].stem}.*")) / 1e6
        lines.append(
            f"| {FORMATS[ending][0]} | {size:.0f} | {ours.wall:.1f} | {theirs.wall:.1f} | {theirs.wall / ours.wall:.2f}"
            f" | {ours.cpu:.1f} | {theirs.cpu:.1f} | {ours.peak_mb:,.0f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
