"""A backup of the database was restored, and receipts beside the COGs are newer: nothing they name is lost."""

from copy import copy

import psycopg
import pytest

from geo_assets import __version__
from geo_assets.receipts.newer import why_orphans_stay
from geo_assets.receipts.rebuild import rebuild
from geo_assets.receipts.verify import Scope, verify
from geo_assets.receipts.write import write_due
from geo_assets.stac import pgstac
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.unpublish import unpublish_item
from geo_assets_tests.receipts.builders import Job, green, receipts, state

pytestmark = pytest.mark.usefixtures("nothing_before")


@pytest.fixture
def delivered(settings, submitter):
    """A job that has published a.tif, with its receipt."""
    job = Job(settings, submitter, "daily")
    job.publish("a")
    job.end()
    assert write_due(settings) == 1
    return job


@pytest.fixture
def older(delivered, empty):
    """The database as it was then, as a restored backup has it."""
    made = empty()
    rebuild(made, "default/cogs")
    execute(made, "delete from geo.rebuilds", "delete from geo.receipt_changes")
    return made


def execute(settings, *statements, **values):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        for statement in statements:
            conn.execute(statement, values)


def deliver(job, *keys, attempt=2):
    """The next delivery of a job."""
    job.run = f"run-{attempt}-of-{job.settings.home.name}-{keys}"
    job.execute(
        f"insert into geo.attempts (job_id, attempt, requested_by, run_id) values (%(job)s, {attempt}, 'test', %(run)s)"
    )
    job.begin()
    for key in keys:
        job.publish(key, f"a COG of {key}")
    job.end()
    pgstac.refresh_collection(job.settings, job.name)


def test_what_an_older_backup_does_not_know_is_taken_up_from_the_receipts(settings, delivered, older):
    assert why_orphans_stay(older) == ""
    deliver(delivered, "a", "c")
    unpublish_item(settings, "daily/c", by="test")
    deliver(delivered, "d", attempt=3)
    refresh_items_file(settings, "daily", run="test")
    write_due(settings)
    newest = receipts(settings, delivered)[-1]
    assert f"{newest.name} tells of an attempt that this database does not know" in why_orphans_stay(older)
    done = rebuild(older, "default/cogs")
    assert (done.jobs, done.items, done.left_alone, done.missing) == (1, 2, 0, ())
    assert state(older) == state(settings)
    assert why_orphans_stay(older) == ""
    green(older)
    assert rebuild(older, "default/cogs").left_alone == 1


def test_a_restored_database_that_went_on_by_itself_takes_up_what_it_has_not_made_since(settings, delivered, older):
    deliver(delivered, "b", "c")
    write_due(settings)
    again = copy(delivered)
    again.settings = older
    deliver(again, "b", attempt=3)
    write_due(older)
    mine = ledger_rows(older)
    assert "tells of an attempt" in why_orphans_stay(older), "its own receipt is the newest, and the other is there"
    done = rebuild(older, "default/cogs")
    assert (done.jobs, done.items, done.missing) == (1, 1, ())
    now = ledger_rows(older)
    assert {key: now[key] for key in mine} == mine
    assert now.keys() - mine.keys() == {"c"}
    assert why_orphans_stay(older) == ""
    green(older)


def ledger_rows(settings):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        return dict(conn.execute("select task_key, at from geo.published").fetchall())


def test_a_receipt_that_tells_of_more_than_the_ledger_is_not_replaced_by_later_ones(settings, delivered, older):
    deliver(delivered, "c")
    write_due(settings)
    newest = receipts(settings, delivered)[-1]
    again = copy(delivered)
    again.settings = older
    for attempt in range(3, 8):
        deliver(again, "b", attempt=attempt)
        write_due(older)
    assert len(receipts(settings, delivered)) == 4
    assert newest.exists()
    assert rebuild(older, "default/cogs").items == 1
    for attempt in (8, 9):
        deliver(again, "b", attempt=attempt)
        write_due(older)
    assert not newest.exists(), "it was taken up"
    assert len(receipts(settings, delivered)) == 3


def test_a_job_at_work_takes_up_its_newer_receipt_when_it_has_ended(settings, delivered, older):
    deliver(delivered, "c")
    write_due(settings)
    execute(older, "insert into geo.attempts (job_id, attempt, requested_by) select job_id, 9, 'test' from geo.jobs")
    before = state(older)
    done = rebuild(older, "default/cogs")
    assert [(fault.code, fault.what) for fault in done.missing] == [("STILL_AT_WORK", delivered.job_id)]
    assert state(older) == before
    execute(older, "update geo.attempts set outcome = 'completed', ended_at = now() where attempt = 9")
    assert rebuild(older, "default/cogs").items == 1


def test_while_a_rebuild_is_open_nothing_counts_as_unknown_to_all(settings, delivered, empty):
    deliver(delivered, "c")
    write_due(settings)
    newest = receipts(settings, delivered)[-1]
    content = newest.read_bytes()
    newest.write_bytes(content[:100])
    lost = empty()
    assert rebuild(lost, "default/cogs").incomplete == 1
    assert f"of 1 job not all is made again from the receipts ({delivered.job_id[:12]})" in why_orphans_stay(lost)
    newest.write_bytes(content)  # it is found again
    done = rebuild(lost, "default/cogs")
    assert (done.incomplete, done.items, done.missing) == (0, 1, ())
    assert state(lost) == state(settings)
    assert why_orphans_stay(lost) == ""


def test_a_receipt_that_cannot_be_read_may_tell_of_what_nobody_else_knows(settings, delivered):
    assert why_orphans_stay(settings) == ""
    (receipt,) = receipts(settings, delivered)
    receipt.write_text(receipt.read_text().replace('"version": 1', '"version": 2', 1))
    assert f"{receipt.name} is of geo_assets {__version__}" in why_orphans_stay(settings)
    assert [fault.code for fault in verify(settings, Scope()).faults] == ["RECEIPT_OF_NEWER_RELEASE"]
    receipt.write_bytes(b"garbage")
    assert f"{receipt.name} cannot be read" in why_orphans_stay(settings)
