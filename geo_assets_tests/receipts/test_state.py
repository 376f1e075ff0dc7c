"""Whatever was published, replaced and withdrawn: from the receipts alone comes the same ledger and the same catalogue."""

from datetime import timedelta
from itertools import count

import psycopg
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as options
from hypothesis import strategies as st
from psycopg.rows import dict_row

from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import COGS
from geo_assets.ledger import receipts as ledger
from geo_assets.ledger.models import PublishedTask
from geo_assets.ledger.published import Published
from geo_assets.ledger.table_names import release_name
from geo_assets.receipts import rebuild as module
from geo_assets.receipts.rebuild import rebuild
from geo_assets.receipts.stored import all_receipts
from geo_assets.receipts.verify import Scope, verify
from geo_assets.receipts.write import write_due
from geo_assets.stac import pgstac
from geo_assets.stac.collection import Described
from geo_assets.stages.unpublish import unpublish_collection, unpublish_item, unpublish_job
from geo_assets.storage.containers import open_container
from geo_assets_tests.receipts.builders import Job, clear, forget, green, state

pytestmark = pytest.mark.usefixtures("nothing_before")


def test_the_lost_database_is_made_again_and_verifies(settings, submitter, empty):
    job = Job(settings, submitter, "lost")
    job.publish("a")
    job.publish("b")
    job.end()
    assert write_due(settings) == 1
    lost = empty()
    done = rebuild(lost, "default/cogs")
    assert (done.jobs, done.items, done.missing) == (1, 2, ())
    assert state(lost) == state(settings)
    assert green(lost).items == 2
    again = rebuild(lost, "default/cogs")
    assert (again.jobs, again.left_alone, again.items) == (0, 1, 0)


def test_what_is_made_again_is_no_news(settings, submitter, empty):
    job = Job(settings, submitter, "old")
    job.publish("a")
    job.end()
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        died = "update geo.attempts set requested_by = 'janitor', attempt = 2 where job_id = %s"
        conn.execute(died, (job.job_id,))
    assert write_due(settings) == 1
    lost = empty()
    assert rebuild(lost, "default/cogs").jobs == 1
    with psycopg.connect(lost.dsn("pipeline"), autocommit=True) as conn:
        assert conn.execute("select kind from geo.alerts").fetchall() == []
        assert conn.execute("select what, outcome from geo.tallies").fetchall() == []
        assert conn.execute("select requested_by from geo.attempts").fetchall() == [("janitor",)]


def test_of_two_jobs_that_published_one_item_the_later_has_it(settings, submitter, empty):
    first, second = Job(settings, submitter, "taken"), Job(settings, submitter, "taken", 1)
    first.publish("a", "one")
    first.publish("b", "two")
    first.end()
    second.publish("a", "three")
    second.end()
    write_due(settings)
    assert verify(settings, Scope(job_id=first.job_id)).superseded == 1
    lost = empty()
    rebuild(lost, "default/cogs")
    assert state(lost) == state(settings)
    assert green(lost).items == 2


def test_a_receipt_that_was_written_before_the_item_was_replaced_does_not_bring_the_old_one_back(
    settings,
    submitter,
    empty,
):
    first = Job(settings, submitter, "stale")
    first.publish("a", "one")
    first.end()
    assert write_due(settings) == 1
    second = Job(settings, submitter, "stale", 1)
    second.publish("a", "two")
    second.end()
    assert write_due(settings, only=[second.job_id]) == 1
    lost = empty()
    done = rebuild(lost, "default/cogs")
    assert state(lost)["published"] == state(settings)["published"]
    assert (done.jobs, done.incomplete, done.missing) == (2, 0, ())  # nobody misses the first one's file
    again = rebuild(lost, "default/cogs")
    assert (again.jobs, again.left_alone, again.items) == (0, 2, 0)


def test_of_an_item_that_two_jobs_have_lost_the_later_misses_it(settings, submitter, empty):
    first = Job(settings, submitter, "gone")
    first.publish("a", "one")
    first.end()
    assert write_due(settings) == 1
    second = Job(settings, submitter, "gone", 1)
    file = second.publish("a", "two")
    second.end()
    assert write_due(settings, only=[second.job_id]) == 1
    file.unlink()
    lost = empty()
    for jobs in (1, 0):
        done = rebuild(lost, "default/cogs")
        assert (done.jobs, done.incomplete, [fault.code for fault in done.missing]) == (jobs, 1, ["BLOB_GONE"])


def test_what_was_unpublished_does_not_come_back(settings, submitter, empty):
    job = Job(settings, submitter, "buried")
    job.publish("a")
    job.publish("b")
    job.end()
    write_due(settings)
    unpublish_item(settings, "buried/a", by="test")
    assert write_due(settings) == 1
    lost = empty()
    assert rebuild(lost, "default/cogs").items == 1
    assert state(lost) == state(settings)
    assert green(lost).withdrawn == 1


def test_the_receipts_of_all_jobs_tell_what_one_withdrawal_changes_in_their_accounts(settings, submitter, empty):
    first, second = Job(settings, submitter, "both"), Job(settings, submitter, "both", 1)
    for job in (first, second):
        job.publish("a")
        job.publish("b")
        job.end()
    write_due(settings)
    unpublish_item(settings, "both/a", by="test")
    assert write_due(settings) == 2
    green(settings)
    lost = empty()
    rebuild(lost, "default/cogs")
    assert state(lost) == state(settings)
    assert green(lost).items == 1


@pytest.mark.parametrize("way", ["retired", "taken to another collection"])
def test_a_job_whose_account_another_job_changes_gets_a_new_receipt(settings, submitter, way):
    first, second = Job(settings, submitter, "left"), Job(settings, submitter, "left", 1)
    for job in (first, second):
        job.publish("a")
        job.end()
    write_due(settings)
    place = {"account": "default", "container": "left", "collection": "left"}
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        (row,) = conn.cursor(row_factory=dict_row).execute("select * from geo.published").fetchall()
        if way == "retired":
            entry = PublishedTask.model_validate({key: row[key] for key in PublishedTask.model_fields})
            Published.forget_source(conn, second.job_id, entry, others=[first.job_id])
        else:
            Published.taken_elsewhere(conn, ["left/a"], COGS, **place)
    assert first.job_id in ledger_due(settings)


def test_which_bands_a_withdrawn_collection_took_is_decided_anew_after_a_rebuild_too(settings, submitter, empty):
    job = Job(settings, submitter, "anew")
    job.publish("a")
    job.end()
    write_due(settings)
    unpublish_item(settings, "anew/a", by="test")
    assert write_due(settings) == 1
    unpublish_collection(settings, "anew", by="test")
    assert write_due(settings) == 1
    assert state(settings)["raster_collections"] == [{"asked": "anew", "bands": "visual", "collection": "anew-visual"}]
    lost = empty()
    rebuild(lost, "default/cogs")
    assert state(lost) == state(settings)


def test_a_name_that_another_source_took_after_its_table_was_dropped_is_that_ones_after_a_rebuild_too(
    settings, submitter, empty
):
    jobs = [Job(settings, submitter, name) for name in ("had", "has")]
    take = "insert into geo.table_names values ('roads', 'default', %(name)s, 'roads.shp', '', %(name)s)"
    jobs[0].execute(take, name="had")
    for job in jobs:
        job.publish("a")
        job.end()
    assert write_due(settings) == 2
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        release_name(conn, "roads")
    jobs[1].execute(take, name="has")
    jobs[1].execute("insert into geo.receipt_changes (job_id) values (%(job)s)")
    assert write_due(settings) == 2
    lost = empty()
    assert rebuild(lost, "default/cogs").missing == ()
    assert state(lost) == state(settings)


def ledger_due(settings):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        return ledger.due(conn)


def test_an_item_whose_file_is_gone_is_left_out_and_named(settings, submitter, empty):
    job = Job(settings, submitter, "gone")
    job.publish("a").unlink()
    job.publish("b", "another")
    job.end()
    write_due(settings)
    lost = empty()
    done = rebuild(lost, "default/cogs")
    assert [(fault.code, fault.what) for fault in done.missing] == [("BLOB_GONE", "gone/a")]
    assert [i["id"] for i in pgstac.read_items(lost, "gone")] == ["b"]
    assert [fault.code for fault in verify(lost, Scope()).faults] == ["ITEM_NOT_PUBLISHED"]


def test_a_rebuild_that_is_killed_goes_on_where_it_was(settings, submitter, empty, monkeypatch):
    monkeypatch.setattr(module, "_ITEMS", 2)
    jobs = [Job(settings, submitter, "killed", number) for number in range(2)]
    for number, job in enumerate(jobs):
        for key in "abc":
            job.publish(f"{key}{number}", f"{key}{number}")
        job.end()
    pgstac.refresh_collection(settings, "killed")
    write_due(settings)
    lost = empty()
    for dies_at in (1, 2):
        calls, real = count(1), ledger.publish_again

        def publish_again(conn, rows, calls=calls, real=real, dies_at=dies_at):
            if next(calls) == dies_at:
                raise KeyboardInterrupt
            real(conn, rows)

        monkeypatch.setattr(ledger, "publish_again", publish_again)
        with pytest.raises(KeyboardInterrupt):
            rebuild(lost, "default/cogs")
        monkeypatch.setattr(ledger, "publish_again", real)
        assert write_due(lost) == 0  # a job that is being made again gets no receipt of the half
    rebuild(lost, "default/cogs")
    assert state(lost) == state(settings)
    assert green(lost).items == 6


def test_jobs_of_this_database_are_left_alone(settings, submitter, empty):
    job = Job(settings, submitter, "merged")
    job.publish("a")
    job.end()
    write_due(settings)
    unpublish_item(settings, "merged/a", by="test")
    before = state(settings)
    done = rebuild(settings, "default/cogs")  # its newest receipt still has the item
    assert (done.jobs, done.left_alone, done.items) == (0, 1, 0)
    assert state(settings) == before


def test_receipts_are_numbered_and_the_last_three_are_kept(settings, submitter):
    job = Job(settings, submitter, "numbered")
    job.publish("x")
    job.end()
    folder = settings.home / "containers" / "cogs" / "_receipts" / job.job_id
    for number in range(1, 6):
        job.execute("insert into geo.receipt_changes (job_id) values (%(job)s)")
        assert write_due(settings) == 1
        assert sorted(int(f.name[:6]) for f in folder.iterdir()) == list(range(max(1, number - 2), number + 1))
    assert write_due(settings) == 0  # nothing has changed
    assert list(all_receipts(open_container(settings, "default", "cogs"))) == [job.job_id]


def test_an_outage_leaves_the_receipt_due(settings, submitter):
    job = Job(settings, submitter, "outage")
    job.publish("a")
    job.end()
    folder = settings.home / "containers" / "cogs"
    away = folder.with_name("away")
    folder.rename(away)
    folder.write_text("in its place")
    try:
        assert write_due(settings) == 0
    finally:
        folder.unlink()
        away.rename(folder)
    assert verify(settings, Scope(job_id=job.job_id)).faults == ()  # it is due, not missing
    assert write_due(settings) == 1


def test_a_container_without_receipts_is_refused(settings):
    (settings.home / "containers" / "nothing").mkdir(exist_ok=True)
    with pytest.raises(GeoAssetsError) as refused:
        rebuild(settings, "default/nothing")
    assert refused.value.code == "NO_RECEIPTS"


def test_what_is_said_of_a_collection_later_is_in_the_next_receipt(settings, submitter, empty):
    job = Job(settings, submitter, "described")
    job.publish("a")
    job.end()
    write_due(settings)
    pgstac.refresh_collection(settings, "described", Described(title="Said later", license="CC0-1.0"))
    assert write_due(settings) == 1
    lost = empty()
    rebuild(lost, "default/cogs")
    assert pgstac.read_collection(lost, "described")["title"] == "Said later"
    assert state(lost) == state(settings)


@pytest.fixture(scope="module")
def lost(empty):
    return empty()


def acts(most):
    return st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.integers(0, 2), st.sampled_from("abcd"), st.sampled_from(["one", "two"])),
            st.tuples(st.just("unpublish item"), st.sampled_from("abcd")),
            st.tuples(st.just("unpublish job"), st.integers(0, 2)),
            st.tuples(st.just("unpublish collection")),
            st.tuples(st.just("write")),
        ),
        max_size=most,
    )


def act(settings, submitter, jobs, what, *of):
    if what == "publish":
        jobs[of[0]].publish(of[1], of[2])
    elif what == "write":
        write_due(settings)
    else:
        try:
            if what == "unpublish item":
                unpublish_item(settings, f"random/{of[0]}", by="test")
            elif what == "unpublish job":
                jobs[of[0]].end()
                unpublish_job(settings, submitter.jobs, jobs[of[0]].job_id, by="test")
            else:
                unpublish_collection(settings, "random", by="test")
        except GeoAssetsError as error:
            assert error.code in {"ITEM_NOT_FOUND", "COLLECTION_NOT_FOUND", "STILL_AT_WORK"}  # noqa: PT017


def comes_back(settings, submitter, lost, acts):
    clear(settings)
    forget(lost)
    jobs = [Job(settings, submitter, "random", number) for number in range(3)]
    for job in jobs:
        job.publish("z", "first")
        job.end()
    for what, *of in acts:
        if what == "publish":
            jobs[of[0]].begin()
        act(settings, submitter, jobs, what, *of)
        for job in jobs:
            job.end()
    write_due(settings)
    rebuild(lost, "default/cogs")
    assert state(lost) == state(settings)
    green(settings)
    green(lost)


def few(examples):
    return options(
        max_examples=examples,
        deadline=timedelta(seconds=60),
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@few(4)
@example(acts=[("publish", 0, "a", "one"), ("publish", 1, "a", "two"), ("write",), ("unpublish item", "a")])
@example(acts=[("unpublish job", 2), ("write",), ("unpublish collection",)])
@given(acts=acts(8))
def test_the_state_that_random_acts_lead_to_is_what_the_receipts_bring_back(settings, submitter, lost, acts):
    comes_back(settings, submitter, lost, acts)


@pytest.mark.slow
@few(40)
@given(acts=acts(25))
def test_the_state_that_many_random_acts_lead_to_is_what_the_receipts_bring_back(settings, submitter, lost, acts):
    comes_back(settings, submitter, lost, acts)
