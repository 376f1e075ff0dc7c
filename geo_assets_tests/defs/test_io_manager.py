import dagster as dg
import psycopg
import pytest
from pydantic import ValidationError

from geo_assets.defs.io_manager import contract_io_manager
from geo_assets.defs.resources import Stages
from geo_assets.ledger.models import StageCounts
from geo_assets.stages.contracts import ChunkReport
from geo_assets.task_status import BAD, BAD_INPUT, ENDED


@pytest.fixture
def db(settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        yield conn
        conn.execute("delete from geo.contracts")


def run(settings, produce, *, between=lambda: None):
    """A producer and a consumer, and what happens between the two."""

    @dg.op(out=dg.Out(ChunkReport))
    def producer():
        return produce()

    @dg.op(out=dg.Out(ChunkReport), ins={"after": dg.In(dg.Nothing)})
    def meddler():
        between()
        return report()

    @dg.op(out=dg.Out(dg.Nothing), ins={"after": dg.In(dg.Nothing)})
    def consumer(report: ChunkReport):
        assert report.index == 7

    resources = {"io_manager": contract_io_manager, "stages": Stages(settings=settings)}

    @dg.job(resource_defs=resources, executor_def=dg.in_process_executor)
    def two():
        made = producer()
        consumer(made, meddler(made))

    return two.execute_in_process(raise_on_error=False)


def report():
    return ChunkReport(stage="cogs", index=7, done=1, seconds=1.5, **dict.fromkeys(BAD, 0))


def faults(result) -> str:
    return " ".join(str(e.event_specific_data.error) for e in result.all_events if e.is_step_failure)


@pytest.mark.parametrize("status", BAD)
@pytest.mark.parametrize("count", [-1, None])
def test_a_report_of_a_chunk_says_how_many_files_were_bad_and_not_less_than_none(status, count):
    counts = {**dict.fromkeys(BAD, 0), status: count}
    given = {name: number for name, number in counts.items() if number is not None}
    with pytest.raises(ValidationError, match=status):
        ChunkReport(stage="cogs", index=7, done=1, seconds=1.5, **given)


def test_a_contract_crosses_a_step_as_json_in_the_ledger(settings, db):
    result = run(settings, report)
    assert result.success, faults(result)
    (contract, run_id) = db.execute(
        "select contract, run_id from geo.contracts where place = %s", (f"{result.run_id}/producer/result",)
    ).fetchone()
    assert contract == report().model_dump()
    assert run_id == result.run_id


def test_a_violated_contract_names_the_stage_the_field_and_the_value(settings, db):
    def tamper():
        db.execute("update geo.contracts set contract = contract || '{\"index\": -1}'")

    result = run(settings, report, between=tamper)
    assert not result.success
    assert "producer/result: index:" in faults(result)
    assert "got -1" in faults(result)


def test_a_contract_that_is_gone_is_named_with_what_to_do(settings, db):
    result = run(settings, report, between=lambda: db.execute("delete from geo.contracts"))
    assert f"nothing is recorded of {result.run_id}/producer/result" in faults(result)


def test_what_is_no_contract_is_not_passed_on(settings, db):
    result = run(settings, lambda: {"index": 7})
    assert not result.success
    assert db.execute("select count(*) from geo.contracts").fetchone() == (0,)


def test_a_stage_report_that_does_not_add_up_is_refused():
    from geo_assets.stages.contracts import JobRef, StageReport

    job = JobRef(
        job_id="a" * 64, job_type="hello_world", partition_key="k", run_id="r", owner_run_id="r", parameters={}
    )
    counts = StageCounts.model_validate({**dict.fromkeys(ENDED, 0), "stage": "cogs", "total": 3, BAD_INPUT: 2})
    with pytest.raises(ValueError, match="3 tasks are listed, 2 are accounted for"):
        StageReport(job=job, stage="cogs", counts=counts)
