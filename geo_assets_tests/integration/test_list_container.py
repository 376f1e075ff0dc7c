import hashlib
import json
import os

import pytest


@pytest.fixture
def container(cli, tmp_path):
    for name in ("a.tif", "a.tfw", "b.csv", "notes.txt", ".DS_Store", "deep/c.SHP", "deep/c.dbf", "deep/c.shx"):
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert cli.run("upload", str(tmp_path / "files"), "default/listing").returncode == 0
    return "listing"


def test_a_container_is_listed_and_a_second_request_lists_it_again(cli, container):
    first = cli.json("submit", "list_container", "--param", f"container={container}", "--wait")
    assert first["status"] == "completed"
    again = cli.json("submit", "list_container", "--param", f"container={container}", "--wait")
    assert again["status"] == "completed"
    assert again["job_id"] == first["job_id"]
    assert again["run_id"] != first["run_id"]


def test_an_empty_container_is_a_clean_success(cli):
    (cli.home / "containers" / "empty").mkdir(parents=True, exist_ok=True)
    assert cli.json("submit", "list_container", "--param", "container=empty", "--wait")["status"] == "completed"


@pytest.mark.parametrize("asked", ["prefix=nosuch/", "include=*.gpkg", "exclude=*"])
def test_what_matches_nothing_is_an_error_that_says_so(cli, container, asked):
    done = cli.run(
        "submit", "list_container", "--param", f"container={container}", "--param", asked, "--wait", "--json"
    )
    assert done.returncode != 0
    job = json.loads(done.stdout)
    assert (job["status"], job["error_code"]) == ("failed", "NOTHING_MATCHED")
    assert repr(asked.partition("=")[2]) in job["error_message"]


def test_a_plan_of_what_matches_nothing_is_the_same_error_and_may_be_allowed_in_the_same_way(cli, container):
    asked = ("plan", "list_container", "--param", f"container={container}", "--param", "prefix=nosuch/")
    assert json.loads(cli.run(*asked, "--json").stdout)["error"]["code"] == "NOTHING_MATCHED"
    assert cli.json(*asked, "--allow-empty")["sources"] == []


def test_what_may_match_nothing_is_a_clean_success_when_it_does(cli, container):
    asked = ("--param", f"container={container}", "--param", "prefix=nosuch/", "--allow-empty")
    assert cli.json("submit", "list_container", *asked, "--wait")["status"] == "completed"


def test_a_prefix_of_an_empty_container_is_a_clean_success(cli):
    (cli.home / "containers" / "empty").mkdir(parents=True, exist_ok=True)
    assert (
        cli.json("submit", "list_container", "--param", "container=empty", "--param", "prefix=a/", "--wait")["status"]
        == "completed"
    )


def test_globs_come_before_the_limit_and_sidecars_stay_with_their_owner(cli, container):
    job = cli.json(
        "submit", "list_container", "--param", f"container={container}", "--param", "exclude=*.txt", "--wait"
    )
    outputs = cli.json("tasks", job["job_id"])[0]["outputs"]
    assert outputs["sources"] == {"raster": 1, "vector": 2}
    assert outputs["ignored"] == 2
    job = cli.json(
        "submit",
        "list_container",
        "--param",
        f"container={container}",
        "--param",
        "include=deep/*",
        "--param",
        "limit=1",
        "--wait",
    )
    assert cli.json("tasks", job["job_id"])[0]["outputs"]["sources"] == {"vector": 1}


@pytest.mark.faults
def test_no_name_of_a_file_ends_a_listing_or_an_ingest(cli):
    """Names that a file system takes and that have ended something once, or could."""
    folder = cli.home / "containers" / "oddnames"
    names = [
        "roads.gdb.zip",
        "x.gdb",
        ".gdb",
        ".tif",
        "..tif",
        "a b.tif",
        "per%41cent.tif",
        "back\\slash.tif",
        "new\nline.tif",
        "tab\t.tif",
    ]
    names += [
        "delete\x7f.tif",
        "\u202egnp.tif",
        "é.tif",
        "e\u0301.tif",
        "😀.tif",
        "star*[1].tif",
        "quote'\".tif",
        "-rf.tif",
        "~.tif",
        "n" * 240 + ".tif",
    ]
    deep = "/".join(hashlib.shake_256(str(i).encode()).hexdigest(110) for i in range(16))
    names += [f"{deep}/deep.tif", "d.gdb/inside.tif", "d.gdb.tif"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not what its name says")
    (folder / os.fsdecode(b"latin\xe9.tif")).write_bytes(b"x")
    listed = cli.json("submit", "list_container", "--param", "container=oddnames", "--wait")
    assert listed["status"] == "completed"
    assert cli.json("tasks", listed["job_id"])[0]["outputs"]["files"] == len(names) + 1
    job = cli.json("submit", "ingest_container", "--param", "container=oddnames", "--wait")
    assert job["status"] == "completed_with_errors", job
    tasks = cli.json("tasks", job["job_id"])
    assert len(tasks) == len(names) + 1
    assert {t["status"] for t in tasks} == {"quarantined"}
    codes = {t["error_code"] for t in tasks}
    assert codes <= {
        "UNREADABLE",
        "UNSAFE_PATH",
        "UNSUPPORTED_FORMAT",
        "VECTOR_UNSUPPORTED",
    }  # none is taken for gone, or for our fault
    assert cli.run("plan", "ingest_container", "--param", "container=oddnames").returncode == 0


def test_two_files_that_would_become_one_blob_are_refused_before_anything_is_uploaded(cli, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.tif").write_bytes(b"x")
    done = cli.run("upload", str(tmp_path / "one"), str(tmp_path / "two"), "default/doubles")
    assert done.returncode != 0
    assert "same.tif" in done.stderr
    assert not (cli.home / "containers" / "doubles" / "same.tif").exists()


def test_one_bad_name_is_left_out_of_an_upload_and_said_and_the_rest_goes_on(cli, tmp_path):
    for name in (b"good.tif", b"back\\slash.tif", b"line\nbreak.tif", b"latin-\xe4.tif", b"z.tif"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    done = cli.run("upload", str(tmp_path), "default/names", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert [f["path"] for f in told["files"]] == ["good.tif", "z.tif"]
    assert len(told["refused"]) == 3
    assert {r["code"] for r in told["refused"]} == {"UNSAFE_PATH"}
    assert "left out" in cli.run("upload", str(tmp_path), "default/names").stderr


def test_a_submission_that_nobody_launched_is_launched_by_the_sensor(cli):
    import time

    import psycopg

    env = cli.exports
    job = cli.json("submit", "hello_world", "--param", "message=sensor", "--wait")
    with psycopg.connect(
        host=env["PGHOST"], port=env["PGPORT"], user=env["PGUSER"], password=env["PGPASSWORD"], dbname=env["PGDATABASE"]
    ) as db:
        db.execute("insert into geo.attempts (job_id, attempt, requested_by) values (%s, 2, 'test')", (job["job_id"],))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = cli.json("job", job["job_id"])
        if now["run_id"] != job["run_id"] and now["status"] == "completed":
            break
        time.sleep(0.5)
    assert now["run_id"] != job["run_id"]
    assert now["attempt"] == 2
