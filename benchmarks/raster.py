"""COGs against rio-cogeo, GDAL's COG driver and gdalwarp: `make bench-raster`.

Here: realistic data, the competitors, the report (docs/benchmarks/raster.md). Not here: measuring (`measure.py`).

Every competitor is a command, started from scratch each time; they take turns, so that noise falls on all. Ours includes the
proof (every level read back and compared); none of the others has one, but for the row that says so. Where gdalwarp is
missing it is left out, and the report says so.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from benchmarks.measure import Run, machine, median, run
from benchmarks.pages import publish

BIN = Path(sys.executable).parent

#: A copy by GDAL's COG driver, as a Python user writes it.
_DRIVER = (
    "import sys, rasterio.shutil; rasterio.shutil.copy(sys.argv[1], sys.argv[2], driver='COG', compress=sys.argv[3],"
    " level=sys.argv[4], predictor=sys.argv[5], blocksize=512, overview_resampling=sys.argv[6], overviews='IGNORE_EXISTING',"
    " num_threads='ALL_CPUS', bigtiff='IF_SAFER')"
)

#: The engine alone, in a process that has its libraries loaded, as a worker of the pipeline has.
_WARM = """
import os, sys, time, resource, tempfile
from pathlib import Path
import rasterio.shutil, rio_cogeo.cogeo
from rio_cogeo.profiles import cog_profiles
from geo_assets.raster import gdal, onepass
from geo_assets.raster.cog import convert
from geo_assets.raster.inspect import inspect
from geo_assets.raster.models import ConvertRequest
from geo_assets.raster.profiles import choose_profile
source, out, predictor, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
threads = os.cpu_count()
def rio():
    profile = {**cog_profiles.get('deflate'), 'predictor': predictor}
    rio_cogeo.cogeo.cog_translate(source, out, profile, quiet=True, in_memory=False, config={'GDAL_NUM_THREADS': 'ALL_CPUS'})
def driver(compress, level):
    rasterio.shutil.copy(source, out, driver='COG', compress=compress, level=level, predictor='YES', blocksize=512,
                         overview_resampling='AVERAGE', overviews='IGNORE_EXISTING', num_threads='ALL_CPUS')
def ours(profile):
    convert(ConvertRequest(source=str(source), destination=str(out), profile=profile, threads=threads, require_crs=False))
def writer(name):
    with gdal.session(), tempfile.TemporaryDirectory(dir=out.parent) as folder:
        info = inspect(source)
        profile = choose_profile(info, name)
        with gdal.open_raster(source) as dataset:
            with onepass.Pyramid(dataset, onepass.choose_by_trial(dataset, profile), Path(folder), threads) as pyramid:
                pyramid.run(lambda part: None)
                pyramid.save(out, onepass.skeleton(dataset, Path(folder), profile, {}))
def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime
calls = {
    'rio_cogeo.cog_translate': rio,
    'GDAL COG driver, DEFLATE 6': lambda: driver('DEFLATE', 6),
    'GDAL COG driver, ZSTD 1': lambda: driver('ZSTD', 1),
    'our writer alone (web)': lambda: writer('web'),
    'our writer alone (analysis)': lambda: writer('analysis'),
    'convert (web), with proof, hash of the file, footprint': lambda: ours('web'),
    'convert (analysis), with proof, hash of the file, footprint': lambda: ours('analysis'),
}
for _ in range(rounds):
    for name, call in calls.items():
        out.exists() and out.unlink()
        start, used = time.perf_counter(), cpu()
        call()
        print(name, time.perf_counter() - start, cpu() - used, sep='|', flush=True)
"""


_PROVEN = "rio cogeo create, then a proof in Python"

#: What a careful user of rio-cogeo does next: is it a valid COG, does every level decode, are the pixels those of the
#: source?
_PROVE = """
import hashlib, sys, rasterio, numpy
from rio_cogeo.cogeo import cog_validate
source, cog = sys.argv[1:]
assert cog_validate(cog, strict=True, quiet=True)[0]
with rasterio.open(source) as a, rasterio.open(cog, num_threads='ALL_CPUS') as b:
    levels = len(b.overviews(1))
    for _, window in b.block_windows(1):
        assert numpy.array_equal(a.read(window=window), b.read(window=window))
for level in range(levels):
    with rasterio.open(cog, overview_level=level, num_threads='ALL_CPUS') as b:
        for _, window in b.block_windows(1):
            b.read(window=window)
hashlib.file_digest(open(cog, 'rb'), 'sha256')
"""


def spectral(height: int, width: int, slope: float, seed: int) -> np.ndarray:
    """A field whose spectrum falls off with a power of the frequency, as those of landscapes do; mean 0,
    deviation 1.
    """
    side = 2048
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.rfftfreq(side)[None, :], np.fft.fftfreq(side)[:, None])
    frequency[0, 0] = 1
    part = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side, side))) / frequency**slope, s=(side, side))
    part = ((part - part.mean()) / part.std()).astype("float32")
    mirrored = np.block([[part, part[:, ::-1]], [part[::-1], part[::-1, ::-1]]])
    return np.tile(mirrored, (-(-height // mirrored.shape[0]), -(-width // mirrored.shape[1])))[:height, :width]


def write_rgb(path: Path, side: int) -> None:
    """An aerial image: 8 bits, three correlated bands, sensor noise; uncompressed, in strips of rows."""
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 3,
        "dtype": "uint8",
        "crs": "EPSG:32632",
        "photometric": "RGB",
    }
    with rasterio.open(path, "w", **profile, transform=from_origin(5e5, 5e6, 0.1, 0.1), bigtiff="IF_SAFER") as dataset:
        common = spectral(side, side, 1.2, 1)
        for band in range(3):
            noise = np.random.default_rng(band).standard_normal((side, side), dtype="float32") * 0.8
            dataset.write(
                np.clip(common * 40 + spectral(side, side, 1.0, band + 2) * 8 + 110 + noise, 0, 255).astype("uint8"),
                band + 1,
            )


def write_dem(path: Path, side: int) -> None:
    """An elevation model: float32, 2 cm of noise, a corner without data."""
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 1,
        "dtype": "float32",
        "crs": "EPSG:4326",
        "nodata": -9999.0,
    }
    heights = (
        spectral(side, side, 1.6, 9) * 120
        + 600
        + np.random.default_rng(0).standard_normal((side, side), dtype="float32") * 0.02
    )
    heights[: side // 9, : side // 7] = -9999
    with rasterio.open(path, "w", **profile, transform=from_origin(7, 50, 1e-4, 1e-4)) as dataset:
        dataset.write(heights.astype("float32"), 1)


def write_classes(path: Path, heights: Path) -> None:
    """Land cover: 49 classes by height and slope, with a palette; tiles of DEFLATE, as products come."""
    with rasterio.open(heights) as dataset:
        height, profile = dataset.read(1), dataset.profile
    slope = np.hypot(*np.gradient(height))
    bounds = [np.quantile(field[::7, ::7], np.linspace(0, 1, n + 1)[1:-1]) for field, n in ((height, 12), (slope, 4))]
    classes = np.digitize(height, bounds[0]) * 4 + np.digitize(slope, bounds[1]) + 1
    classes[height == profile["nodata"]] = 0
    colours = np.random.default_rng(1).integers(0, 255, (50, 3)).tolist()
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "DEFLATE"}
    profile = {**profile, **tiles, "dtype": "uint8", "nodata": 0, "photometric": "palette"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(classes.astype("uint8"), 1)
        dataset.write_colormap(1, {code: (*colour, 255) for code, colour in enumerate(colours)})


def write_masked(path: Path, rgb: Path) -> None:
    """A mosaic: the image within an ellipse, a mask within the file; tiles of DEFLATE."""
    with rasterio.open(rgb) as dataset:
        height, width = dataset.shape
        profile = {**dataset.profile, "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "DEFLATE"}
        down, across = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as out:
            out.write(dataset.read())
            out.write_mask(down**2 * 1.05 + across**2 * 1.3 < 1)


def competitors(predictor: int, overviews: str = "AVERAGE") -> dict[str, Callable[[Path, Path], list[str]]]:
    """Name -> command from source and destination.

    Args:
        predictor: TIFF's number of it.
        overviews: GDAL's name of the method that suits the pixels; rio-cogeo has its own, which is the quickest.
    """
    driver, how = [sys.executable, "-c", _DRIVER], ["NO" if predictor == 1 else "YES", overviews]
    rio = [str(BIN / "rio"), "cogeo", "create", "-p", "deflate", "--co", f"PREDICTOR={predictor}", "-q"]
    return {
        f"rio cogeo create (DEFLATE 6{' + predictor' * (predictor > 1)})": lambda s, d: [*rio, str(s), str(d)],
        "rio cogeo create --no-in-memory, the same": lambda s, d: [*rio, "--no-in-memory", str(s), str(d)],
        _PROVEN: lambda s, d: [
            "sh", "-c", f"{shlex.join([*rio, str(s), str(d)])} && {shlex.join([sys.executable, '-c', _PROVE, str(s), str(d)])}"
        ],
        "GDAL COG driver, DEFLATE 6": lambda s, d: [*driver, str(s), str(d), "DEFLATE", "6", *how],
        "GDAL COG driver, ZSTD 1": lambda s, d: [*driver, str(s), str(d), "ZSTD", "1", *how],
        "geo-assets cog (web), with proof": lambda s, d: [str(BIN / "geo-assets"), "cog", str(s), str(d), "--profile", "web"],
        "geo-assets cog (analysis), with proof": lambda s, d: [str(BIN / "geo-assets"), "cog", str(s), str(d), "--profile", "analysis"],
    }  # fmt: skip


def take_turns(
    commands: dict[str, Callable[[Path, Path], list[str]]], source: Path, work: Path, rounds: int
) -> dict[str, tuple[Run, float, bool]]:
    """Median run, MB of the output and whether its pixels are the source's, of each command.

    Memory and disk are watched in a first round, which is not timed.
    """
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    facts: dict[str, tuple[float, bool]] = {}
    for number in range(rounds + 1):
        for name, command in commands.items():
            folder = Path(tempfile.mkdtemp(dir=work))
            runs[name].append(run(command(source, folder / "out.tif"), folder, watched=number == 0))
            if number == 0:
                facts[name] = (folder / "out.tif").stat().st_size / 1e6, same_pixels(source, folder / "out.tif")
            shutil.rmtree(folder)
            print(f"  {name}: {runs[name][-1].wall:.2f} s", file=sys.stderr)
    return {name: (median(watched, timed), *facts[name]) for name, (watched, *timed) in runs.items()}


def same_pixels(source: Path, cog: Path) -> bool:
    """Whether level 0 is equal."""
    with rasterio.open(source) as a, rasterio.open(cog) as b:
        return a.shape == b.shape and all(
            np.array_equal(a.read(i), b.read(i), equal_nan=a.dtypes[0].startswith("f")) for i in a.indexes
        )


def table(results: dict[str, tuple[Run, float, bool]], *, pixels: bool = True) -> str:
    """Markdown; ratios to the first row."""
    first, size, _ = next(iter(results.values()))
    lines = [
        "| | wall s | ratio | CPU s | ratio | memory MB | temp + output MB | size MB | pixels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (r, megabytes, same) in results.items():
        equal = ("equal" if same else "differ") if pixels else "-"
        lines.append(
            f"| {name} | {r.wall:.2f} | {first.wall / r.wall:.2f} x | {r.cpu:.2f} | {first.cpu / r.cpu:.2f} x |"
            f" {r.memory:.0f} | {r.disk:.0f} | {megabytes:.1f} ({megabytes / size:.3f}) | {equal} |"
        )
    return "\n".join(lines)


def warm(source: Path, work: Path, predictor: int, rounds: int) -> str:
    """The same without process start and imports: what a worker does after its first file."""
    said = subprocess.run(
        [sys.executable, "-c", _WARM, str(source), str(work / "warm.tif"), str(predictor), str(rounds + 1)],
        capture_output=True, text=True, check=True, env={**os.environ, **_child_environment()},
    ).stdout  # fmt: skip
    seen: dict[str, list[tuple[float, float]]] = {}
    for line in said.splitlines():
        name, wall, cpu = line.split("|")
        seen.setdefault(name, []).append((float(wall), float(cpu)))
    medians = {name: [statistics.median(x[i] for x in times[1:]) for i in (0, 1)] for name, times in seen.items()}
    first = next(iter(medians.values()))
    lines = ["| in a warm process | wall s | ratio | CPU s | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {w:.2f} | {first[0] / w:.2f} x | {c:.2f} | {first[1] / c:.2f} x |"
        for name, (w, c) in medians.items()
    ]
    return "\n".join(lines)


def _child_environment() -> dict[str, str]:
    from geo_assets.sandbox import start

    return {**start.GDAL_ENVIRONMENT, **start.MALLOC}  # the settings of a worker are what is measured


def main() -> None:
    """Run and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/raster.md"))
    parser.add_argument("--large", action="store_true", help="also 40,000 x 40,000 x 3: 5 GB, some minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        publish(options.out, report(Path(name), options.rounds, large=options.large))
    print(options.out.read_text())


def report(work: Path, rounds: int, *, large: bool) -> str:
    """The report, as Markdown."""
    rgb, odd, dem, classes, masked = (work / f"{name}.tif" for name in ("rgb", "odd", "dem", "classes", "masked"))
    write_rgb(rgb, 8000)
    write_rgb(odd, 7999)
    write_dem(dem, 6000)
    write_classes(classes, dem)
    write_masked(masked, rgb)
    parts = [
        "# Rasters: measured side by side",
        (
            f"`make bench-raster` wrote this. {machine()}; rasterio {rasterio.__version__}, GDAL"
            f" {rasterio.__gdal_version__}; medians of {rounds} rounds in which all take turns. Ratios are to the first"
            " row; above 1 is better than it. Memory is of the largest process, and watched in a round that is not"
            " timed: to watch takes a part of a processor. Ours includes the proof: every block of every level is read"
            " back by GDAL and compared."
        ),
    ]
    for title, source, predictor in (
        ("RGB, uint8, 8000 x 8000 x 3 (192 MB)", rgb, 2),
        ("Elevation, float32, 6000 x 6000 (144 MB)", dem, 3),
    ):
        parts += [
            f"## {title}",
            table(take_turns(competitors(predictor), source, work, rounds)),
            warm(source, work, predictor, rounds),
        ]
    for title, source, how in (
        ("RGB of an odd size, 7999 x 7999 x 3 (192 MB)", odd, (2, "AVERAGE")),
        ("Classes, uint8 with a palette, 6000 x 6000 (36 MB)", classes, (1, "NEAREST")),
        ("RGB with a mask of its own, 8000 x 8000 x 3 (192 MB)", masked, (2, "AVERAGE")),
    ):
        commands = competitors(*how)
        del commands[_PROVEN]  # of the first two it is enough; under a mask rio-cogeo changes pixels, and so fails it
        parts += [f"## {title}", table(take_turns(commands, source, work, rounds))]
    parts += ["## Reprojection, EPSG:4326 to 3857, bilinear, the elevation model", reprojection(dem, work, rounds)]
    parts += ["## Memory against size", memory(work, rgb, large=large)]
    return "\n\n".join(parts) + "\n"


def reprojection(dem: Path, work: Path, rounds: int) -> str:
    """Against `gdalwarp -of COG`."""
    if shutil.which("gdalwarp") is None:
        return "gdalwarp is not on this machine (Debian: apt-get install gdal-bin)."
    creation = [
        "COMPRESS=DEFLATE",
        "PREDICTOR=YES",
        "NUM_THREADS=ALL_CPUS",
        "OVERVIEW_RESAMPLING=AVERAGE",
        "WARP_RESAMPLING=BILINEAR",
    ]
    warp = [
        "gdalwarp",
        "-q",
        "-of",
        "COG",
        "-multi",
        "-wo",
        "NUM_THREADS=ALL_CPUS",
        "-t_srs",
        "EPSG:3857",
        "-r",
        "bilinear",
    ]
    commands: dict[str, Callable[[Path, Path], list[str]]] = {
        "gdalwarp -of COG -multi": lambda s, d: [*warp, *(x for c in creation for x in ("-co", c)), str(s), str(d)],
        "geo-assets cog --target-crs, with proof": lambda s, d: [
            str(BIN / "geo-assets"),
            "cog",
            str(s),
            str(d),
            "--target-crs",
            "EPSG:3857",
        ],
    }
    return table(take_turns(commands, dem, work, rounds), pixels=False)


def memory(work: Path, small: Path, *, large: bool) -> str:
    """Ours on one, eight and, where asked for, twenty-five times the pixels."""
    lines = ["| side | raw MB | wall s | memory MB | temp + output MB | size MB |", "|---|---|---|---|---|---|"]
    for side in (8000, 22_656, *([40_000] if large else [])):
        source = small if side == 8000 else work / "large.tif"
        if source != small:
            write_tiled(source, small, side)
        folder = Path(tempfile.mkdtemp(dir=work))
        r = run([str(BIN / "geo-assets"), "cog", str(source), str(folder / "out.tif")], folder)
        size = (folder / "out.tif").stat().st_size / 1e6
        lines.append(
            f"| {side:,} | {side * side * 3 / 1e6:,.0f} | {r.wall:.1f} | {r.memory:.0f} | {r.disk:,.0f} | {size:,.0f} |"
        )
        shutil.rmtree(folder)
    return "\n".join(lines)


def write_tiled(path: Path, small: Path, side: int) -> None:
    """A larger image of the same kind: the small one again and again, written strip by strip."""
    with rasterio.open(small) as dataset:
        pixels, profile = dataset.read(), dataset.profile
    profile.update(height=side, width=side, bigtiff="IF_SAFER")
    with rasterio.open(path, "w", **profile) as dataset:
        for top in range(0, side, 500):
            rows = np.arange(top, min(top + 500, side)) % pixels.shape[1]
            strip = np.take(pixels[:, rows], np.arange(side) % pixels.shape[2], axis=2)
            dataset.write(strip, window=rasterio.windows.Window(0, top, side, len(rows)))


if __name__ == "__main__":
    main()
