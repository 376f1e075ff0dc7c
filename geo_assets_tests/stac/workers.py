"""Processes of the full-size tests: writers of a collection, and one that forks a process for each deed, to be killed.

Here: what they do, `python -m geo_assets_tests.stac.workers write|obey …`, and the items that they write. Not here: what
is proved (`test_full_size.py`).
"""

import json
import os
import sys
import traceback
from copy import deepcopy
from functools import partial
from pathlib import Path

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import COGS
from geo_assets.ledger.lease import assert_lease
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import Outputs
from geo_assets.parameters import validate_parameters
from geo_assets.settings import load_settings
from geo_assets.stac import pgstac
from geo_assets.stac.collection import Described
from geo_assets.stac.locks import queue_up
from geo_assets.stac.validation import validated
from geo_assets.stages.catalogue import BATCH
from geo_assets.stages.unpublish import remove_collection, unpublish_item
from geo_assets.submissions.submit import Submitter

#: What ours look like: an item of a COG, as the golden one.
_LIKE = json.loads((Path(__file__).parent / "items" / "cog.json").read_text())


def like_ours(collection, identity, number, *, version=1):
    """A valid item of a COG; its place and month follow from its number."""
    made = deepcopy(_LIKE)
    west, south = -170 + number % 200 * 1.7, -60 + number // 200 * 2.9
    box = [west, south, west + 0.25, south + 0.25]
    corners = [[box[x], box[y]] for x, y in ((0, 1), (2, 1), (2, 3), (0, 3), (0, 1))]
    day = f"{2020 + number % 2}-{1 + number % 12:02}-{1 + number % 28:02}"
    made |= {"id": identity, "collection": collection, "bbox": box}
    made["geometry"] = {"type": "Polygon", "coordinates": [corners]}
    made["properties"] |= {"datetime": f"{day}T00:00:00Z", "end_datetime": f"{day}T23:59:59Z"}
    made["properties"] |= {"start_datetime": f"{day}T00:00:00Z", "title": f"{identity}.tif"}
    made["assets"]["data"] |= {"href": f"https://example.org/cogs/{identity}.tif", "file:size": 12345 + version}
    made["assets"]["thumbnail"]["href"] = f"https://example.org/cogs/{identity}.png"
    return made


def items_of_writer(collection, writer, count):
    """The items of one of several writers: together they cover the same places and months."""
    return [like_ours(collection, f"w{writer}-{n}", n * 4 + writer) for n in range(count)]


def write(collection, writer, count):
    """As a job registers its files: batches, each with its tasks and publications, under the job's lease."""
    settings = load_settings()
    (settings.home / "containers" / f"{collection}-{writer}").mkdir(parents=True, exist_ok=True)
    asked = {"container": f"{collection}-{writer}", "collection": collection}
    with Submitter(settings, launches=False) as submitter:
        job = submitter.submit(validate_parameters("ingest_container", asked), submitted_by="test")
        run_id = f"{collection}-{writer}-{os.getpid()}"
        submitter.jobs.claim(job.partition_key, run_id, job.attempt)
        items = [validated(item) for item in items_of_writer(collection, writer, count)]
        planned = (PlannedTask(task_key=item["id"], kind="raster", fingerprint="f") for item in items)
        submitter.tasks.plan(job.job_id, run_id, COGS, planned, force=True)
        print("ready", flush=True)
        sys.stdin.readline()
        guard = partial(assert_lease, job_id=job.job_id, run_id=run_id)
        for start in range(0, count, BATCH):
            batch = items[start : start + BATCH]
            done = [(COGS, item["id"], Outputs(stac_item=f"{collection}/{item['id']}")) for item in batch]
            record = partial(
                submitter.ledger.published.publish_many,
                job_id=job.job_id,
                run_id=run_id,
                done=done,
                contents={str(outputs.stac_item): "content" for _, _, outputs in done},
            )
            pgstac.load_items(settings, collection, batch, guard=guard, record=record)
        pgstac.refresh_collection(settings, collection, guard=guard)
        submitter.jobs.complete(job.job_id, run_id)
        print(submitter.jobs.find(job.job_id).delta.model_dump_json(), flush=True)


def put(settings, collection, numbers, version):
    """Items, new or changed; a changed one may have moved to another month."""
    items = [like_ours(collection, f"i{n}", n + 5 * version, version=version) for n in numbers]
    pgstac.load_items(settings, collection, items, guard=pgstac.anybody, record=lambda conn: None)


def remove(settings, collection, numbers):
    """Items, as a job retires them."""
    with connect(settings) as conn, conn.transaction():
        queue_up(conn, collection)
        pgstac.delete_items(conn, collection, [f"i{n}" for n in numbers])


def describe(settings, collection, title):
    pgstac.refresh_collection(settings, collection, Described(title=title))


def create(settings, collection):
    pgstac.create_collection(settings, collection, Described())


def unpublish(settings, collection, number):
    unpublish_item(settings, f"{collection}/i{number}", by="test")


def drop(settings, collection):
    remove_collection(settings, collection, cascade=True, by="test")


#: What may be done to a catalogue.
DEEDS = {deed.__name__: deed for deed in (put, remove, describe, create, unpublish, drop)}


def obey():
    """Do what standard input says, a line each, in a process of its own each: its id is told, then how it ended."""
    settings = load_settings()
    validated(deepcopy(_LIKE))  # what a process would import and compile is there
    from pypgstac import hydration, load  # noqa: F401

    for line in sys.stdin:
        deed = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 0
            try:
                DEEDS[deed.pop("deed")](settings, **deed)
            except GeoAssetsError as error:
                code = 0 if error.code in REFUSALS else 1
                print(error, file=sys.stderr, flush=True) if code else None
            except BaseException:  # noqa: BLE001 - told by its exit code
                traceback.print_exc()
                code = 1
            os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


#: Of deeds upon what is not there, or is there already.
REFUSALS = {"COLLECTION_NOT_FOUND", "COLLECTION_EXISTS", "ITEM_NOT_FOUND"}


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "write":
        write(words[0], int(words[1]), int(words[2]))
    else:
        obey()
