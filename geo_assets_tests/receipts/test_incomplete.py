"""What is missing, damaged or at work: a rebuild that came too early loses nothing, and nothing is called a fault."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import TABLES
from geo_assets.ledger import receipts as ledger
from geo_assets.ledger.ledger import Ledger
from geo_assets.outcomes import TableEntry, TableOutputs
from geo_assets.receipts import rebuild as module
from geo_assets.receipts.rebuild import rebuild
from geo_assets.receipts.verify import Scope, verify
from geo_assets.receipts.write import write_due, write_now
from geo_assets.stac import pgstac
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.unpublish import unpublish_item
from geo_assets_tests.receipts.builders import Job, green, receipts, state

pytestmark = pytest.mark.usefixtures("nothing_before")


def test_what_is_missing_now_is_no_loss_and_comes_with_the_next_rebuild(settings, submitter, empty):
    job, other = Job(settings, submitter, "later"), Job(settings, submitter, "another")
    file = job.publish("a")
    job.publish("b", "another")
    other.publish("c")
    for each in (job, other):
        each.end()
        pgstac.refresh_collection(settings, each.name)
    write_due(settings)
    before, away = receipts(settings, job), file.rename(settings.home / "away.tif")
    lost = empty()
    done = rebuild(lost, "default/cogs")
    assert (done.jobs, done.incomplete, done.items) == (1, 1, 2)
    assert write_due(lost) == 0
    with pytest.raises(GeoAssetsError) as refused:
        write_now(lost, job.job_id)
    assert refused.value.code == "STILL_AT_WORK"
    assert receipts(settings, job) == before
    away.rename(file)
    done = rebuild(lost, "default/cogs")
    assert (done.jobs, done.incomplete, done.items, done.missing) == (1, 0, 1, ())
    assert state(lost) == state(settings)
    green(lost)
    assert len(receipts(settings, job)) == len(before) + 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data.replace(b"a COG", b"b COG"), lambda _: b""]
)
def test_of_a_damaged_receipt_the_one_before_it_is_taken_and_other_jobs_are_not_held_up(
    settings, submitter, empty, damage
):
    job, other = Job(settings, submitter, "damaged"), Job(settings, submitter, "sound")
    for each in (job, other):
        each.publish("a")
        each.end()
    write_due(settings)
    job.execute("insert into geo.receipt_changes (job_id) values (%(job)s)")
    write_due(settings)
    older, newest = receipts(settings, job)
    newest.write_bytes(damage(newest.read_bytes()))
    assert [fault.code for fault in verify(settings, Scope(job_id=job.job_id)).faults] == ["RECEIPT_UNREADABLE"]
    lost = empty()
    for _ in range(2):
        done = rebuild(lost, "default/cogs")
        assert [(f.code, f.what.rpartition("/")[2]) for f in done.missing] == [("RECEIPT_UNREADABLE", newest.name)]
        assert done.incomplete == 1
        assert state(lost) == state(settings)
        assert receipts(settings, job) == [older, newest]
    for file in (older, newest):
        file.write_bytes(b"")
    lost = empty()
    done = rebuild(lost, "default/cogs")
    assert (done.jobs, done.incomplete, done.items) == (1, 1, 1)
    assert {fault.code for fault in done.missing} == {"RECEIPT_UNREADABLE"}


def test_the_advice_for_what_is_missing_names_its_job_and_makes_nothing_again_that_may_have_been_withdrawn(
    settings, submitter, empty
):
    job = Job(settings, submitter, "advised")
    job.publish("a").unlink()
    job.publish("b", "another")
    job.end()
    write_due(settings)
    (missing,) = rebuild(empty(), "default/cogs").missing
    assert missing.code == "BLOB_GONE"
    assert missing.remedy.endswith(f"geo-assets retry {job.job_id[:12]} --force")
    unpublish_item(settings, "advised/b", by="test")
    write_due(settings)
    newest = receipts(settings, job)[-1]
    newest.write_bytes(b"damaged")
    told = {fault.what: fault.remedy for fault in rebuild(empty(), "default/cogs").missing if fault.code == "BLOB_GONE"}
    assert told.keys() == {"advised/a", "advised/b"}
    assert told["advised/b"].startswith(
        "restore the newer receipt of its job, which may tell that the item was withdrawn"
    )


def test_a_table_name_that_another_source_has_holds_up_its_own_job_only(settings, submitter, empty):
    job, other = Job(settings, submitter, "clash"), Job(settings, submitter, "peace")
    name = "insert into geo.table_names values ('clash_t', 'default', 'clash', %(path)s, '', 'clash')"
    job.execute(name, path="a.gpkg")
    for each in (job, other):
        each.publish("a")
        each.end()
    write_due(settings)
    lost = empty()
    with psycopg.connect(lost.dsn("pipeline")) as conn:
        conn.execute(name, {"path": "b.gpkg"})
    done = rebuild(lost, "default/cogs")
    assert [(fault.code, fault.what) for fault in done.missing] == [("REBUILD_CONFLICT", job.job_id)]
    assert (done.jobs, done.incomplete, done.items) == (1, 1, 1)
    with psycopg.connect(lost.dsn("pipeline")) as conn:
        assert conn.execute("select job_id from geo.jobs").fetchall() == [(other.job_id,)]
        conn.execute("delete from geo.table_names")
    job.execute("delete from geo.table_names")
    assert rebuild(lost, "default/cogs").jobs == 1


def test_a_store_that_does_not_answer_stops_a_rebuild_and_a_bad_source_does_not(
    settings, submitter, empty, monkeypatch
):
    job = Job(settings, submitter, "tabular")
    job.publish("a")
    job.publish("b")
    table = TableEntry(table="vector.t", rows=1, features=1, loaded=1, filtered=0, rejected={}, repaired={})
    job.execute(
        "update geo.published set stage = %(stage)s, outputs = %(outputs)s where task_key = 'a'",
        stage=TABLES,
        outputs=Jsonb(TableOutputs(stac_item="tabular/a", tables=(table,)).stored()),
    )
    job.end()
    pgstac.refresh_collection(settings, job.name)
    write_due(settings)
    lost = empty()

    def fails_with(code):
        def load(*_):
            raise GeoAssetsError(code, "it is so")

        monkeypatch.setattr(module._Work, "_load_tables", load)

    fails_with("STORAGE_UNAVAILABLE")
    with pytest.raises(GeoAssetsError) as stopped:
        rebuild(lost, "default/cogs")
    assert stopped.value.code == "STORAGE_UNAVAILABLE"
    fails_with("CONTAINER_NOT_FOUND")
    done = rebuild(lost, "default/cogs")
    assert (done.incomplete, done.items, [fault.what for fault in done.missing]) == (1, 1, ["tabular/a"])
    fails_with("SOURCE_CHANGED")  # if it is asked for once more
    monkeypatch.setattr(ledger, "loaded", lambda *_: 2)
    assert [fault.code for fault in rebuild(lost, "default/cogs").missing] == ["ROWS_CHANGED"]
    monkeypatch.setattr(ledger, "loaded", lambda *_: 1)
    assert (rebuild(lost, "default/cogs").items, state(lost)) == (1, state(settings))


def test_a_job_that_runs_again_is_not_held_up_by_what_a_rebuild_missed(settings, submitter, empty):
    job = Job(settings, submitter, "resumed")
    job.publish("a").unlink()
    job.publish("b", "another")
    job.end()
    write_due(settings)
    lost = empty()
    assert rebuild(lost, "default/cogs").incomplete == 1
    with psycopg.connect(lost.dsn("pipeline")) as conn:
        conn.execute("insert into geo.attempts (job_id, attempt, requested_by) values (%s, 9, 'test')", (job.job_id,))
        (key,) = conn.execute("select partition_key from geo.jobs").fetchone()
    with Ledger(lost) as other:
        other.jobs.claim(key, "a run", 9)
    assert verify(lost, Scope(job_id=job.job_id)).faults == ()  # it is at work
    assert rebuild(lost, "default/cogs").left_alone == 1
    with psycopg.connect(lost.dsn("pipeline")) as conn:
        conn.execute("update geo.attempts set outcome = 'completed', ended_at = now() where attempt = 9")
    assert write_due(lost) == 1


def test_the_file_of_a_collections_items_is_verified_and_made_again(settings, submitter, empty):
    job = Job(settings, submitter, "whole")
    job.publish("a")
    refresh_items_file(settings, "whole", run="test")
    job.end()
    write_due(settings)
    (file,) = (settings.home / "containers" / "cogs" / "_collections").rglob("items.parquet")
    content = file.read_bytes()
    lost = empty()
    rebuild(lost, "default/cogs")
    assert state(lost) == state(settings)
    for each in (settings, lost):
        with psycopg.connect(each.dsn("pipeline")) as conn:
            ((blob,),) = conn.execute("select blob from geo.collection_files").fetchall()
        assert blob.endswith(str(file.relative_to(settings.home / "containers")))
        assert green(each).files == 2
        file.write_bytes(content[:-1])
        assert [(f.code, f.what) for f in verify(each, Scope(collections=("whole",))).faults] == [
            ("BLOB_CHANGED", blob)
        ]
        file.unlink()
        assert [(f.code, f.what) for f in verify(each, Scope()).faults] == [("BLOB_GONE", blob)]
        file.write_bytes(content)


def test_a_job_at_work_has_no_faults(settings, submitter):
    job = Job(settings, submitter, "busy")
    assert verify(settings, Scope()).faults == ()  # it has no receipt yet
    job.publish("a")
    job.end()
    write_due(settings)
    job.execute(
        "insert into geo.attempts (job_id, attempt, requested_by) values (%(job)s, 2, 'test')",
        "update geo.tasks set listed = false where job_id = %(job)s",
    )
    assert verify(settings, Scope()).faults == ()
    job.end()
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("delete from geo.receipt_changes")
    assert [fault.code for fault in verify(settings, Scope()).faults] == ["ACCOUNT_CHANGED"]


def test_what_is_published_again_while_it_is_verified_is_no_fault(settings, submitter, monkeypatch):
    job = Job(settings, submitter, "moving")
    job.publish("a", "one")
    job.publish("b", "one b")
    real = ledger.item_hashes

    def publish_meanwhile(conn, names):
        job.publish("a", "two")
        unpublish_item(settings, "moving/b", by="test")
        return real(conn, names)

    monkeypatch.setattr(ledger, "item_hashes", publish_meanwhile)
    done = verify(settings, Scope())
    assert (done.items, done.faults) == (2, ())
