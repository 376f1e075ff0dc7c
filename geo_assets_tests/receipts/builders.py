"""Jobs whose sources are published in the way of the stages, without converting anything, and all that they lead to."""

import hashlib

import psycopg
from psycopg.types.json import Jsonb

from geo_assets.file_stages import COGS
from geo_assets.ledger.published import Published
from geo_assets.outcomes import CogOutputs, Outputs
from geo_assets.parameters import validate_parameters
from geo_assets.receipts.verify import Scope, verify
from geo_assets.stac import pgstac
from geo_assets.stages.orphans import sweep_blobs
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import open_container
from geo_assets_tests.stac.test_retries import item


class Job:
    """A job whose sources are published in the way of the stages, without converting anything."""

    def __init__(self, settings, submitter, name, number=0):
        self.settings, self.name = settings, name
        (settings.home / "containers" / name).mkdir(parents=True, exist_ok=True)
        asked = validate_parameters("ingest_container", {"container": name, "limit": 1000 + number})
        self.job_id = submitter.submit(asked, submitted_by="test").job_id
        self.run = f"run-{self.job_id[:8]}"
        self.execute(
            "update geo.attempts set run_id = %(run)s where job_id = %(job)s",
            "insert into geo.raster_collections values (%(name)s, 'uint8', %(name)s), (%(name)s, 'visual', %(other)s)"
            " on conflict do nothing",
            name=name,
            other=f"{name}-visual",
        )
        self.begin()

    def execute(self, *statements, **values):
        with psycopg.connect(self.settings.dsn("pipeline")) as conn:
            for statement in statements:
                conn.execute(statement, {"job": self.job_id, "run": self.run, **values})

    def begin(self):
        self.execute("update geo.jobs set lease_run_id = %(run)s, lease_heartbeat = now() where job_id = %(job)s")

    def publish(self, key, content="a COG"):
        digest = hashlib.sha256(content.encode()).hexdigest()
        ref = BlobRef.parse(f"default/cogs/{self.name}/{key}_{digest[:8]}.tif")
        file = self.settings.home / "containers" / "cogs" / ref.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        outputs = CogOutputs(cog=str(ref), sha256=digest)
        self.execute(
            """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, outputs, run_id)
               values (%(job)s, %(stage)s, %(key)s, 'raster', 'running', %(print)s, %(outputs)s, %(run)s)
               on conflict (job_id, stage, task_key) do update set outputs = excluded.outputs, listed = true,
                   fingerprint = excluded.fingerprint, run_id = excluded.run_id""",
            stage=COGS,
            key=key,
            print=digest,
            outputs=Jsonb(outputs.stored()),
        )
        made = item(key, self.name)
        made["properties"] |= {"created": "2026-01-02T03:04:05Z", "updated": "2026-01-02T03:04:05Z", "said": content}
        made["assets"] = {"data": {"href": open_container(self.settings, "default", "cogs").href(ref.path)}}
        before = pgstac.load_items(
            self.settings,
            self.name,
            [made],
            guard=lambda conn: None,
            record=lambda conn: Published.publish_many(
                conn,
                self.job_id,
                self.run,
                [(COGS, key, Outputs(stac_item=f"{self.name}/{key}"))],
                {f"{self.name}/{key}": digest},
            ),
        )
        sweep_blobs(self.settings, {blob for old in before for blob in old.outputs.all_blobs} - {str(ref)})
        return file

    def end(self):
        self.execute(
            "update geo.jobs set lease_run_id = null, lease_heartbeat = null where job_id = %(job)s",
            "update geo.attempts set outcome = 'completed', ended_at = now()"
            " where job_id = %(job)s and outcome is null",
        )


def clear(settings):
    """Begin with no job, so that the receipts of this test are the only ones."""
    forget(settings)
    for file in (settings.home / "containers" / "cogs").rglob("*.*"):
        if file.is_file():
            file.unlink()


def forget(settings):
    """As if the database were new."""
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute(
            "delete from geo.jobs; delete from geo.tombstones; delete from geo.receipt_changes;"
            " delete from geo.table_names; delete from geo.raster_collections; delete from geo.collection_files"
        )
        for collection, _ in pgstac.list_collections(settings):
            conn.execute("delete from pgstac.items where collection = %s", (collection["id"],))
            conn.execute("select pgstac.delete_collection(%s)", (collection["id"],))


def state(settings):
    """All that a receipt promises to bring back."""
    tables = {
        "jobs": "to_jsonb(t) - 'lease_run_id' - 'lease_heartbeat'",
        "attempts": "to_jsonb(t)",
        "tasks": "to_jsonb(t)",
        "published": "to_jsonb(t) - 'item_hash'",
        "table_names": "to_jsonb(t)",
        "tombstones": "to_jsonb(t) - 'tombstone_id'",  # those of items that the ledger knew
        "raster_collections": "to_jsonb(t)",
        "deltas": "to_jsonb(t)",
    }
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        found = {
            name: sorted(
                (
                    row
                    for (row,) in conn.execute(f"select {what} from geo.{name} t").fetchall()
                    if row.get("job_id", "") is not None
                ),
                key=str,
            )
            for name, what in tables.items()
        }
    for collection, number in pgstac.list_collections(settings):
        if number:
            found[collection["id"]] = [collection, list(pgstac.read_items(settings, collection["id"]))]
    return found


def green(settings):
    done = verify(settings, Scope(), deep=False)
    assert done.faults == ()
    return done


def receipts(settings, job):
    return sorted((settings.home / "containers" / "cogs" / "_receipts" / job.job_id).iterdir())
