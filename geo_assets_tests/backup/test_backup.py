"""A database and its blobs are backed up and restored elsewhere: all is as it was, and what cannot be is refused."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from geo_assets.backup import postgresql
from geo_assets.backup import restore as module
from geo_assets.backup.backup import back_up
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import backup as ledger
from geo_assets.ledger.changes import NOW
from geo_assets.ledger.ledger import Ledger
from geo_assets.stages.orphans import sweep_blobs
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.conftest import Cli
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import hello, raw
from geo_assets_tests.receipts.builders import Job, green, state


@pytest.fixture(scope="module")
def job(settings):
    """A job with two published sources."""
    with Submitter(settings, launches=False) as submitter:
        job = Job(settings, submitter, "kept")
        job.publish("a")
        job.publish("b", "another COG")
        job.end()
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("create table vector.roads as select 1 as gid, st_setsrid(st_point(1, 2), 4326) as geom")
        conn.execute("create view public.over_roads as select gid from vector.roads")
        conn.execute("select vector_staging.add_spatial_reference(987654, 'ESRI', 'LOCAL_CS[\"x\"]', '+proj=longlat')")
    return job


def run(settings, *words, **more) -> subprocess.CompletedProcess:
    command = Cli(settings.home).command(*words)
    env = {**os.environ, **environment(settings), **more}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def error(done) -> str:
    """The code of a refusal, which has a remedy."""
    assert done.returncode == 1, done.stdout + done.stderr
    said = json.loads(done.stdout)["error"]
    assert said["remedy"]
    return said["code"]


def schema(settings) -> list[str]:
    """All but the data, as pg_dump tells it: two of its lines are random, and parentheses are as PostgreSQL likes them."""
    program, env = postgresql._program(settings, "pg_dump")
    told = subprocess.run([program, "--schema-only"], env=env, capture_output=True, text=True, check=True).stdout
    lines = [re.sub(r"[()\s]", "", line) for line in told.splitlines()]
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


@pytest.fixture(scope="module")
def backup(settings, job, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backups") / "monday"
    done = run(settings, "backup", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["blobs"], told["containers"]) == (2, ["default/cogs", "default/thumbnails"])
    return folder


@pytest.fixture
def elsewhere(databases, open_folder):
    """A database that was only just made, with a home of its own."""
    settings = databases.make(open_folder())
    yield settings
    databases.end_sessions(settings)


def test_what_was_backed_up_is_restored_in_another_database_as_it_was(settings, job, backup, elsewhere):
    home = elsewhere.model_copy(update={"home": settings.home})  # hrefs of items are paths of the home
    cogs = settings.home / "containers" / "cogs"
    before = state(settings)
    shutil.move(cogs, settings.home / "aside")
    try:
        done = run(home, "restore", str(backup), "--json")
        assert done.returncode == 0, done.stderr
        assert state(home) == before
        now, then = schema(home), schema(settings)
        assert [*{*now} - {*then}] == [*{*then} - {*now}] == [], "owners, rights, functions, indexes, comments"
        assert len(now) == len(then) > 5000
        green(home)
        names = {path.relative_to(cogs): path.read_bytes() for path in cogs.rglob("*") if path.is_file()}
        aside = settings.home / "aside"
        assert names == {path.relative_to(aside): path.read_bytes() for path in aside.rglob("*") if path.is_file()}
    finally:
        shutil.rmtree(cogs, ignore_errors=True)
        shutil.move(settings.home / "aside", cogs)
    with psycopg.connect(home.dsn("reader")) as conn:
        assert conn.execute("select gid from vector.roads").fetchone() == (1,)
        assert conn.execute("select status from geo.job_status").fetchone() == ("completed",)
        assert conn.execute("select count(*) from spatial_ref_sys where srid = 987654").fetchone() == (1,)
    with psycopg.connect(home.dsn("pipeline")) as conn:
        assert conn.execute("select gid from public.over_roads").fetchone() == (1,)
    with Submitter(home, launches=False) as submitter:  # it takes new jobs, and publishes
        later = Job(home, submitter, "later")
        later.publish("c")
        later.end()
    assert error(run(home, "restore", str(backup), "--json")) == "DATABASE_NOT_EMPTY"


def test_a_mirror_of_what_was_restored_copies_all_anew(settings, job, backup, elsewhere):
    assert run(elsewhere, "restore", str(backup), "--no-blobs").returncode == 0
    cursors = []
    for each in (settings, elsewhere):
        with Ledger(each) as opened:
            cursors.append(opened.changes.since(NOW, limit=1)[1])
    assert cursors[0].partition("-")[0] != cursors[1].partition("-")[0]


def restored(settings, backup, **options):
    return module.restore(settings, backup, log=print, tell=lambda _: lambda *_: None, **options)


def test_a_job_that_comes_while_blobs_are_put_back_is_not_destroyed(job, backup, elsewhere, monkeypatch):
    put_back = module._put_back

    def slowly(*given):
        put_back(*given)
        with Submitter(elsewhere, launches=False) as submitter:  # whoever started the stack too early
            assert handle(submitter, raw(hello())).submitted

    monkeypatch.setattr(module, "_put_back", slowly)
    with pytest.raises(GeoAssetsError) as refused:
        restored(elsewhere, backup)
    assert refused.value.code == "DATABASE_NOT_EMPTY"
    with psycopg.connect(elsewhere.dsn("pipeline")) as conn:
        assert conn.execute("select job_type from geo.jobs").fetchall() == [("hello_world",)]


def test_a_restoration_that_was_killed_before_its_end_is_completed_by_another_of_the_same_backup(
    settings, job, backup, elsewhere, tmp_path
):
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(ledger, "complete", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            restored(elsewhere, backup, blobs=False)
    other = shutil.copytree(backup, tmp_path / "tuesday")
    manifest = json.loads((other / "backup.json").read_text())
    (other / "backup.json").write_text(json.dumps({**manifest, "made_at": "2026-01-01"}))
    assert error(run(elsewhere, "restore", str(other), "--json")) == "DATABASE_NOT_EMPTY"
    assert run(elsewhere, "restore", str(backup), "--no-blobs").returncode == 0
    assert state(elsewhere) == state(settings)
    cursors = []
    for each in (settings, elsewhere):
        with Ledger(each) as opened:
            cursors.append(opened.changes.since(NOW, limit=1)[1].partition("-")[0])
    assert cursors[0] != cursors[1]
    with psycopg.connect(elsewhere.dsn("migrator")) as conn:
        assert conn.execute("select has_schema_privilege('geo_pipeline', 'geo', 'create')").fetchone() == (False,)
    assert error(run(elsewhere, "restore", str(backup), "--json")) == "DATABASE_NOT_EMPTY"


def test_nothing_is_deleted_while_a_backup_copies(settings, job):
    blob = settings.home / "containers" / "cogs" / "replaced.tif"
    blob.write_text("it was replaced")
    with psycopg.connect(settings.dsn("migrator"), autocommit=True) as conn:
        conn.execute("insert into geo.loose_blobs (blob) values ('default/cogs/replaced.tif')")
        ledger.hold_deletions(conn)
        assert sweep_blobs(settings, ["default/cogs/replaced.tif"]) == 0
        assert blob.exists()
    assert sweep_blobs(settings, ["default/cogs/replaced.tif"]) == 1
    assert not blob.exists()


def test_files_whose_names_no_store_takes_are_left_out_and_named_and_the_others_are_copied(settings, job, tmp_path):
    folder = settings.home / "containers" / "odd"
    folder.mkdir(parents=True)
    for name in ("a\nb.tif", "x#1", "\udcff.tif", "plain.tif"):  # \udcff: the byte 255
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (1, 1))
    done = run(settings, "backup", str(tmp_path / "b"), "--container", "default/odd", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    lines = map(json.loads, (tmp_path / "b" / "blobs.jsonl").read_text().splitlines())
    copied = [line["path"] for line in lines if line["container"] == "default/odd"]
    assert copied == ["plain.tif"]
    assert told["left_out"] == done.stderr.count("left out: ") == 3


def test_a_file_that_a_row_names_and_that_is_not_there_is_named_and_the_backup_says_so(settings, job, tmp_path):
    lost, *_ = sorted((settings.home / "containers" / "cogs" / "kept").rglob("*.tif"))
    aside = lost.rename(tmp_path / "aside.tif")
    try:
        done = run(settings, "backup", str(tmp_path / "b"), "--json")
        words = run(settings, "backup", str(tmp_path / "c"))
    finally:
        aside.rename(lost)
    told = json.loads(done.stdout)
    assert (done.returncode, told["missing"]) == (1, 1)
    assert f"missing: default/cogs/kept/{lost.name}" in done.stderr
    assert json.loads((tmp_path / "b" / "backup.json").read_text())["missing"] == 1
    assert (words.returncode, "reconcile --repair" in words.stdout) == (1, True)


@pytest.mark.parametrize("mount", [False, True], ids=["nothing", "an empty folder"])
def test_of_a_container_that_is_away_no_backup_is_made(settings, job, tmp_path, mount):
    cogs = settings.home / "containers" / "cogs"
    aside = cogs.rename(tmp_path / "aside")
    if mount:
        cogs.mkdir()
    try:
        assert error(run(settings, "backup", str(tmp_path / "b"), "--json")) == "BLOB_GONE"
        assert run(settings, "backup", str(tmp_path / "c"), "--no-blobs", "--json").returncode == 0
    finally:
        if mount:
            cogs.rmdir()
        aside.rename(cogs)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("default/nosuch", "CONTAINER_NOT_FOUND"),
        ("default/cogs/kept", "INVALID_PARAMETERS"),
        ("no", "INVALID_PARAMETERS"),
    ],
)
def test_another_container_is_one_that_is_there_and_is_copied_as_a_whole(settings, job, tmp_path, asked, code):
    folder = tmp_path / "b"
    assert error(run(settings, "backup", str(folder), "--no-blobs", "--container", asked, "--json")) == code
    assert not folder.exists()


@pytest.mark.parametrize(("rc", "made", "kept"), [(0, True, ["new"]), (1, True, ["new", "old"]), (1, False, ["old"])])
def test_nightly_backups_are_deleted_only_after_one_that_misses_nothing(tmp_path, rc, made, kept):
    folder, program = tmp_path / "backups", tmp_path / "geo-assets"
    old = folder / "2026-01-01T000000Z"
    old.mkdir(parents=True)
    os.utime(old, (1, 1))
    program.write_text(f"#!/bin/sh\n{'mkdir $2; touch $2/backup.json' if made else ':'}\nexit {rc}\n")
    program.chmod(0o755)
    script = tmp_path / "backup"
    script.write_text(
        (Path(__file__).parents[2] / "deploy" / "vm" / "backup")
        .read_text()
        .replace("/usr/local/bin/geo-assets", str(program))
    )
    assert subprocess.run(["sh", script, folder, "14"], check=False).returncode == rc
    assert sorted("old" if path == old else "new" for path in folder.iterdir()) == kept


def test_a_folder_with_something_in_it_is_no_place_for_a_backup(settings, job, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert error(run(settings, "backup", str(tmp_path), "--json")) == "FOLDER_NOT_EMPTY"
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("there", [False, True], ids=["a folder that is made", "an empty folder"])
def test_a_backup_that_is_interrupted_leaves_nothing_and_is_made_by_the_same_command_again(
    settings, job, tmp_path, monkeypatch, there
):
    folder = tmp_path / "backups" / "monday"
    if there:
        folder.mkdir(parents=True, mode=0o755)

    def stopped(*_):
        raise KeyboardInterrupt

    for at in ("database", "default/cogs"):
        with pytest.raises(KeyboardInterrupt):
            back_up(settings, folder, log=lambda said, at=at: said == at and stopped(), tell=lambda *_: None)
        assert (folder.exists(), there and list(folder.iterdir())) == (there, there and [])
    assert back_up(settings, folder, log=print, tell=lambda *_: None).blobs >= 2


def test_the_commands_that_a_backup_prints_restore_it_in_an_empty_home(settings, job, tmp_path):
    folder = tmp_path / "of monday"
    done = run(settings, "backup", str(folder), "--no-blobs")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.partition("in an empty home: ")[2].replace("\n", " ").strip()
    up, _, restore = printed.partition(", then ")
    for command, words in ((up, ["up", "--database-only"]), (restore, ["restore", str(folder)])):
        home, program, *rest = shlex.split(command)
        assert (home, Path(program).name, rest) == ("GEO_ASSETS_HOME=NEW_HOME", "geo-assets", words)


def test_a_backup_that_was_interrupted_is_none_and_one_that_was_changed_is_refused(
    settings, backup, elsewhere, tmp_path
):
    copy = shutil.copytree(backup, tmp_path / "copy")
    dump = copy / "database.dump"
    good = dump.read_bytes()
    dump.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert error(run(elsewhere, "restore", str(copy), "--json")) == "BACKUP_DAMAGED"
    dump.write_bytes(good)
    for blob in (copy / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"other bytes")
    assert error(run(elsewhere, "restore", str(copy), "--json")) == "BACKUP_DAMAGED"
    (copy / "backup.json").unlink()
    assert error(run(elsewhere, "restore", str(copy), "--json")) == "NO_BACKUP"
    assert error(run(elsewhere, "restore", str(tmp_path / "nowhere"), "--json")) == "NO_BACKUP"


def test_a_backup_of_a_newer_release_is_refused(settings, backup, elsewhere, tmp_path):
    copy = shutil.copytree(backup, tmp_path / "copy")
    manifest = json.loads((copy / "backup.json").read_text())
    manifest["migrations"]["9999_of_the_future.sql"] = "0" * 64
    (copy / "backup.json").write_text(json.dumps(manifest))
    assert error(run(elsewhere, "restore", str(copy), "--json")) == "RELEASE_DIFFERS"


def test_while_programs_are_connected_that_work_nothing_is_restored(settings, backup, elsewhere):
    with psycopg.connect(elsewhere.dsn("pipeline")):
        assert error(run(elsewhere, "restore", str(backup), "--json")) == "STILL_CONNECTED"


def test_without_pg_dump_nothing_is_begun(settings, job, tmp_path, monkeypatch):
    monkeypatch.setattr(postgresql, "find_binaries", lambda home: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GeoAssetsError, match="pg_dump is not on this machine"):
        back_up(settings, tmp_path / "backup", log=print, tell=lambda *_: None)
    assert not (tmp_path / "backup").exists()
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6'\n")
    old.chmod(0o755)
    with pytest.raises(GeoAssetsError, match=r"is of PostgreSQL 9, the server is of \d+"):
        back_up(settings, tmp_path / "backup", log=print, tell=lambda *_: None)
