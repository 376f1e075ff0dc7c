"""What is unpublished is found by nobody first, then deleted, then accounted for; a kill in between leaves no rest."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from itertools import count

import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import COGS, TABLES
from geo_assets.ledger import tombstones
from geo_assets.outcomes import CogOutputs, Outputs, TableEntry, TableOutputs
from geo_assets.parameters import validate_parameters
from geo_assets.stac import pgstac
from geo_assets.stac.collection import Described
from geo_assets.stages import unpublish as module
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.stages.unpublish import (
    remove_collection,
    unpublish_collection,
    unpublish_item,
    unpublish_job,
)
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import open_container
from geo_assets_tests.stac.test_retries import item


class Published:
    """A job whose sources were published: a COG each, or a table each, with item, ledger and data."""

    def __init__(self, settings, submitter, name):
        self.settings, self.submitter, self.name = settings, submitter, name
        (settings.home / "containers" / name).mkdir(parents=True, exist_ok=True)
        asked = validate_parameters("ingest_container", {"container": name})
        self.job_id = submitter.submit(asked, submitted_by="test").job_id
        self.end("completed")

    def end(self, outcome):
        with psycopg.connect(self.settings.dsn("pipeline")) as conn:
            conn.execute(
                "update geo.attempts set outcome = %s, ended_at = now() where job_id = %s", (outcome, self.job_id)
            )

    def cogs(self, *stems):
        """Publish a COG of each."""
        for stem in stems:
            ref = BlobRef.parse(f"default/cogs/{self.name}/{stem}.tif")
            folder = self.settings.home / "containers" / "cogs" / self.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{stem}.tif").write_bytes(b"a COG")
            self._publish(COGS, stem, self.name, CogOutputs(cog=str(ref), sha256="ab"))

    def tables(self, *stems):
        """Publish a table of each."""
        for stem in stems:
            label = f"vector.{self.name.replace('-', '_')}_{stem}"
            with psycopg.connect(self.settings.dsn("pipeline")) as conn:
                conn.execute(f"create table {label} (k int)")
                conn.execute(
                    "insert into geo.table_names values (%s, 'default', %s, %s, '', %s)",
                    (label.partition(".")[2], self.name, stem, self.name),
                )
            entry = TableEntry(table=label, rows=0, features=0, loaded=0, filtered=0, rejected={}, repaired={})
            self._publish(TABLES, stem, f"{self.name}-vector", TableOutputs(tables=(entry,)))

    def _publish(self, stage, key, collection, outputs: Outputs):
        stored = {**outputs.stored(), "stac_item": f"{collection}/{key}"}

        def record(conn):
            values = (self.job_id, stage, key)
            conn.execute(
                """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, outputs, run_id)
                   values (%s, %s, %s, 'raster', 'succeeded', 'f', %s, 'r')""",
                (*values, Jsonb(stored)),
            )
            conn.execute(
                """insert into geo.published (stac_item, job_id, stage, task_key, fingerprint, outputs)
                   values (%s, %s, %s, %s, 'f', %s)""",
                (stored["stac_item"], *values, Jsonb(stored)),
            )

        made = item(key, collection)
        pgstac.load_items(self.settings, collection, [made], guard=lambda conn: None, record=record)

    def files(self):
        folder = self.settings.home / "containers" / "cogs" / self.name
        return {path.stem for path in folder.glob("*.tif")}

    def items(self, suffix=""):
        return {i["id"] for i in pgstac.read_items(self.settings, f"{self.name}{suffix}")}

    def rows(self, query):
        with psycopg.connect(self.settings.dsn("pipeline")) as conn:
            return conn.execute(query, {"job": self.job_id, "name": self.name}).fetchall()

    def graves(self):
        """(item, whether its data are gone) of every tombstone of the collection."""
        return self.rows(
            "select item, data_gone_at is not null from geo.tombstones where collection = %(name)s order by tombstone_id"
        )


_NUMBERS = count()


@pytest.fixture
def published(settings, submitter):
    return lambda: Published(settings, submitter, f"unpublished{next(_NUMBERS)}")


def test_an_item_is_withdrawn_with_its_file_and_leaves_a_tombstone(settings, published):
    job = published()
    job.cogs("a", "b")
    done = unpublish_item(settings, f"{job.name}/a", by="cli")
    assert (done.items, done.files, done.left) == (1, 1, ())
    assert (job.items(), job.files()) == ({"b"}, {"b"})
    assert job.rows("select stac_item from geo.published where job_id = %(job)s") == [(f"{job.name}/b",)]
    assert job.rows("select task_key from geo.tasks where job_id = %(job)s and listed") == [("b",)]
    assert job.graves() == [("a", True)]


def test_unpublishing_again_changes_nothing_and_what_never_was_is_refused(settings, published):
    job = published()
    job.cogs("a")
    unpublish_item(settings, f"{job.name}/a", by="cli")
    again = unpublish_item(settings, f"{job.name}/a", by="cli")
    assert (again.items, again.files, again.left) == (0, 0, ())
    assert job.graves() == [("a", True)]
    for name in (f"{job.name}/b", "no-such-collection/a"):
        with pytest.raises(GeoAssetsError) as refused:
            unpublish_item(settings, name, by="cli")
        assert refused.value.code == "ITEM_NOT_FOUND"


def test_a_job_is_withdrawn_with_its_tables_and_files(settings, submitter, published):
    job = published()
    job.cogs("a", "b")
    job.tables("t")
    label = f"vector.{job.name.replace('-', '_')}_t"
    done = unpublish_job(settings, submitter.jobs, job.job_id[:12], by="api")
    assert (done.items, done.files, done.tables, done.left) == (3, 2, 1, ())
    assert (job.items(), job.items("-vector"), job.files()) == (set(), set(), set())
    assert job.rows(f"select to_regclass('{label}')") == [(None,)]
    assert job.rows("select table_name from geo.table_names where collection = %(name)s") == []
    bbox = pgstac.read_collection(settings, job.name)["extent"]["spatial"]["bbox"]
    assert bbox == [[-180, -90, 180, 90]], "the collection is renewed"


def test_a_job_at_work_is_not_unpublished(settings, submitter, published):
    job = published()
    job.cogs("a")
    job.end(None)
    with pytest.raises(GeoAssetsError) as refused:
        unpublish_job(settings, submitter.jobs, job.job_id, by="cli")
    assert refused.value.code == "STILL_AT_WORK"
    assert job.items() == {"a"}


def test_what_a_later_job_published_again_stays(settings, submitter, published):
    job = published()
    job.cogs("a", "b")
    (settings.home / "containers" / "later").mkdir(parents=True, exist_ok=True)
    later = submitter.submit(validate_parameters("ingest_container", {"container": "later"}), submitted_by="test")
    job.rows(f"update geo.published set job_id = '{later.job_id}' where stac_item = %(name)s || '/b' returning 1")
    unpublish_job(settings, submitter.jobs, job.job_id, by="cli")
    assert (job.items(), job.files()) == ({"b"}, {"b"})


def test_a_collection_is_deleted_with_all_of_its_items_only_if_that_is_asked(settings, published):
    job = published()
    job.cogs("a", "b")
    pgstac.load_items(  # by somebody else: the ledger does not know it
        settings, job.name, [item("by/hand", job.name)], guard=lambda conn: None, record=lambda conn: None
    )
    with pytest.raises(GeoAssetsError) as refused:
        remove_collection(settings, job.name, cascade=False, by="cli")
    assert refused.value.code == "COLLECTION_NOT_EMPTY"
    done = remove_collection(settings, job.name, cascade=True, by="cli")
    assert (done.items, done.files, done.collections, done.left) == (3, 2, (job.name,), ())
    with pytest.raises(GeoAssetsError, match="there is no collection"):
        pgstac.read_collection(settings, job.name)
    assert sorted(job.graves(), key=str) == [("a", True), ("b", True), ("by/hand", True), (None, True)]
    again = unpublish_collection(settings, job.name, by="cli")
    assert (again.items, again.collections) == (0, ())
    with pytest.raises(GeoAssetsError) as refused:
        unpublish_collection(settings, "never-was", by="cli")
    assert refused.value.code == "COLLECTION_NOT_FOUND"


def test_an_empty_collection_is_deleted_without_more(settings):
    pgstac.create_collection(settings, "empty-one", Described())
    assert remove_collection(settings, "empty-one", cascade=False, by="cli").collections == ("empty-one",)
    with pytest.raises(GeoAssetsError) as refused:
        remove_collection(settings, "empty-one", cascade=False, by="cli")
    assert refused.value.code == "COLLECTION_NOT_FOUND"


class Killed(BaseException):
    """As SIGKILL: nothing is tidied up after it."""


@pytest.mark.parametrize("step", ["sweep_blobs", "drop_abandoned", "settle"])
def test_after_a_kill_nobody_finds_an_item_and_the_next_call_deletes_the_rest(settings, published, monkeypatch, step):
    job = published()
    job.cogs("a")
    job.tables("t")

    def die(*args, **kwargs):
        raise Killed

    monkeypatch.setattr(tombstones if step == "settle" else module, step, die)
    for name in (f"{job.name}/a", f"{job.name}-vector/t"):
        with suppress(Killed):
            unpublish_item(settings, name, by="cli")
    monkeypatch.undo()
    assert (job.items(), job.items("-vector")) == (set(), set())
    for name in (f"{job.name}/a", f"{job.name}-vector/t"):
        assert unpublish_item(settings, name, by="cli").left == ()
    assert job.files() == set()
    assert job.rows("select count(*) from pg_tables where tablename like replace(%(name)s, '-', '_') || '%%'") == [(0,)]
    assert job.rows("select count(*) from geo.tombstones where data_gone_at is null and collection ^@ %(name)s") == [
        (0,)
    ]


#: A process that is killed where the files of an item are to be deleted.
_KILLED = """
import os, signal, sys
from geo_assets.settings import load_settings
from geo_assets.stages import unpublish
unpublish.sweep_blobs = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
unpublish.unpublish_item(load_settings(), sys.argv[1], by="cli")
"""


def test_a_process_that_is_killed_leaves_nothing_that_the_next_call_does_not_delete(settings, published):
    job = published()
    job.cogs("a", "b")
    place = {
        "HOME": settings.home,
        "PG_PORT": settings.pg_port,
        "PG_DATABASE": settings.pg_database,
        "PIPELINE_PASSWORD": "p",
        "READER_PASSWORD": "r",
    }
    env = {**os.environ, **{f"GEO_ASSETS_{name}": str(value) for name, value in place.items()}}
    command = [sys.executable, "-c", _KILLED, f"{job.name}/a"]
    killed = subprocess.run(command, env={**env, "GEO_ASSETS_MIGRATOR_PASSWORD": "m"}, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (job.items(), job.files(), job.graves()) == ({"b"}, {"a", "b"}, [("a", False)])
    assert unpublish_item(settings, f"{job.name}/a", by="cli").files == 1
    assert (job.items(), job.files(), job.graves()) == ({"b"}, {"b"}, [("a", True)])


def test_after_a_kill_the_janitor_deletes_what_is_left_and_accounts_for_it(settings, published, monkeypatch):
    job = published()
    job.cogs("a")

    def die(*args, **kwargs):
        raise Killed

    monkeypatch.setattr(module, "sweep_blobs", die)
    with pytest.raises(Killed):
        unpublish_item(settings, f"{job.name}/a", by="cli")
    monkeypatch.undo()
    assert (job.files(), job.graves()) == ({"a"}, [("a", False)])
    sweep_orphans(settings, grace=timedelta(0))
    assert (job.files(), job.graves()) == (set(), [("a", True)])


def test_a_table_on_which_something_depends_is_left_and_said(settings, published):
    job = published()
    job.tables("t")
    label = f"vector.{job.name.replace('-', '_')}_t"
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute(f"create view public.depends_on_it as select * from {label}")
    done = unpublish_item(settings, f"{job.name}-vector/t", by="cli")
    assert job.items("-vector") == set()
    assert done.tables == 0
    (left,) = done.left
    assert label in left
    assert "drop what depends on it" in left
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("drop view public.depends_on_it")
    assert unpublish_item(settings, f"{job.name}-vector/t", by="cli").tables == 1


def test_an_item_whose_file_another_one_leads_to_takes_nothing_with_it(settings, published):
    job = published()
    job.cogs("a", "b")
    job.rows(
        """update geo.published set outputs = outputs || jsonb_build_object('cog',
              (select outputs->>'cog' from geo.published where stac_item = %(name)s || '/a'))
            where stac_item = %(name)s || '/b' returning 1"""
    )
    unpublish_item(settings, f"{job.name}/a", by="cli")
    assert "a" in job.files()
    assert open_container(settings, "default", "cogs").head(f"{job.name}/a.tif") is not None


def test_a_name_with_a_percent_sign_and_an_apostrophe_is_a_name(settings, published):
    job = published()
    job.cogs("a'%s")
    assert unpublish_item(settings, f"{job.name}/a'%s", by="cli").items == 1
    assert job.graves() == [("a'%s", True)]
