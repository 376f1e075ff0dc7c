"""An export goes on without a file that is damaged or gone, and names it; one that was killed is completed by the next."""

import json
import os
import subprocess
import sys
import time

import psycopg
import pystac
import pytest
import rustac
from typer.testing import CliRunner

from geo_assets.cli import app as command_line
from geo_assets.errors import GeoAssetsError
from geo_assets.stac.validation import validated
from geo_assets.stages.export import Data, export
from geo_assets_tests.databases import environment
from geo_assets_tests.stages.test_catalogue import world  # noqa: F401 - the fixture
from geo_assets_tests.stages.test_export import deliver, delivered, documents, hashes


def flip(file):
    """Turn one bit of a published file around."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    return bytes(data)


@pytest.fixture
def damaged(world):  # noqa: F811
    """Two rasters and a table, published; one bit of the first COG is another one since."""
    made = deliver(world)
    (cog, *_) = sorted((made.context.settings.home / "containers" / "cogs" / made.name).rglob("a*.tif"))
    flip(cog)
    return made, cog


@pytest.mark.parametrize("data", [Data.COPY, Data.LINK])
def test_an_export_goes_on_without_a_damaged_file_and_names_it_with_a_remedy(damaged, tmp_path, data):
    made, cog = damaged
    done = export(made.context.settings, made.name, str(tmp_path / "out"), data=data)
    (left,) = done.left_out
    assert left.item.startswith(f"{made.name}/a")
    assert (left.code, cog.name in left.message) == ("OUTPUT_DAMAGED", True)
    assert "JOB_ID" not in left.remedy
    items = {item["properties"]["title"]: item for item in documents(tmp_path / "out", "Feature")}
    assert items.keys() == {"a.tif", "über dem Fluß.tif", "places.gpkg"}
    assert left.asset not in items["a.tif"]["assets"]
    assert any(left.asset in told for told in items["a.tif"]["properties"]["geo_assets:warnings"])
    assert left.asset in items["über dem Fluß.tif"]["assets"]
    assert all(validated(item) for item in items.values())
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert cog.name not in names, "a file that is known to be false"
    assert done.files == len(hashes(tmp_path / "out"))
    catalog = pystac.Catalog.from_file(str(tmp_path / "out" / "catalog.json"))
    assert len(list(catalog.get_items(recursive=True))) == 3
    rows = rustac.read_sync(str(tmp_path / "out" / made.name / "items.parquet"))["features"]
    assert sorted(len(row["assets"]) for row in rows) == sorted(
        len(items[title]["assets"]) for title in ("a.tif", "über dem Fluß.tif")
    )
    export(made.context.settings, made.name, str(tmp_path / "again"), data=data)
    assert hashes(tmp_path / "again") == hashes(tmp_path / "out")


def test_the_command_names_what_is_left_out_and_ends_well(damaged, tmp_path, monkeypatch):
    made, cog = damaged
    for name, value in environment(made.context.settings).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(command_line, ["export", made.name, str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0
    (left,) = json.loads(done.stdout)["left_out"]
    assert (left["code"], left["item"].split("/")[0]) == ("OUTPUT_DAMAGED", made.name)
    for told in (cog.name, "OUTPUT_DAMAGED", left["item"], "--force"):
        assert told in done.stderr
    refused = CliRunner().invoke(command_line, ["export", made.name, str(tmp_path / "strict"), "--strict"])
    assert isinstance(refused.exception, GeoAssetsError)
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("data", [Data.COPY, Data.LINK])
def test_strict_refuses_what_would_be_left_out_and_leaves_nothing(damaged, tmp_path, data):
    made, cog = damaged
    before = cog.read_bytes()
    for to in (str(tmp_path / "out"), "default/strict-export/x"):
        with pytest.raises(GeoAssetsError, match=cog.name) as refused:
            export(made.context.settings, made.name, to, data=data, strict=True)
        assert refused.value.code == "OUTPUT_DAMAGED"
    assert list(tmp_path.iterdir()) == []
    assert hashes(made.context.settings.home / "containers" / "strict-export") == {}
    assert cog.read_bytes() == before


def test_a_thumbnail_a_file_and_a_table_that_are_not_there_any_more_are_left_out(world, tmp_path):  # noqa: F811
    made = deliver(world)
    files = made.context.settings.home / "containers" / "cogs" / made.name
    (cog,) = files.rglob("a*.tif")
    cog.unlink()
    (picture, *_) = sorted((files.parents[1] / "thumbnails").rglob(f"*{made.name}*/**/*.*"))
    flip(picture)
    with psycopg.connect(made.context.settings.dsn("pipeline"), autocommit=True) as conn:
        ((table,),) = conn.execute(
            "select outputs->'tables'->0->>'table' from geo.published where stac_item like %s",
            (f"{made.name}-vector/%",),
        ).fetchall()
        conn.execute(f"drop table {table}")
    done = export(made.context.settings, made.name, str(tmp_path / "out"))
    assert sorted(left.code for left in done.left_out) == ["OUTPUT_DAMAGED", "OUTPUT_GONE", "OUTPUT_GONE"]
    assert done.items == 3
    told = [
        warning
        for item in documents(tmp_path / "out", "Feature")
        for warning in item["properties"].get("geo_assets:warnings", ())
    ]
    assert sum("is not in this export" in warning for warning in told) == 3


#: Exports, and waits where it is to be killed: at the first item, or after so many names were moved into their place.
_EXPORT = """
import sys
from pathlib import Path
from geo_assets.settings import load_settings
from geo_assets.stages.export import export

name, to, moves = sys.argv[1], sys.argv[2], int(sys.argv[3])
rename, moved = Path.rename, []

def wait():
    print("here", flush=True)
    sys.stdin.read()

def counted(path, to):
    done = rename(path, to)
    moved.extend([path] if not path.name.startswith(".geo-assets-export") else [])
    if len(moved) == moves:
        wait()
    return done

Path.rename = counted
export(load_settings(), name, to, told=lambda _: None if moves else wait())
"""


def begun(settings, name, to, *, moves=0):
    """A process that has begun an export and stands still; kill it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _EXPORT, name, to, str(moves)],
        env={**os.environ, **environment(settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    return process


def kill(process):
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def made(settings):
    """For tests that only export it."""
    yield from delivered(settings)


def test_an_export_into_a_container_that_was_killed_is_completed_by_the_next(made, tmp_path):
    settings, name, to = made.context.settings, made.name, f"default/killed-{made.name}/2026"
    there = settings.home / "containers" / f"killed-{made.name}" / "2026"
    process = begun(settings, name, to)
    try:
        with pytest.raises(GeoAssetsError, match="another export to") as refused:
            export(settings, name, to)
        assert refused.value.code == "STILL_AT_WORK"
    finally:
        kill(process)
    left = hashes(there)
    assert left
    assert "catalog.json" not in left
    (there / "notes.txt").write_text("somebody's")
    with pytest.raises(GeoAssetsError, match="is not empty"):
        export(settings, name, to)
    assert hashes(there).items() >= left.items(), "nothing was touched"
    (there / "notes.txt").unlink()
    (there / name / "of-an-item-that-is-unpublished-since.tif").write_bytes(b"old")
    for half in (there / name / "a.tif#1", there / "catalog.json#1", there / ".geo-assets-export#1"):
        half.write_bytes(b"killed while it was uploaded, ten minutes ago")
        os.utime(half, (time.time() - 600, time.time() - 600))
    export(settings, name, str(tmp_path / "out"))
    export(settings, name, to)
    assert hashes(there) == hashes(tmp_path / "out")


@pytest.mark.parametrize("moves", [0, 1, 3], ids=lambda moves: f"{moves} moved")
def test_an_export_into_an_empty_folder_that_was_killed_is_completed_by_the_next(made, tmp_path, moves):
    settings, name = made.context.settings, made.name
    (tmp_path / "there").mkdir()
    process = begun(settings, name, str(tmp_path / "there"), moves=moves)
    try:
        with pytest.raises(GeoAssetsError, match="is no empty folder"):
            export(settings, name, str(tmp_path / "there"))
    finally:
        kill(process)
    assert len(list((tmp_path / "there").iterdir())) == 1 + moves
    (tmp_path / "there" / "notes.txt").write_text("somebody's")
    with pytest.raises(GeoAssetsError, match="is no empty folder"):
        export(settings, name, str(tmp_path / "there"))
    assert len(list((tmp_path / "there").iterdir())) == 2 + moves, "nothing was touched"
    (tmp_path / "there" / "notes.txt").unlink()
    export(settings, name, str(tmp_path / "there"))
    export(settings, name, str(tmp_path / "out"))
    assert hashes(tmp_path / "there") == hashes(tmp_path / "out")


def test_what_a_killed_export_to_a_new_folder_left_beside_it_is_removed_by_the_next(made, tmp_path):
    process = begun(made.context.settings, made.name, str(tmp_path / "out"))
    kill(process)
    assert [path.name for path in tmp_path.iterdir()] != []
    export(made.context.settings, made.name, str(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").rglob(".*"))
