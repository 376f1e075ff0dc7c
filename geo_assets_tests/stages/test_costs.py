"""What sources are expected to cost: by form and bytes, corrected by what was measured."""

import math

import pytest

from geo_assets.ledger.models import Work
from geo_assets.ledger.pending import Costed, Total
from geo_assets.ledger.work import ChunkWork, Cost
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.costs import Costs, Samples
from geo_assets.stages.cutting import Bounds, cut_chunks
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source


def job(**parameters) -> Job:
    return Job.of(validate_parameters("ingest_container", {"container": "some", **parameters}))


def source(path: str, size: int, kind: Kind = Kind.RASTER) -> Source:
    return Source(path=path, kind=kind, members=(Member(path=path, size=size, etag="e"),))


def measured(form: str, size: int, seconds: float, files: int = 1000) -> Cost:
    return Cost(
        form=form, size=size.bit_length(), files=files, log_seconds=math.log(seconds), log_bytes=math.log(size + 1)
    )


def work(path: str, size: int, kind: str = "raster") -> Work:
    return Work(
        task_key=path, kind=kind, fingerprint="f", input={"members": [{"path": path, "size": size, "etag": ""}]}
    )


def test_before_anything_was_measured_more_bytes_cost_more_and_dense_formats_more_than_plain_ones():
    costs = Costs.of(job(), "cogs")
    small, large, dense = (costs.milliseconds(source(*of)) for of in [("a.tif", 1e6), ("b.tif", 2e9), ("c.jp2", 1e6)])
    assert 10 <= small < dense < large
    assert 1 <= costs.milliseconds(source("empty.tif", 0)) <= small


def test_reprojection_costs_more():
    plain, warped = (Costs.of(job(**more), "cogs") for more in ({}, {"target_crs": "EPSG:3857"}))
    assert warped.milliseconds(source("a.tif", 1e8)) > 2 * plain.milliseconds(source("a.tif", 1e8))


def test_what_was_measured_takes_the_place_of_the_guess():
    costs = Costs.of(job(), "cogs", [measured("raster .tif", 1_000_000, 7.0)])
    assert costs.milliseconds(source("a.tif", 1_000_000)) == pytest.approx(7000, rel=0.02)


def test_of_the_sizes_that_were_measured_the_nearest_counts():
    costs = Costs.of(
        job(), "cogs", [measured("raster .tif", 1_000_000, 7.0), measured("raster .tif", 1_000_000_000, 5.0)]
    )
    assert costs.milliseconds(source("a.tif", 900_000_000)) == pytest.approx(4500, rel=0.1)
    assert costs.milliseconds(source("a.tif", 2_000_000)) > 7000


def test_one_file_says_less_than_many():
    few, many = (Costs.of(job(), "cogs", [measured("raster .tif", 10**6, 60.0, files)]) for files in (1, 1000))
    assert few.milliseconds(source("a.tif", 10**6)) < 0.5 * many.milliseconds(source("a.tif", 10**6))


def test_a_form_that_was_never_met_is_corrected_by_all_that_were_met():
    slow = [measured("raster .tif", 10**8, 100 * 1.3)]
    before, after = (Costs.of(job(), "cogs", known).milliseconds(source("a.png", 10**7)) for known in ([], slow))
    assert after == pytest.approx(99 * before, rel=0.05)


def test_profiles_are_measured_apart():
    costs = Costs.of(job(profile="web"), "cogs", [measured("raster .tif", 10**6, 60.0)])
    assert costs.form(source("A.TIF", 1)) == "raster .tif web"
    assert costs.form(work("A.TIF", 1)) == "raster .tif web"


def test_rasters_whose_blocks_are_kept_are_measured_apart_and_reprojection_still_counts():
    kept = Costs.of(job(keep_lossy=True, profile="visual"), "cogs", [])
    warped = Costs.of(job(keep_lossy=True, target_crs="EPSG:3857"), "cogs", [])
    assert kept.form(source("a.tif", 1)) == "raster .tif visual keep_lossy"
    assert warped.milliseconds(source("a.tif", 10**8)) > 2 * kept.milliseconds(source("a.tif", 10**8))


def test_a_history_in_which_shapefiles_are_ten_times_slower_moves_the_bounds_of_chunks():
    sources = [source(f"{n:03}.{ending}", 10**6, Kind.VECTOR) for n in range(40) for ending in ("gpkg", "fgb")]

    def cut(history):
        costs = Costs.of(job(), "vector_tables", history)
        rows = sorted((Costed(s.path, costs.milliseconds(s), s.size) for s in sources), key=lambda c: (-c.cost_ms, c))
        ref = JobRef(
            job_id="0" * 64, job_type="ingest_container", parameters=job().parameters, partition_key="x",
            run_id="r", owner_run_id="r",
        )  # fmt: skip
        total = Total(len(rows), sum(row.cost_ms for row in rows))
        return list(cut_chunks(ref, "vector_tables", total, rows, Bounds(64, 64, 2, 0.1))), rows

    even, _ = cut([measured("vector .gpkg", 10**6, 0.5), measured("vector .fgb", 10**6, 0.5)])
    moved, rows = cut([measured("vector .gpkg", 10**6, 0.5), measured("vector .fgb", 10**6, 5.0)])
    assert {chunk.size for chunk in even} == {10}
    assert all(row.task_key.endswith("fgb") for row in rows[:40])  # the slow ones begin
    assert moved[0].size < 10 < moved[-1].size
    assert moved[0].cost_seconds == pytest.approx(moved[1].cost_seconds, rel=0.3)


def test_a_chunk_tells_the_median_of_each_form_and_size():
    samples = Samples(Costs.of(job(), "cogs"))
    for seconds in (1.0, 1.1, 500.0):
        samples.add(work("a.tif", 1000), seconds)
    samples.add(work("b.tif", 10**6), 3.0)
    told = samples.costs()
    assert [(cost.form, cost.size, cost.files) for cost in told] == [("raster .tif", 10, 3), ("raster .tif", 20, 1)]
    assert math.exp(told[0].log_seconds) == pytest.approx(1.1)


def note(submitter, name, *, chunk=0, costs=(), **more):
    done = submitter.submit(validate_parameters("ingest_container", {"container": name}), submitted_by="test")
    figures = {
        "files": 10,
        "bytes": 100,
        "cost_ms": 1000,
        "busy_ms": 1500,
        "files_ms": 1800,
        "longest_ms": 900,
        "wall_ms": 1000,
        "workers": 2,
    }
    submitter.ledger.work.note(
        ChunkWork(job_id=done.job_id, run_id="r", stage="cogs", chunk=chunk, **{**figures, **more}), costs
    )
    return done.job_id


@pytest.fixture
def containers(settings):
    for name in ("busy", "apart", "again", "idle"):
        (settings.home / "containers" / name).mkdir(parents=True, exist_ok=True)


def test_measurements_come_together_in_the_ledger_and_many_earlier_ones_do_not_hold_up_a_change(submitter, containers):
    for seconds, files in ((1.0, 100_000), (1.0, 400), (8.0, 500)):
        note(submitter, "again", costs=[measured("raster .tif", 5000, seconds, files)])
    (cost,) = submitter.ledger.work.costs("cogs")
    assert cost.files == 100_900
    assert math.exp(cost.log_seconds) == pytest.approx(8**0.5, rel=0.01)
    assert submitter.ledger.work.costs("vector_tables") == []


def test_efficiency_is_the_share_of_their_time_in_which_children_were_busy(submitter, containers):
    job_id = note(submitter, "busy")
    record = submitter.jobs.find(job_id)
    assert record.efficiency == pytest.approx(0.75)
    (work,) = submitter.ledger.work.of_run(job_id, "r").values()
    assert (work.busy_seconds, work.files_seconds, work.longest_seconds, work.workers) == (1.5, 1.8, 0.9, 2)
    assert work.wall_seconds == pytest.approx(1.0)
    note(submitter, "busy")  # the step again: what it did adds up
    assert submitter.ledger.work.of_run(job_id, "r")["cogs"].busy_seconds == 3.0


def test_a_run_that_had_nothing_to_do_has_no_efficiency_of_the_run_before_it(submitter, containers):
    job_id = note(submitter, "idle")
    assert submitter.ledger.work.of_run(job_id, "another") == {}
    assert submitter.ledger.work.of_run(job_id, "r")["cogs"].efficiency == pytest.approx(0.75)


def test_steps_at_the_same_time_have_children_of_their_own(submitter, containers):
    for chunk in range(2):
        job_id = note(submitter, "apart", chunk=chunk, wall_ms=60_000, busy_ms=90_000)
    (work,) = submitter.ledger.work.of_run(job_id, "r").values()
    assert work.workers == 4
    assert work.efficiency == pytest.approx(0.75, rel=0.02)


def test_one_file_says_much_of_another_of_its_size_and_little_of_a_small_one():
    one = measured("raster .tif", 500_000_000, 60.0, files=1)  # the guess: six seconds
    costs, before = Costs.of(job(), "cogs", [one]), Costs.of(job(), "cogs")
    assert costs.milliseconds(source("again.tif", 500_000_000)) == pytest.approx(60_000, rel=0.4)
    assert costs.milliseconds(source("small.tif", 100_000)) < 4 * before.milliseconds(source("small.tif", 100_000))
