"""A team's packages beside geo_assets (docs/extend.md): the page's commands, the template's package and the examples, in
a stack of an environment that has them.

Here: that what others add is treated as ours is. Not here: what is found, and what is broken (`test_plugins.py`).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import geopandas as gpd
import numpy as np
import psycopg
import pyogrio
import pytest
import rasterio
from shapely.geometry import box

import geo_assets
from geo_assets_tests.conftest import Cli
from geo_assets_tests.databases import link_postgresql
from geo_assets_tests.faults.test_killed_run import converted, run_workers
from geo_assets_tests.oracle import settings_of
from geo_assets_tests.processes import command
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DEMO = Path(geo_assets.__file__).parent / "demo_data"
EXAMPLES = sorted((ROOT / "examples").iterdir())

_BROKEN = "[geo_assets.job_types]\nrust = out_of_order:Rust\n"


class Team(Cli):
    """`geo-assets` in an environment of a team's own: it sees the packages of ours, and has others beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.venv = folder, folder / "venv"
        uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".geo" / "uv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--offline", "--python", sys.executable, self.venv], check=True)
        python = self.venv / "bin" / "python"
        where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        self.site = Path(
            subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
        )
        ours = sysconfig.get_paths()["purelib"]
        (self.site / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        script = self.venv / "bin" / "geo-assets"
        script.write_text(f"#!{python}\nfrom geo_assets.cli import main\n\nmain()\n")
        script.chmod(0o755)
        tools = f"{self.venv / 'bin'}:{Path(uv).parent}:{os.environ['PATH']}"
        super().__init__(folder / "home", PATH=tools, VIRTUAL_ENV=str(self.venv), UV_OFFLINE="1")
        self.env.pop("OGR_SKIP", None)  # of a test before, in whose process drivers were forbidden
        self.home.mkdir()

    def command(self, *args: str) -> list[str]:
        return [str(self.venv / "bin" / "geo-assets"), *args]

    def sh(self, commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands], cwd=self.folder, env=self.env, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ingest(self, job_type: str, container: str, *parameters: str):
        """The job of a container, once it has ended, and its tasks by (stage, key)."""
        asked = [word for each in (f"container={container}", *parameters) for word in ("--param", each)]
        job = self.json("submit", job_type, *asked, "--wait")
        return job, {(t["stage"], t["task_key"]): t for t in self.json("tasks", job["job_id"])}

    def deliver(self, files: Path, container: str) -> None:
        """A container that holds these files and no others."""
        shutil.rmtree(self.home / "containers" / container, ignore_errors=True)
        done = self.run("upload", str(files), f"default/{container}")
        assert done.returncode == 0, done.stderr

    def items(self, collection: str) -> dict[str, dict]:
        """Source -> item, as a search finds them."""
        with psycopg.connect(settings_of(self).dsn("reader")) as db:
            query = {"collections": [collection], "limit": 100}
            (found,) = db.execute("select pgstac.search(%s::jsonb)", (json.dumps(query),)).fetchone()
        return {item["properties"]["title"]: item for item in found["features"]}

    def file(self, blob: str) -> Path:
        return self.home / "containers" / blob.removeprefix("default/")


@pytest.fixture(scope="module")
def page(open_folder, postgres_home):
    """The page's commands, run one after the other as a reader would, and what they printed."""
    team = Team(open_folder())
    link_postgresql(postgres_home, team.home)
    landing = team.folder / "landing"
    landing.mkdir()
    shutil.copy(DEMO / "jacksboro" / "elevation.tif", landing)
    shutil.copy(DEMO / "damaged_upload.tif", landing)
    for example in EXAMPLES:
        shutil.copytree(example, team.folder / example.name, ignore=shutil.ignore_patterns("__pycache__"))
        team.sh(f"uv pip install --quiet --no-deps --editable {example.name}")
    broken = team.site / "out_of_order-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: out-of-order\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text(_BROKEN)
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (ROOT / "docs" / "extend.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    try:
        yield team, {block: team.sh(block) for block in blocks}
    finally:
        team.run("down")


@pytest.fixture
def cli(page):
    """The team's stack. The oracle looks at what each test has left in it, from an environment without the packages:
    what a package has published is nobody's orphan where it is not installed.
    """
    return page[0]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "delivery").mkdir()
    return tmp_path / "delivery"


def test_the_commands_of_the_page_make_install_and_run_a_package_of_which_a_bad_file_is_quarantined_with_a_reason(page):
    team, printed = page
    said = "".join(printed.values())
    assert "how many bins a histogram has (default 10)" in said
    assert "4 passed" in said
    assert "landing-histogram" in said
    reference = {path.name: path.read_text() for path in (team.folder / "reference").iterdir()}
    assert "GEO_ASSETS_HISTOGRAM_MAX_PIXELS" in reference["settings.md"]
    assert "HISTOGRAM_NO_VALUES" in reference["errors.md"]
    job, tasks = team.ingest("histogram", "landing", "bins=20")
    assert job["status"] == "completed_with_errors"
    bad = tasks["histogram", "damaged_upload.tif"]
    assert (bad["status"], bad["error_code"]) == ("quarantined", "UNREADABLE")
    assert "damaged_upload.tif" in bad["error_message"]
    assert bad["remedy"]
    (blob,) = tasks["histogram", "elevation.tif"]["outputs"]["blobs"]
    with rasterio.open(DEMO / "jacksboro" / "elevation.tif") as dem:
        made = json.loads(team.file(blob).read_text())
        assert (len(made["counts"]), sum(made["counts"])) == (20, dem.read(1, masked=True).count())
    item = team.items("landing-histogram")["elevation.tif"]
    (asset,) = item["assets"].values()
    assert asset["type"] == "application/json"
    assert "counted in bins of equal width" in item["properties"]["processing:lineage"]
    assert item["properties"]["processing:software"]["geo-assets-histogram"] == "0.1.0"


def test_the_same_request_is_the_same_job_and_repeats_nothing_another_value_makes_it_again(cli, folder):
    write(folder / "a.tif", np.arange(100, dtype="int16").reshape(1, 10, 10))
    cli.deliver(folder, "again")
    first, before = cli.ingest("histogram", "again")
    second, after = cli.ingest("histogram", "again", "bins=10")
    assert (second["job_id"], second["status"]) == (first["job_id"], "completed")
    assert second["run_id"] != first["run_id"]
    key = ("histogram", "a.tif")
    assert after[key]["outputs"] == before[key]["outputs"]
    assert after[key]["status"] == "skipped"
    other, more = cli.ingest("histogram", "again", "bins=5")
    assert other["job_id"] != first["job_id"]
    (old,), (new,) = before[key]["outputs"]["blobs"], more[key]["outputs"]["blobs"]
    assert not cli.file(old).exists()
    assert len(json.loads(cli.file(new).read_text())["counts"]) == 5


def test_a_changed_source_replaces_its_output_a_bad_one_leaves_it_and_a_deleted_one_withdraws_it(cli, folder):
    values = np.arange(100, dtype="int16").reshape(1, 10, 10)
    write(folder / "a.tif", values)
    write(folder / "b.tif", values)
    cli.deliver(folder, "changing")
    asked = ("deleted=retire", "max_retire_percent=100")
    first, before = cli.ingest("histogram", "changing", *asked)
    (old,) = before["histogram", "a.tif"]["outputs"]["blobs"]
    write(folder / "a.tif", values + 1000)
    cli.deliver(folder, "changing")
    second, after = cli.ingest("histogram", "changing", *asked)
    assert second["job_id"] == first["job_id"]
    (new,) = after["histogram", "a.tif"]["outputs"]["blobs"]
    assert (cli.file(old).exists(), cli.file(new).exists()) == (False, True)
    assert json.loads(cli.file(new).read_text())["edges"][0] == 1000
    (asset,) = cli.items("changing-histogram")["a.tif"]["assets"].values()
    assert asset["href"].endswith(new.rpartition("/")[2])
    (folder / "a.tif").write_bytes(b"no raster any more")
    cli.deliver(folder, "changing")
    _, worse = cli.ingest("histogram", "changing", *asked)
    assert worse["histogram", "a.tif"]["status"] == "quarantined"
    assert cli.file(new).exists()
    (folder / "a.tif").unlink()
    cli.deliver(folder, "changing")
    cli.ingest("histogram", "changing", *asked)
    assert cli.items("changing-histogram").keys() == {"b.tif"}
    assert not cli.file(new).exists()


def test_a_lost_output_is_found_and_made_again_and_receipts_prove_what_there_is(cli, folder):
    write(folder / "a.tif", np.arange(100, dtype="int16").reshape(1, 10, 10))
    cli.deliver(folder, "lost")
    job, tasks = cli.ingest("histogram", "lost")
    (blob,) = tasks["histogram", "a.tif"]["outputs"]["blobs"]
    assert cli.run("verify", job["job_id"]).returncode == 0
    cli.file(blob).unlink()
    assert cli.run("verify", job["job_id"]).returncode == 1
    mended = cli.run("reconcile", "--collection", "lost", "--repair")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert cli.file(blob).exists()
    assert cli.run("verify", job["job_id"]).returncode == 0


def test_a_container_is_planned_before_it_is_submitted(cli, folder):
    write(folder / "a.tif", np.zeros((1, 10, 10), "int16"))
    (folder / "a.zip").write_bytes(b"PK\5\6" + bytes(18))
    (folder / "notes.odd").write_text("n")
    cli.deliver(folder, "planned")
    told = cli.json("plan", "histogram", "--param", "container=planned")
    assert {(s["path"], s["stage"], s["action"]) for s in told["sources"]} >= {
        ("a.tif", "histogram", "create"), ("notes.odd", "", "unsupported"),
    }  # fmt: skip


def test_terrain_makes_cogs_of_hillshade_and_slope_and_refuses_what_is_no_elevation_model(cli, folder):
    shutil.copy(DEMO / "jacksboro" / "elevation.tif", folder)
    write(folder / "photo.tif", np.zeros((3, 20, 20), "uint8"))
    cli.deliver(folder, "dems")
    job, tasks = cli.ingest("terrain", "dems", "altitude=30")
    assert job["status"] == "completed_with_errors"
    assert tasks["terrain", "photo.tif"]["error_code"] == "TERRAIN_NO_HEIGHTS"
    item = cli.items("dems-terrain")["elevation.tif"]
    assert item["assets"].keys() == {"hillshade", "slope", "thumbnail", "slope-thumbnail"}
    assert [band["data_type"] for key in ("hillshade", "slope") for band in item["assets"][key]["bands"]] == [
        "uint8", "float32",
    ]  # fmt: skip
    assert "Horn (1981)" in item["properties"]["processing:lineage"]
    shade, slope = (cli.file(made["cog"]) for made in tasks["terrain", "elevation.tif"]["outputs"]["cogs"])
    for cog in (shade, slope):
        assert cli.run("cog", "validate", str(cog)).returncode == 0
    with rasterio.open(slope) as made, rasterio.open(folder / "elevation.tif") as dem:
        assert (made.shape, made.transform, made.crs) == (dem.shape, dem.transform, dem.crs)
    again, after = cli.ingest("terrain", "dems", "altitude=30")
    assert (again["job_id"], after["terrain", "elevation.tif"]["status"]) == (job["job_id"], "skipped")
    assert cli.run("verify", job["job_id"]).returncode == 0


def test_a_killed_run_is_gone_on_with_and_what_was_made_is_not_made_again(cli, folder):
    for number in range(40):
        heights = np.random.default_rng(number).normal(500, 30, (1, 500, 500)).astype("float32")
        write(folder / f"dem_{number:02}.tif", heights)
    cli.deliver(folder, "killed-dems")
    job = cli.json("submit", "terrain", "--param", "container=killed-dems")
    until(lambda: len(converted(cli, job["job_id"])) >= 3)
    run_id = cli.json("job", job["job_id"])["run_id"]
    (worker,) = (pid for pid in run_workers(cli) if run_id in command(pid))
    os.kill(worker, signal.SIGKILL)
    until(lambda: not run_workers(cli))
    before = converted(cli, job["job_id"])
    until(lambda: cli.json("job", job["job_id"])["status"] == "completed", 120)
    after = converted(cli, job["job_id"])
    assert 3 <= len(before) < len(after) == 40
    assert {key: after[key] for key in before} == before
    assert len(cli.items("killed-dems-terrain")) == 40
    assert len(list((cli.home / "containers" / "cogs" / "killed-dems").rglob("*.tif"))) == 80


def test_vector_tiles_are_made_of_the_tables_that_were_published_and_follow_a_changed_source(cli, folder):
    def fields(*names):
        squares = [box(8 + i, 50, 8.5 + i, 50.5) for i in range(len(names))]
        gpd.GeoDataFrame({"name": names}, geometry=squares, crs=4326).to_file(folder / "fields.gpkg")

    fields("one", "two")
    (folder / "bad.gpkg").write_bytes(b"SQLite format 3\0 cut off")
    cli.deliver(folder, "maps")
    job, tasks = cli.ingest("vector_tiles", "maps", "max_zoom=6")
    assert job["status"] == "completed_with_errors"
    bad = {stage: task["error_code"] for (stage, key), task in tasks.items() if key == "bad.gpkg"}
    assert bad == {"vector_tables": "UNREADABLE", "vector_tiles": "NOTHING_TO_DRAW"}
    (old,) = tasks["vector_tiles", "fields.gpkg"]["outputs"]["blobs"]
    assert set(pyogrio.read_dataframe(cli.file(old), ZOOM_LEVEL=6).name) == {"one", "two"}
    item = cli.items("maps-vector-tiles")["fields.gpkg"]
    assert item["bbox"] == pytest.approx([8, 50, 9.5, 50.5])
    assert [asset["type"] for asset in item["assets"].values()] == ["application/vnd.pmtiles"]
    fields("one", "two", "three")
    cli.deliver(folder, "maps")
    again, after = cli.ingest("vector_tiles", "maps", "max_zoom=6")
    assert again["job_id"] == job["job_id"]
    (new,) = after["vector_tiles", "fields.gpkg"]["outputs"]["blobs"]
    assert set(pyogrio.read_dataframe(cli.file(new), ZOOM_LEVEL=6).name) == {"one", "two", "three"}
    assert not cli.file(old).exists()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_tests_of_an_example_pass_beside_a_running_stack(cli, example):
    told = cli.sh(f"cd {example.name} && python -m pytest -q -p no:cacheprovider tests")
    assert " passed" in told
    assert "skipped" not in told or not shutil.which("gdaldem")


def test_a_broken_package_is_one_error_that_names_it_and_takes_no_other_job_down(cli):
    refused = cli.run("submit", "rust", "--param", "container=landing")
    assert refused.returncode == 1
    assert "of out-of-order 1.0 cannot be loaded: ModuleNotFoundError" in refused.stderr
    found = {f["what"]: f for f in cli.json("doctor")}["added by others"]
    assert found["level"] == "failure"
    assert "out-of-order 1.0" in found["found"]
    assert cli.json("submit", "hello_world", "--wait")["status"] == "completed"
