from geo_assets.defs.sensors import requests_of
from geo_assets.ledger.models import Attempt
from geo_assets.settings import Settings
from geo_assets.submissions.size import may_be_large, size_tags


def usual(attempt: Attempt) -> dict[str, str]:
    return size_tags(Settings(), large=may_be_large(attempt.job_type))


def attempt(number: int, job_type: str = "hello_world") -> Attempt:
    return Attempt(job_id="a" * 64, job_type=job_type, partition_key=f"hello_{number}", attempt=number)


def test_each_attempt_is_one_run_of_its_partition_with_a_key_of_its_own():
    result = requests_of([attempt(1), attempt(2)], usual)
    assert [(r.partition_key, r.run_key, r.job_name) for r in result.run_requests] == [
        ("hello_1", "hello_1:1", "hello_world"),
        ("hello_2", "hello_2:2", "hello_world"),
    ]
    (partitions,) = result.dynamic_partitions_requests
    assert list(partitions.partition_keys) == ["hello_1", "hello_2"]


def test_each_partition_is_added_to_the_set_of_its_job_type():
    result = requests_of([attempt(1), attempt(2, "stage_raster"), attempt(3)], usual)
    added = {r.partitions_def_name: list(r.partition_keys) for r in result.dynamic_partitions_requests}
    assert added == {"hello_world": ["hello_1", "hello_3"], "stage_raster": ["hello_2"]}


def test_no_two_jobs_share_partitions_and_every_asset_belongs_to_one_job():
    from geo_assets.definitions import defs

    repository = defs.get_repository_def()
    jobs = [job for job in repository.get_all_jobs() if job.name != "__ASSET_JOB"]
    partitioned = [job for job in jobs if job.name not in {"reconcile", "retention"}]
    sets = {job.name: job.partitions_def.name for job in partitioned}  # type: ignore[attr-defined]  # dynamic ones have names
    assert sets == {job.name: job.name for job in partitioned}
    made = [key for job in jobs for key in job.asset_layer.selected_asset_keys]
    assert len(made) == len(set(made)) == len(repository.asset_graph.get_all_asset_keys())


def test_nothing_to_launch_asks_for_nothing():
    assert requests_of([], usual).run_requests == []
