"""Every blob of a container is accounted for, whatever it is."""

import json

import pytest

from geo_assets_tests.vector.builders import points, write

NAMES = {
    "a.geojson": "source",
    "b.shp": "source",
    "b.shx": "part",
    "b.dbf": "part",
    "README.md": "companion",
    "LICENSE": "companion",
    "style.qml": "companion",
    "a.tif.vat.dbf": "companion",
    "scene_MTL.json": "companion",
    "project.qgz": "companion",
    "data.dwg": "source",
    ".DS_Store": "ignored",
    "deep/__MACOSX/x.tif": "ignored",
    "left/out.gpkg": "ignored",
}


@pytest.fixture(scope="module")
def job(cli):
    folder = cli.home / "containers" / "every-file"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    write(points(2), folder / "a.geojson")
    return cli.json("submit", "ingest_container", "--param", "container=every-file", "--param", "exclude=left/*", "--wait")


def test_every_blob_has_one_role(cli, job):
    assert {f["path"]: f["role"] for f in cli.json("files", job["job_id"])} == NAMES


def test_a_part_names_its_source_and_what_is_ignored_its_reason(cli, job):
    files = {f["path"]: f for f in cli.json("files", job["job_id"])}
    assert files["b.dbf"]["of"] == "b.shp"
    assert "operating system" in files[".DS_Store"]["reason"]
    assert "exclude" in files["left/out.gpkg"]["reason"]


def test_companions_are_never_quarantined(cli, job):
    bad = {t["task_key"] for t in cli.json("tasks", job["job_id"]) if t["status"] == "quarantined"}
    assert bad == {"b.shp", "data.dwg"}


def test_good_data_beside_a_readme_completes(cli):
    folder = cli.home / "containers" / "with-readme"
    folder.mkdir(parents=True)
    write(points(2), folder / "a.geojson")
    (folder / "README.txt").write_text("as delivered")
    done = cli.run("submit", "ingest_container", "--param", "container=with-readme", "--wait", "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "completed")


def test_companions_do_not_use_up_the_limit(cli):
    folder = cli.home / "containers" / "limited"
    folder.mkdir(parents=True)
    for name in ("0.txt", "1.txt"):
        (folder / name).write_text("x")
    for name in ("a.geojson", "b.geojson"):
        write(points(2), folder / name)
    job = cli.json("submit", "ingest_container", "--param", "container=limited", "--param", "limit=1", "--wait")
    assert [t["task_key"] for t in cli.json("tasks", job["job_id"])] == ["a.geojson"]
    roles = {f["path"]: f["role"] for f in cli.json("files", job["job_id"])}
    assert roles == {"0.txt": "companion", "1.txt": "companion", "a.geojson": "source", "b.geojson": "beyond_limit"}
