"""A stack in a home of its own, with rasters that a job published, then with its database alone.

Here: what is measured upon. Not here: measuring (`served.py`, `exports.py`, `verified.py`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import rasterio
from rasterio.transform import from_origin

from benchmarks.raster import BIN, write_rgb
from geo_assets.accounts import LocalAccount
from geo_assets.home import default_home
from geo_assets.local.debian_packages import UNPACKED
from geo_assets.outcomes import read_outputs
from geo_assets.settings import Settings, load_settings
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.local import account_root

CONTAINER = "bench"

#: Pixels on a side of a raster of noise, three bytes each: with its overviews a COG of 85 MB.
_SIDE = 4608


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a job published."""

    job_id: str
    picture: str  # COLLECTION/ID of its picture
    cog: str  # the file of the picture
    files: tuple[str, ...]  # all of them


@contextmanager
def stack() -> Iterator[Path]:
    """A home whose stack is up; it is stopped and removed again. Until then this process's settings are its."""
    unpacked = default_home() / UNPACKED
    home = Path(tempfile.mkdtemp(prefix="geo_bench_"))
    home.chmod(0o755)
    if unpacked.is_dir():
        (home / UNPACKED).symlink_to(unpacked.resolve())
    before = dict(os.environ)
    own = {"GEO_ASSETS_HOME": str(home), "GEO_ASSETS_HOST_FOLDER": str(home / "host"), "GEO_ASSETS_UP_SERVES": "false"}
    os.environ |= own
    try:
        told("up")
        yield home
    finally:
        subprocess.run([BIN / "geo-assets", "down"], check=False, capture_output=True)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(home, ignore_errors=True)


def told(*command: str) -> Any:
    """What `geo-assets` answers.

    Raises:
        RuntimeError: it fails; with what it said.
    """
    done = subprocess.run([BIN / "geo-assets", *command, "--json"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"geo-assets {command[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return json.loads(done.stdout)


def delivered(home: Path, rasters: int) -> Delivery:
    """Publish a picture and rasters of noise, which no codec makes smaller; at work is only the database then."""
    folder = home / "containers" / CONTAINER
    folder.mkdir(parents=True)
    write_rgb(folder / "picture.tif", 2048)
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": _SIDE, "width": _SIDE, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    for number in range(rasters):
        place = from_origin(4e5 + 500 * number, 5e6, 0.1, 0.1)
        with rasterio.open(folder / f"noise{number}.tif", "w", **profile, crs="EPSG:32632", transform=place) as dataset:
            dataset.write(rng.integers(0, 256, (3, _SIDE, _SIDE), dtype="uint8"))
    job = told("submit", "ingest_container", "--param", f"container={CONTAINER}", "--wait")
    made = {task["task_key"]: read_outputs(task["stage"], task["outputs"]) for task in told("tasks", job["job_id"])}
    told("down")
    told("up", "--database-only")
    picture = made["picture.tif"]
    return Delivery(
        job["job_id"],
        str(picture.stac_item),
        _file_of(picture.all_cogs[0].cog),
        tuple(sorted(_file_of(blob) for outputs in made.values() for blob in outputs.all_blobs)),
    )


def _file_of(blob: str) -> str:
    ref, settings = BlobRef.parse(blob), load_settings()
    account = settings.storage_accounts[ref.alias]
    if not isinstance(account, LocalAccount):
        raise TypeError(f"{blob} is in no folder")
    return str(account_root(account) / ref.container / ref.path)


def postmaster(home: Path) -> int:
    """The process of the stack's database."""
    return int((home / "postgres" / "postmaster.pid").read_text().split()[0])


def superuser(home: Path) -> psycopg.Connection[Any]:
    """A connection to the stack's database."""
    known = json.loads((home / "stack.json").read_text())
    place = {"host": "127.0.0.1", "port": known["ports"]["postgres"], "password": known["passwords"]["superuser"]}
    return psycopg.connect(user="postgres", dbname=load_settings().pg_database, autocommit=True, **place)


def fill(settings: Settings, home: Path, collection: str, count: int) -> None:
    """A collection with items as ours are, and the planner's statistics of it."""
    from benchmarks.stac import items
    from geo_assets.stac.collection import Described
    from geo_assets.stac.pgstac import create_collection, load_items, refresh_collection
    from geo_assets.stages.catalogue import BATCH
    from geo_assets.text import batched

    create_collection(settings, collection, Described())
    for batch in batched(items(collection, count), BATCH):
        load_items(settings, collection, list(batch), guard=lambda _: None, record=lambda _: None)
    refresh_collection(settings, collection)
    with superuser(home) as conn:
        conn.execute("vacuum analyze")
