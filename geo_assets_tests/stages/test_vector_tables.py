"""Vector sources of a job become tables: those of one source together, and each is somebody's."""

from contextlib import contextmanager
from datetime import UTC, timedelta

import geopandas as gpd
import pytest
from shapely.geometry import box
from typer.testing import CliRunner

from geo_assets.cli import app as command_line
from geo_assets.errors import GeoAssetsError
from geo_assets.outcomes import TaskInput
from geo_assets.parameters import Job, validate_parameters
from geo_assets.receipts.verify import Scope, verify
from geo_assets.stages import vector_tables
from geo_assets.stages.context import StageContext
from geo_assets.stages.files import fingerprint_of_members
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.stages.planning import make_plan
from geo_assets.stages.reconcile import reconcile
from geo_assets.stages.unpublish import unpublish_job
from geo_assets.stages.vector_load import roll_back, staged_source
from geo_assets.submissions.boundary import handle
from geo_assets_tests.databases import environment
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.stages.test_deltas import Killed, world  # noqa: F401 - the fixture

LAYERS = ("a", "b")


def squares(world, rows, *, layers=LAYERS, name="two.gpkg", **columns):  # noqa: F811
    """A file of the container, made anew, with so many squares in each layer."""
    path = world.folder / name
    path.unlink(missing_ok=True)
    shapes = [box(i, 0, i + 0.5, 1) for i in range(rows)]
    frame = gpd.GeoDataFrame({"n": range(rows), **columns}, geometry=shapes, crs=4326)
    for layer in layers:
        frame.to_file(path, layer=layer)
    return path


def tables(world, schema="vector"):  # noqa: F811
    """Table -> its rows."""
    names = world.rows("select tablename from pg_tables where schemaname = %s and tablename ^@ %s", schema, world.name)
    return {name: world.rows(f'select count(*) from "{schema}"."{name}"')[0][0] for (name,) in sorted(names)}


def status(world, job):  # noqa: F811
    """Status and error code of each task of a job that is listed."""
    query = "select status::text, error_code from geo.tasks where job_id = %s and listed order by task_key"
    return world.rows(query, job)


def differences(world):  # noqa: F811
    return reconcile(world.context.settings, collections=[world.name]).differences


def in_the_way(world, name):  # noqa: F811
    """A view that has a table's name."""
    world.rows(f"create view vector.{name} as select 1 as x")


def test_the_tables_of_a_source_are_replaced_together_or_not_at_all(world):  # noqa: F811
    squares(world, 2, c=[1, 2])
    world.deliver()
    (a, b) = tables(world)
    world.rows(f"create view vector.v_{world.name} as select c from vector.{b}")
    squares(world, 5)
    job = world.deliver()
    assert status(world, job) == [("failed", "SCHEMA_MISMATCH")]
    assert tables(world) == {a: 2, b: 2}
    assert differences(world) == ()
    world.rows(f"drop view vector.v_{world.name}")
    world.retry(job)
    assert tables(world) == {a: 5, b: 5}


def test_where_one_layer_cannot_be_published_none_of_its_source_is_seen(world):  # noqa: F811
    squares(world, 2)
    in_the_way(world, f"{world.name}_two_b")
    assert status(world, world.deliver()) == [("failed", "SCHEMA_MISMATCH")]
    assert tables(world) == {}
    assert differences(world) == ()


def test_after_the_gate_too_the_tables_of_a_source_are_published_together(world):  # noqa: F811
    squares(world, 2)

    def publish(job):
        in_the_way(world, f"{world.name}_two_b")
        with pytest.raises(GeoAssetsError, match="two_b"):
            vector_tables.publish_waiting(world.context, job)

    world.ingest(publish, on_error="fail")
    assert tables(world) == {}


def killed_after_publication(world):  # noqa: F811
    """A run that dies as soon as its tables are published; returns its job."""

    @contextmanager
    def dies(*args):
        with staged_source(*args) as found:
            yield found
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_tables, "staged_source", dies)
        return world.deliver()


@pytest.mark.parametrize("becomes", ["bad", "gone"])
def test_a_table_whose_run_was_killed_is_dropped_if_its_source_is_bad_or_gone_by_then(world, becomes):  # noqa: F811
    source = squares(world, 2)
    squares(world, 2, name="stays.gpkg")
    job = killed_after_publication(world)
    assert len(tables(world)) in {2, 4}
    source.unlink()
    if becomes == "bad":
        source.write_bytes(b"no GeoPackage any more")
    with StageContext(world.context.settings) as world.context:
        world.go_on(job)
        sweep_orphans(world.context.settings, grace=timedelta(0))
        assert list(tables(world)) == [f"{world.name}_stays_a", f"{world.name}_stays_b"]
        assert differences(world) == ()


def test_a_table_whose_run_was_killed_is_registered_by_the_next_one_and_not_loaded_again(world):  # noqa: F811
    squares(world, 2)
    job = killed_after_publication(world)
    assert status(world, job) == [("running", None)]
    with StageContext(world.context.settings) as world.context:
        world.go_on(job)
        assert status(world, job) == [("succeeded", None)]
        assert world.rows("select count(*) from geo.vector_loads where source ^@ %s", f"default/{world.name}") == [(2,)]
        assert differences(world) == ()


@pytest.mark.parametrize("withdrawn", ["unpublished", "retired"])
def test_a_table_that_is_withdrawn_is_dropped_with_its_versions_and_never_rolled_back(world, withdrawn):  # noqa: F811
    asked = {"keep_versions": 2, "deleted": "retire"}
    for rows in (1, 2, 3):
        source = squares(world, rows, layers=("a",))
        job = world.deliver(**asked)
    name = f"{world.name}_two"
    assert tables(world) == {name: 3}
    assert tables(world, "vector_versions") == {f"{name}__v1": 1, f"{name}__v2": 2}
    if withdrawn == "unpublished":
        unpublish_job(world.context.settings, world.submitter.jobs, job, by="test")
    else:
        source.unlink()
        world.deliver(allow_empty=True, **asked)
    assert tables(world) == tables(world, "vector_versions") == {}
    with pytest.raises(GeoAssetsError, match="no earlier version"):
        roll_back(world.context.settings, name)


def appended(world, run=None, **asked):  # noqa: F811
    """A forced attempt of a job that appends after its gate."""

    def publish(job):
        if run is not None:
            run(job)
        vector_tables.publish_waiting(world.context, job)

    body = {"job_type": "ingest_container", "parameters": {"container": world.name, "mode": "append", **asked}}
    assert handle(world.submitter, raw({**body, "force": True})).submitted
    job = Job.of(validate_parameters(body["job_type"], body["parameters"]))
    return world.work(job, publish, force=True)[0]


def test_what_was_appended_before_leaves_no_table_that_waits(world):  # noqa: F811
    squares(world, 3)
    for _ in range(2):
        job = appended(world, on_error="fail")
        assert status(world, job.job_id) == [("succeeded", None)]
        assert set(tables(world).values()) == {3}
        assert tables(world, "vector_waiting") == {}
    assert differences(world) == ()


def test_a_run_that_lost_its_job_takes_no_table_that_waits(world):  # noqa: F811
    squares(world, 3)
    appended(world, on_error="fail")

    def lose(job):
        world.rows("update geo.jobs set lease_run_id = 'another' where job_id = %s", job.job_id)

    with pytest.raises(GeoAssetsError, match="no longer owns"):
        appended(world, lose, on_error="fail")
    assert set(tables(world, "vector_waiting").values()) == {3}


@pytest.mark.parametrize("on_error", ["continue", "fail"])
def test_the_same_bytes_that_are_delivered_again_are_not_appended_again_and_others_are(world, on_error):  # noqa: F811
    source = squares(world, 3)
    appended(world, on_error=on_error)
    data = source.read_bytes()
    source.unlink()
    source.write_bytes(data)
    appended(world, on_error=on_error)
    assert set(tables(world).values()) == {3}
    squares(world, 2)
    appended(world, on_error=on_error)
    assert set(tables(world).values()) == {5}


def test_what_an_earlier_release_appended_is_not_appended_again(world):  # noqa: F811
    squares(world, 3)
    job = appended(world)
    ((stored,),) = world.rows("select input from geo.tasks where job_id = %s", job.job_id)
    by_etag = f"{job.job_id}/{fingerprint_of_members(TaskInput.model_validate(stored))}/"
    changed = "update geo.vector_loads set load_key = %s || layer where source = %s returning load_id"
    assert len(world.rows(changed, by_etag, f"default/{world.name}/two.gpkg")) == len(LAYERS)
    appended(world)
    assert set(tables(world).values()) == {3}


def killed_before_publication(world, **asked):  # noqa: F811
    """A run that dies before it has loaded anything; returns its job."""

    def dies(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_tables, "staged_source", dies)
        return world.deliver(**asked)


def submitted(world, job):  # noqa: F811
    """When a job was first submitted, in UTC."""
    ((at,),) = world.rows("select requested_at from geo.attempts where job_id = %s and attempt = 1", job)
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_a_job_that_goes_on_after_its_run_died_does_not_replace_what_was_submitted_later(world):  # noqa: F811
    squares(world, 3, layers=("a",))
    earlier = killed_before_publication(world)
    with StageContext(world.context.settings) as world.context:
        later = world.deliver(where="n > 0")
        assert set(tables(world).values()) == {2}
        world.go_on(earlier)
        assert status(world, earlier) == [("quarantined", "SUPERSEDED")]
        ((said, remedy),) = world.rows("select error_message, remedy from geo.tasks where job_id = %s", earlier)
        first, second = (submitted(world, job) for job in (earlier, later))
        assert f"of job {later[:12]}, which was submitted at {second}, later than job {earlier[:12]} at {first}" in said
        assert f"geo-assets retry {earlier[:12]} --force" in remedy
        assert set(tables(world).values()) == {2}
        unpublish_job(world.context.settings, world.submitter.jobs, later, by="test")
        assert tables(world) == {}
        world.retry(earlier, statuses=["quarantined"])
        assert status(world, earlier) == [("succeeded", None)]
        assert set(tables(world).values()) == {3}


@pytest.fixture
def load_over(world, monkeypatch, tmp_path):  # noqa: F811
    """`geo-assets load` of some points into the one table of the container."""
    for name, value in environment(world.context.settings).items():
        monkeypatch.setenv(name, value)

    def load(*options, body="n,lon,lat\n7,8.5,47.5\n8,8.6,47.6\n"):
        path = tmp_path / "stations.csv"
        path.write_text(body)
        (table,) = tables(world)
        done = CliRunner().invoke(command_line, ["load", str(path), "--table", f"vector.{table}", *options])
        assert done.exit_code == 0, done.output
        return done

    return load


def test_a_load_prints_why_most_rows_were_rejected_and_where_they_are(world, load_over):  # noqa: F811
    squares(world, 1, layers=("a",))
    world.deliver()
    (table,) = tables(world)
    good = "8.5;47.3\n" * 4
    said = load_over("--allow-drift", body=f"lon;lat\n{good}8,5;47,3\n8,6;47,3\nx;y\n").stdout.splitlines()
    assert said == [
        f"vector.{table}  4 rows (3 rejected)",
        f"  rejected   2 coordinates are not numbers with a decimal point; all rows: vector.{table}__rejects",
    ]


def told_of(world, job):  # noqa: F811
    """What verify and reconcile say of tables, and what the plan of the same submission says."""
    settings = world.context.settings
    faults = [
        (f.code, f.detail) for f in verify(settings, Scope(job_id=job)).faults if "TABLE" in f.code or "ROWS" in f.code
    ]
    found = [(str(d.kind), d.detail) for d in differences(world)]
    asked = validate_parameters("ingest_container", {"container": world.name})
    with make_plan(settings, world.context.tasks, asked) as made:
        return faults, found, {source.stage: source.action for source in made.sources if source.stage}


@pytest.mark.parametrize(
    ("options", "then"),
    [(("--allow-drift",), 2), (("--mode", "append", "--allow-drift"), 5)],
    ids=["replace", "append"],
)
def test_a_table_that_another_file_was_loaded_into_is_told_and_loaded_again_by_the_next_submission(
    world,  # noqa: F811
    load_over,
    options,
    then,
):
    frame = gpd.GeoDataFrame({"n": [1, 2, 3]}, geometry=gpd.points_from_xy([1, 2, 3], [1, 2, 3]), crs=4326)
    frame.to_file(world.folder / "a.gpkg")
    job = world.deliver()
    assert told_of(world, job) == ([], [], {"vector_tables": "skip"})
    assert "the next run of that job replaces it" in load_over(*options).stderr
    assert set(tables(world).values()) == {then}
    faults, found, plan = told_of(world, job)
    ((code, detail),), ((kind, also),) = faults, found
    assert (code, kind, plan) == ("ROWS_CHANGED", "ROWCOUNT_MISMATCH", {"vector_tables": "create"})
    assert "stations.csv" in detail
    assert "stations.csv" in also
    world.deliver()
    assert set(tables(world).values()) == {3}
    assert told_of(world, job) == ([], [], {"vector_tables": "skip"})


def test_a_table_whose_earlier_version_was_called_back_is_what_its_user_wants_and_stays(world, load_over):  # noqa: F811
    squares(world, 3, layers=("a",))
    job = world.deliver()
    load_over("--allow-drift", "--keep-versions", "1")
    (table,) = tables(world)
    roll_back(world.context.settings, table)
    assert told_of(world, job) == ([], [], {"vector_tables": "skip"})
    world.deliver()
    assert tables(world) == {table: 3}


def test_a_table_that_files_are_appended_to_by_hand_and_by_its_job_is_both_of_theirs(world, load_over):  # noqa: F811
    frame = gpd.GeoDataFrame({"n": [1]}, geometry=gpd.points_from_xy([1], [1]), crs=4326)
    frame.to_file(world.folder / "a.gpkg")
    for number in range(2):
        job = world.deliver(mode="append")
        if not number:
            load_over("--mode", "append", "--allow-drift")
    assert set(tables(world).values()) == {3}
    assert verify(world.context.settings, Scope(job_id=job)).faults == ()


def test_a_plan_tells_that_another_job_owns_now_what_was_done_as_the_submission_does(world):  # noqa: F811
    squares(world, 3, layers=("a",))
    job = world.deliver()
    world.deliver(where="n > 0")
    assert told_of(world, job)[2] == {"vector_tables": "create"}
    world.deliver()
    assert set(tables(world).values()) == {3}
    assert told_of(world, job)[2] == {"vector_tables": "skip"}
