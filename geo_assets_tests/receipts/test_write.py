"""Which jobs get a new receipt, and when; nobody waits for one that is made or read."""

import json
import threading
import time

import psycopg
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from geo_assets.accounts import AzureAccount
from geo_assets.api.app import create_app
from geo_assets.cli import app as command_line
from geo_assets.database.connections import connect
from geo_assets.file_stages import COGS
from geo_assets.ledger import receipts as ledger
from geo_assets.ledger.models import PublishedTask
from geo_assets.ledger.published import Published
from geo_assets.receipts.stored import newest_receipt
from geo_assets.receipts.write import print_receipt, receipt_lines, write_due
from geo_assets.stac import pgstac
from geo_assets.stages.items_file import refresh_items_file
from geo_assets.stages.unpublish import unpublish_item
from geo_assets.storage.containers import open_container
from geo_assets.storage.sources import is_taken
from geo_assets_tests.receipts.builders import Job, green

pytestmark = pytest.mark.usefixtures("nothing_before")


def two_of_one_item(settings, submitter, name):
    """Two ended jobs of one place that made the same item, which is the second's; their receipts are written."""
    first, second = Job(settings, submitter, name), Job(settings, submitter, name, 1)
    first.publish("a", "one")
    first.end()
    second.publish("a", "two")
    second.end()
    assert write_due(settings) == 2
    return first, second


def unpublished(settings, name, first, second):
    unpublish_item(settings, f"{name}/a", by="test")


def retired(settings, name, first, second):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        item, outputs = conn.execute("delete from geo.published returning stac_item, outputs").fetchone()
        pgstac.delete_items(conn, name, ["a"])
        entry = PublishedTask.model_validate(
            {
                "stac_item": item,
                "job_id": second.job_id,
                "stage": COGS,
                "task_key": "a",
                "outputs": outputs,
                "at": "2026-01-01T00:00:00Z",
            }
        )
        Published.forget_source(conn, second.job_id, entry, others=[first.job_id, second.job_id])


def taken_by_another_collection(settings, name, first, second):
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        Published.taken_elsewhere(conn, [f"{name}/a"], COGS, account="default", container=name, collection=name)
        pgstac.delete_items(conn, name, ["a"])


@pytest.mark.parametrize("gone", [unpublished, retired, taken_by_another_collection])
def test_what_takes_a_file_out_of_the_account_of_other_jobs_too_is_in_all_their_receipts(settings, submitter, gone):
    name = gone.__name__.replace("_", "-")
    jobs = two_of_one_item(settings, submitter, name)
    gone(settings, name, *jobs)
    assert write_due(settings) == 2
    assert green(settings).items == 0


def test_a_job_whose_items_another_is_replacing_waits_for_its_end_or_ten_minutes(settings, submitter):
    first, second = two_of_one_item(settings, submitter, "waiting")
    first.execute("insert into geo.receipt_changes (job_id) values (%(job)s)")
    second.begin()
    assert write_due(settings) == 0
    assert write_due(settings, only=[first.job_id]) == 1  # it ends itself
    first.execute("insert into geo.receipt_changes (job_id, at) values (%(job)s, now() - interval '11 minutes')")
    assert write_due(settings) == 1
    first.execute("insert into geo.receipt_changes (job_id) values (%(job)s)")
    elsewhere = Job(settings, submitter, "working-elsewhere")
    second.end()
    assert write_due(settings) == 1
    assert elsewhere.job_id


def test_a_receipt_is_made_and_read_without_holding_up_those_who_change_the_catalogue(
    settings, submitter, cluster, monkeypatch
):
    monkeypatch.setattr(ledger, "_PAGE", 1)
    job = Job(settings, submitter, "not-held-up")
    for key in "abc":
        job.publish(key)
    job.end()

    def lines():
        with connect(settings) as conn:
            yield from receipt_lines(conn, job.job_id)

    for reading in (lines(), print_receipt(settings, job.job_id)):
        with psycopg.connect(cluster.dsn(), dbname=settings.pg_database) as conn:
            items = 0
            for line in reading:
                conn.execute("lock table pgstac.items, pgstac.collections in access exclusive mode nowait")
                conn.rollback()
                items += '"item":{' in line
        assert items == 3


def test_an_item_that_is_replaced_while_a_receipt_is_read_is_left_to_the_next_one(settings, submitter, tmp_path):
    job = Job(settings, submitter, "meanwhile")
    for key in "ab":
        job.publish(key)
    job.end()
    write_due(settings)
    with connect(settings) as conn:
        lines = receipt_lines(conn, job.job_id)
        told = []
        for line in lines:
            told.append(line)
            if '"tombstones": [' in line:
                job.begin()
                job.publish("a", "meanwhile")
                job.end()
    document = json.loads("".join(told))
    assert [row["task_key"] for row in document["published"]] == ["b"]
    assert write_due(settings) == 1


def test_a_job_whose_receipt_cannot_be_written_keeps_no_other_job_waiting(settings, submitter):
    jobs = [Job(settings, submitter, "refused", number) for number in range(2)]
    for number, job in enumerate(jobs):
        job.publish(f"a{number}")
        job.end()
    place = settings.home / "containers" / "cogs" / "_receipts" / jobs[0].job_id
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file where a folder should be")
    assert write_due(settings) == 1
    assert len(list(place.with_name(jobs[1].job_id).iterdir())) == 1
    place.unlink()
    assert write_due(settings) == 1


def test_pages_of_what_is_published_are_of_the_collections_that_are_asked_for(settings, submitter, monkeypatch):
    monkeypatch.setattr(ledger, "_PAGE", 2)
    for name in ("paged", "paged-more", "paged0"):
        job = Job(settings, submitter, name)
        for key in "abc":
            job.publish(key)
        job.end()
    with connect(settings) as conn:

        def names(**of):
            return [row["stac_item"] for page in ledger.published(conn, **of) for row in page]

        assert names(collections=["paged"]) == ["paged/a", "paged/b", "paged/c"]
        assert names(collections=["paged0", "nothing", "paged"]) == [
            f"{c}/{k}" for c in ("paged0", "paged") for k in "abc"
        ]
        assert names(job_id=job.job_id) == ["paged0/a", "paged0/b", "paged0/c"]
        assert len(names()) == len(set(names())) == 9
        assert names(job_id=job.job_id, collections=["paged"]) == []


def test_a_container_of_cogs_that_is_ingested_has_no_sources_among_receipts_and_lists_of_items(settings, submitter):
    job = Job(settings, submitter, "own-cogs")
    job.publish("a")
    job.end()
    write_due(settings)
    assert refresh_items_file(settings, "own-cogs", run="test")
    cogs = settings.home / "containers" / "cogs"
    there = {file.relative_to(cogs).as_posix() for file in cogs.rglob("*.*") if file.is_file()}
    kept = {path for path in there if path.startswith(("_receipts/", "_collections/"))}
    assert len(kept) == 2
    assert {path for path in there if not is_taken(path, (), ())} == kept
    for of_a_person in (
        "_receipts/x.json",
        f"in/{min(kept)}",
        "_collections/items.parquet",
        "_receipts/a/000001-b.tif",
    ):
        assert is_taken(of_a_person, (), ())


@pytest.mark.parametrize("door", ["http", "command"])
def test_whoever_unpublishes_waits_only_some_seconds_for_the_receipts_of_others(settings, submitter, monkeypatch, door):
    for module in ("receipts.write", "api.stac"):
        monkeypatch.setattr(f"geo_assets.{module}.AT_A_DOOR", 0.0)
    monkeypatch.setattr("geo_assets.settings.load_settings", lambda: settings)
    jobs = [Job(settings, submitter, f"due-{door}", number) for number in range(3)]
    for number, job in enumerate(jobs):
        job.publish(f"a{number}")
        job.end()
    if door == "http":
        with TestClient(create_app(settings)) as client:
            assert client.post("/api/stac/unpublish", json={"item": f"due-{door}/a0"}).json()["items"] == 1
    else:
        assert CliRunner().invoke(command_line, ["unpublish", "--item", f"due-{door}/a0"]).exit_code == 0
    assert write_due(settings, seconds=0.0) == 0
    assert write_due(settings) == 3  # what the janitor does


@pytest.mark.faults
def test_a_receipt_that_takes_longer_to_send_than_a_person_waits_is_written(settings, submitter, azurite, monkeypatch):
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    accounts = {"azure": AzureAccount.model_validate(azurite.account().settings)}
    azure = type(settings)(
        **{**given, "accounts": accounts, "output_account": "azure", "cog_container": f"slow-{time.monotonic_ns()}"}
    )
    job = Job(settings, submitter, "sent-slowly")
    job.publish("a")
    job.end()
    pending_changes = ledger.pending_changes

    def slow_from_here(conn, job_id):
        azurite.freeze()
        threading.Timer(10, azurite.thaw).start()
        return pending_changes(conn, job_id)

    monkeypatch.setattr(ledger, "pending_changes", slow_from_here)
    assert write_due(azure) == 1
    assert newest_receipt(open_container(azure, "azure", azure.cog_container), job.job_id)
