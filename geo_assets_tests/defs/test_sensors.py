from geo_assets.defs.sensors import requests_of
from geo_assets.ledger.models import Attempt


def attempt(number: int) -> Attempt:
    return Attempt(job_id="a" * 64, job_type="hello_world", partition_key=f"hello_{number}", attempt=number)


def test_each_attempt_is_one_run_of_its_partition_with_a_key_of_its_own():
    result = requests_of([attempt(1), attempt(2)])
    assert [(r.partition_key, r.run_key, r.job_name) for r in result.run_requests] == [
        ("hello_1", "hello_1:1", "hello_world"),
        ("hello_2", "hello_2:2", "hello_world"),
    ]
    (partitions,) = result.dynamic_partitions_requests
    assert list(partitions.partition_keys) == ["hello_1", "hello_2"]


def test_nothing_to_launch_asks_for_nothing():
    assert requests_of([]).run_requests == []
