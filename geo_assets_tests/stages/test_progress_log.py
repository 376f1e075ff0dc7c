"""What a step says of its files: enough to read, never so much that it costs seconds."""

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import TaskRecord
from geo_assets.outcomes import CogOutputs, TableOutputs
from geo_assets.stages.contracts import Chunk, JobRef
from geo_assets.stages.progress_log import MAX_LINES, ProgressLog, max_lines
from geo_assets_tests.stages.builders import table

JOB = JobRef(job_id="ab" * 32, job_type="stac_setup", partition_key="p", run_id="r", owner_run_id="r", parameters={})


def cog(name: str) -> CogOutputs:
    return CogOutputs(cog=name, sha256="00", thumbnail="default/thumbnails/a.png")


def test_of_many_files_some_have_a_line_and_the_rest_is_counted():
    said = []
    with ProgressLog(JOB, said.append) as progress:
        for i in range(3 * MAX_LINES):
            progress.good(f"{i}.tif", cog(f"default/cogs/{i}.tif"))
        progress.bad("bad.tif", GeoAssetsError("UNREADABLE", "it is cut off"))
    assert len(said) == MAX_LINES + 2
    assert said[0] == "0.tif: done, COG default/cogs/0.tif"
    assert said[-2].startswith("bad.tif: quarantined, UNREADABLE: it is cut off → ")
    assert (
        said[-1] == "151 files: 150 done, 1 quarantined; 100 without a line here, all are in: geo-assets tasks"
        f" {JOB.job_id[:12]}"
    )


def test_of_a_million_files_that_were_done_before_a_few_are_read_and_all_are_counted():
    said = []
    record = TaskRecord(
        stage="cogs", task_key="a.tif", kind="raster", status="skipped", outputs=cog("default/cogs/a.tif")
    )
    with ProgressLog(JOB, said.append) as progress:
        progress.known([record], "skipped", 1_000_000)
    assert said[0] == "a.tif: skipped, COG default/cogs/a.tif"
    assert said[1].startswith("1,000,000 files: 1,000,000 skipped; 999,999 without a line here")


def test_a_name_cannot_begin_a_line_of_its_own_and_warnings_go_along():
    said = []
    with ProgressLog(JOB, said.append) as progress:
        progress.good("a\nRun failed\x1b[31m.gpkg", TableOutputs(tables=[table("vector.a", 2)], warnings=["odd axis"]))
    assert said[0] == "a Run failed [31m.gpkg: done, table vector.a (2 rows); warning: odd axis"


def test_a_step_that_found_nothing_to_do_says_nothing():
    said = []
    with ProgressLog(JOB, said.append):
        pass
    assert said == []


def test_a_thousand_files_cost_a_few_hundred_lines():
    chunks = [Chunk(job=JOB, stage="cogs", index=i, first="a", last="b", size=64) for i in range(16)]
    assert sum(max_lines(chunk) + 1 for chunk in chunks) < 300
