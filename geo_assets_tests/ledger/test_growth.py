"""What publishes a batch costs in proportion to its items, also where the planner has no statistics."""

import os
from pathlib import Path

import pytest

from geo_assets.database.connections import connect
from geo_assets.file_stages import COGS
from geo_assets.ledger import receipts
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import Outputs
from geo_assets.parameters import validate_parameters
from geo_assets.stac.pgstac import anybody, load_items
from geo_assets_tests.stac.workers import like_ours

#: Items of a small batch, and of one four times as large.
FEW, MANY = 400, 1600

#: Seconds that the kernel counts at a time.
TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_of(conn):
    """CPU seconds of the server's process that serves a connection."""
    ((pid,),) = conn.execute("select pg_backend_pid()").fetchall()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def measured(conn, work):
    before = cpu_of(conn)
    work(conn)
    return cpu_of(conn) - before


def batch(settings, submitter, name, count):
    """Publish a batch as a job does, then again as a rebuild does; returns the seconds of both."""
    (settings.home / "containers" / name).mkdir(parents=True)
    job = submitter.submit(validate_parameters("ingest_container", {"container": name}), submitted_by="test")
    submitter.jobs.claim(job.partition_key, name, job.attempt)
    items = [like_ours(name, f"i{n}", n) for n in range(count)]
    planned = (PlannedTask(task_key=item["id"], kind="raster", fingerprint="f") for item in items)
    submitter.tasks.plan(job.job_id, name, COGS, planned)
    done = [(COGS, item["id"], Outputs(stac_item=f"{name}/{item['id']}")) for item in items]
    contents = {f"{name}/{item['id']}": "content" for item in items}
    with Ledger(settings) as ledger:
        published = load_items(
            settings,
            name,
            items,
            guard=anybody,
            record=lambda conn: measured(
                conn, lambda conn: ledger.published.publish_many(conn, job.job_id, name, done, contents)
            ),
        )
    with connect(settings) as conn:
        rows = [row for page in receipts.published(conn, job_id=job.job_id) for row in page]
    anew = [{**row, "stac_item": row["stac_item"].replace(name, f"{name}-again")} for row in rows]
    again = load_items(
        settings,
        f"{name}-again",
        [{**item, "collection": f"{name}-again"} for item in items],
        guard=anybody,
        record=lambda conn: measured(conn, lambda conn: receipts.publish_again(conn, anew)),
    )
    with connect(settings) as conn:
        there = [row for page in receipts.published(conn, collections=[f"{name}-again"]) for row in page]
    assert len(there) == count
    assert all(row["item_hash"] for row in there)
    return published, again


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="CPU time of other processes is read from /proc")
def test_a_batch_four_times_as_large_costs_four_times_as_much_not_sixteen_times(settings, submitter):
    few = batch(settings, submitter, "growth-few", FEW)
    many = batch(settings, submitter, "growth-many", MANY)
    print(f"\n{FEW} items: {few}, {MANY} items: {many} s")
    for what, small, large in zip(("published", "published again"), few, many, strict=True):
        assert large <= 8 * max(small, 5 * TICK), f"{what}: {FEW} items {small:.2f} s, {MANY} items {large:.2f} s"
