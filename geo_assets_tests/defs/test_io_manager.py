import dagster as dg
import pytest
from pydantic import ValidationError
from upath import UPath

from geo_assets.defs.io_manager import JsonContractIOManager
from geo_assets.ledger.models import StageCounts
from geo_assets.stages.contracts import ChunkReport
from geo_assets.task_status import BAD, BAD_INPUT, ENDED


def run(tmp_path, produce, *, tamper=None):
    """A producer and a consumer, the file between them tampered with if asked."""

    @dg.op(out=dg.Out(ChunkReport))
    def producer():
        return produce()

    @dg.op(out=dg.Out(dg.Nothing))
    def consumer(report: ChunkReport):
        assert report.index == 7

    @dg.op(out=dg.Out(ChunkReport))
    def between(report: ChunkReport):
        return report

    @dg.job(resource_defs={"io_manager": JsonContractIOManager(UPath(tmp_path))}, executor_def=dg.in_process_executor)
    def two():
        consumer(between(producer()))

    if tamper:
        original = JsonContractIOManager.dump_to_path

        def write(self, context, obj, path):
            original(self, context, obj, path)
            path.write_text(tamper(path.read_text()))

        manager = type("Tampering", (JsonContractIOManager,), {"dump_to_path": write})(UPath(tmp_path))
        return two.execute_in_process(resources={"io_manager": manager}, raise_on_error=False)
    return two.execute_in_process(raise_on_error=False)


def report():
    return ChunkReport(stage="cogs", index=7, done=1, seconds=1.5, **dict.fromkeys(BAD, 0))


@pytest.mark.parametrize("status", BAD)
@pytest.mark.parametrize("count", [-1, None])
def test_a_report_of_a_chunk_says_how_many_files_were_bad_and_not_less_than_none(status, count):
    counts = {**dict.fromkeys(BAD, 0), status: count}
    given = {name: number for name, number in counts.items() if number is not None}
    with pytest.raises(ValidationError, match=status):
        ChunkReport(stage="cogs", index=7, done=1, seconds=1.5, **given)


def test_a_contract_crosses_a_step_as_json(tmp_path):
    assert run(tmp_path, report).success
    written = [p.read_text() for p in tmp_path.rglob("*.json")]
    assert '"index":7' in written[0]


def test_a_violated_contract_names_the_stage_the_field_and_the_value(tmp_path):
    result = run(tmp_path, report, tamper=lambda text: text.replace('"index":7', '"index":-1'))
    assert not result.success
    messages = " ".join(str(e.event_specific_data.error) for e in result.all_events if e.is_step_failure)
    assert "producer: index:" in messages
    assert "got -1" in messages


def test_a_stage_report_that_does_not_add_up_is_refused():
    from geo_assets.stages.contracts import JobRef, StageReport

    job = JobRef(
        job_id="a" * 64, job_type="hello_world", partition_key="k", run_id="r", owner_run_id="r", parameters={}
    )
    counts = StageCounts.model_validate({**dict.fromkeys(ENDED, 0), "stage": "cogs", "total": 3, BAD_INPUT: 2})
    with pytest.raises(ValueError, match="3 tasks are listed, 2 are accounted for"):
        StageReport(job=job, stage="cogs", counts=counts)
