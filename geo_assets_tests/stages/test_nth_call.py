"""Whichever call fails, the first, the second and so on to the last one: what was asked for is there once, or nothing
is, and the next attempt does the rest.

One call of a job fails: of the store, as one that does not answer; of the database, as one whose server ended the
connection. Each place gets its turn until a job meets none.
"""

import itertools

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from shapely.geometry import box

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages import patience
from geo_assets.storage.containers import Container
from geo_assets.submissions.boundary import handle
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stages.test_catalogue import World

pytestmark = pytest.mark.faults

#: More calls than a job of two files makes: beyond, no place was found where the counting ends.
_MOST = 500


class Nth:
    """Raises an error once, at the n-th call that is counted."""

    def __init__(self, number: int, error: Exception) -> None:
        self.left, self.error = number, error

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error

    @property
    def was_met(self) -> bool:
        return self.left <= 0


def delivery(world: World) -> None:
    write(world.folder / "a.tif", np.ones((1, 20, 20), "uint8"))
    gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(1, 0, 2, 1)], crs=4326).to_file(
        world.folder / "b.gpkg"
    )


def insist_on_all(world: World, job) -> None:
    assert {key: found[0] for key, found in world.tasks(job).items()} == {"a.tif": "succeeded", "b.gpkg": "succeeded"}
    assert sorted(world.items()) == ["a.tif", "b.gpkg"]
    (table,) = world.rows(
        "select outputs->'tables'->0->>'table' from geo.published where job_id = %s and stage <> 'cogs'", job.job_id
    )
    assert world.rows(f"select count(*) from {table[0]}") == [(2,)]


def test_whichever_call_of_a_store_is_not_answered_the_job_is_done(context, submitter, dagster, monkeypatch):
    monkeypatch.setattr(patience, "_PAUSE", 0.01)
    real = Container._once

    def fail(nth):
        def once(self, ask, path):
            nth.count()
            return real(self, ask, path)

        return once

    away = GeoAssetsError("STORAGE_UNAVAILABLE", "the store does not answer")
    insist_for_every_number(lambda: World(context, submitter, dagster), monkeypatch, (Container, "_once"), fail, away)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_whichever_statement_ends_with_its_connection_the_job_is_done_by_this_attempt_or_the_next(
    context, submitter, dagster, monkeypatch
):
    real = psycopg.Cursor.execute

    def fail(nth):
        def execute(self, *args, **kwargs):
            try:
                if self.connection is not dagster.conn:  # that one is the test's own
                    nth.count()
            except psycopg.OperationalError:
                self.connection.close()
                raise
            return real(self, *args, **kwargs)

        return execute

    ended = psycopg.OperationalError("server closed the connection unexpectedly")
    insist_for_every_number(
        lambda: World(context, submitter, dagster), monkeypatch, (psycopg.Cursor, "execute"), fail, ended
    )


def insist_for_every_number(make, monkeypatch, place, fail, error) -> None:
    """Let the n-th call fail once, for each n, until a job has fewer calls."""
    owner, name = place
    for number in itertools.count(1):
        assert number < _MOST
        world, nth = make(), Nth(number, error)
        delivery(world)
        body = {"job_type": "ingest_container", "parameters": {"container": world.name}}
        assert handle(world.submitter, raw(body)).submitted
        asked = Job.of(validate_parameters(body["job_type"], body["parameters"]))
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, fail(nth))
            try:
                job, _ = world.work(asked)
            except (GeoAssetsError, psycopg.OperationalError):
                job = None
        if job is None:  # what the janitor does for a run that died
            world.dagster.conn.execute(
                "update dagster.runs set status = 'FAILURE' where run_id in"
                " (select run_id from dagster.run_tags where value = %s)",
                (asked.partition_key,),
            )
            assert handle(world.submitter, raw(body)).submitted
            job, _ = world.work(asked)
        insist_on_all(world, job)
        if not nth.was_met:
            return
