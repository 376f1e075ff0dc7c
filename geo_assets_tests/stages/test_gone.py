"""What is gone is found by asking the listing, also for folders; the question does not grow with both sides."""

import shutil
import time

import psycopg
import pytest

from geo_assets.stages import retire
from geo_assets.stages.context import StageContext
from geo_assets_tests.stages.test_deltas import Deliveries
from geo_assets_tests.vector.builders import hive

#: Copies of the only published file of a job, with a task and an item each; the first ones are listed.
_GROW = """
with many as (select n <= %(listed)s as listed, format('x/%%s.tif', n) as path,
                     jsonb_build_object('stac_item', format('%%s/%%s', %(collection)s::text, n)) as item
                from generate_series(1, %(published)s) n),
     tasks as (
         insert into geo.tasks select made.*
           from geo.tasks t, many, jsonb_populate_record(t, jsonb_build_object(
                    'task_key', path, 'listed', many.listed, 'status', 'skipped', 'outputs', t.outputs || item,
                    'input', jsonb_build_object('members', jsonb_build_array(
                        t.input->'members'->0 || jsonb_build_object('path', path))))) made
          where t.job_id = %(job)s and t.task_key = 'a.tif'),
     published as (
         insert into geo.published select made.*
           from geo.published p, many, jsonb_populate_record(p, item || jsonb_build_object(
                    'task_key', path, 'at', '2020-01-01', 'outputs', p.outputs || item)) made
          where p.job_id = %(job)s and p.task_key = 'a.tif')
insert into geo.inventory select made.*
  from geo.inventory i, many, jsonb_populate_record(i, jsonb_build_object('path', many.path)) made
 where i.job_id = %(job)s and i.path = 'a.tif' and many.listed
"""


@pytest.fixture
def world(settings, submitter, dagster):
    with StageContext(settings) as context:
        yield Deliveries(context, submitter, dagster)


def test_the_end_of_a_job_takes_seconds_where_20_000_files_are_published_and_5_000_of_them_listed(world, monkeypatch):
    world.put("a.tif")
    world.deliver()
    end, seconds = retire.retire, []

    def grown(context, job):
        with psycopg.connect(context.settings.dsn("pipeline"), autocommit=True) as conn:
            conn.execute(_GROW, {"job": job.job_id, "collection": world.name, "published": 20_000, "listed": 5_000})
        began = time.monotonic()
        counts = end(context, job)
        seconds.append(time.monotonic() - began)
        return counts

    monkeypatch.setattr(retire, "retire", grown)
    job = world.deliver()
    delta = world.submitter.jobs.find(job).delta
    assert (delta.gone, delta.unchanged) == (15_000, 5_001)
    assert seconds[0] < 30  # 2 on a busy machine; 115 where it grew with both


def test_a_folder_is_there_while_a_file_is_in_it_and_its_neighbours_in_the_listing_are_not_it(world):
    hive(world.folder / "d" / "sites", year=[2023, 2024])
    hive(world.folder, month=[1, 2])
    for neighbour in ("d/sites-old.tif", "d/sites.tif", "d/sites0.tif", "month.tif", "months.tif"):
        world.put(neighbour)
    job = world.deliver()
    files = world.told(job)
    assert files.keys() >= {"d/sites", "month="}
    for folder in ("d/sites/year=2023", "month=2"):
        shutil.rmtree(world.folder / folder)
    world.deliver()
    assert not [file for file, what in world.told(job).items() if what == "kept"]
    for folder in ("d/sites", "month=1"):
        shutil.rmtree(world.folder / folder)
    world.deliver()
    assert world.told(job) == {**dict.fromkeys(files, "unchanged"), "d/sites": "kept", "month=": "kept"}


def test_a_file_is_gone_although_a_folder_has_its_name_now(world):
    world.put("a.tif")
    world.put("b.tif")
    job = world.deliver()
    (world.folder / "a.tif").unlink()
    world.put("a.tif/b.tif")
    world.deliver()
    assert world.told(job) == {"a.tif": "kept", "a.tif/b.tif": "new", "b.tif": "unchanged"}
