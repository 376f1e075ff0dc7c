"""When a job will have ended: pure functions, on jobs that are played in time."""

import heapq
import math
import random
from statistics import median

import pytest

from geo_assets.ledger.estimates import Group, InWork, Likely, estimate, rest_of
from geo_assets.ledger.work import Cost


def stage(**more) -> Group:
    return Group(stage="cogs", size=20, **more)


def test_what_is_left_is_shared_out_to_those_who_work():
    told = estimate([stage(pending=100, pending_cost=50.0, longest_cost=0.5)], workers=4)
    assert told.seconds == pytest.approx(12.5)
    assert told.work == pytest.approx(50)
    assert told.low < told.seconds < told.high


def test_a_file_that_is_longer_than_all_the_rest_decides():
    told = estimate([stage(pending=101, pending_cost=150.0, longest_cost=100.0)], workers=4)
    assert told.seconds == pytest.approx(100)


def test_the_stages_of_a_job_come_one_after_the_other():
    groups = [stage(pending=10, pending_cost=10, longest_cost=1), Group("vector_tables", 20, 10, 20, 2)]
    assert estimate(groups, workers=2).seconds == pytest.approx(15)


def test_how_much_was_wrong_so_far_counts_for_what_is_left_and_makes_it_surer():
    few, many = (
        estimate(
            [
                stage(
                    pending=100,
                    pending_cost=100.0,
                    longest_cost=1,
                    measured=done,
                    measured_cost=done * 1.0,
                    measured_seconds=done * 3.0,
                )
            ],
            workers=1,
        )
        for done in (2, 200)
    )
    assert 150 < few.seconds <= 250
    assert many.seconds == pytest.approx(300, rel=0.02)
    assert many.high / many.low < few.high / few.low


def test_small_files_that_were_faster_than_expected_do_not_make_a_large_one_faster_than_what_is_known_of_it():
    small = Group("cogs", 18, measured=500, measured_cost=30.0, measured_seconds=30.0)
    large = Group("cogs", 31, in_work=(InWork(cost=25, elapsed=100, part=0.5),))
    assert estimate([small, large], workers=2).seconds == pytest.approx(100)


def test_a_file_that_takes_longer_than_expected_is_not_said_to_end_now():
    told = estimate([stage(in_work=(InWork(cost=10, elapsed=100),))], workers=2)
    assert told.seconds == pytest.approx(40)
    assert told.high > 70


def test_the_part_that_is_done_is_as_old_as_the_news_of_it():
    told = estimate([stage(in_work=(InWork(cost=10, elapsed=110, part=0.5, age=10),))], workers=1)
    assert told.seconds == pytest.approx(90)


def test_the_rest_of_a_job_is_what_others_of_its_size_took_and_has_already_begun():
    measured = [
        Cost(form="ingest_container", size=10, files=1, log_seconds=math.log(40), log_bytes=math.log(1000)),
        Cost(form="ingest_container", size=4, files=1, log_seconds=math.log(3), log_bytes=math.log(10)),
    ]
    assert rest_of(1000, measured, None).seconds == pytest.approx(40)
    assert rest_of(10, measured, None).seconds == pytest.approx(3)
    assert rest_of(1000, measured, 30).seconds == pytest.approx(12)
    assert rest_of(1000, [], None).seconds > 0
    assert estimate([], 1, Likely(5, 0.5)).seconds == 5


def played(costs: list[float], factors: list[float], workers: int, at: float) -> tuple[float, list[Group]]:
    """The end of a job whose tasks take cost x factor, the longest first, and what is known of it at a time."""
    order = sorted(range(len(costs)), key=lambda i: -costs[i])
    free = [0.0] * workers
    spans = {}
    for i in order:
        begin = heapq.heappop(free)
        spans[i] = begin, begin + costs[i] * factors[i]
        heapq.heappush(free, spans[i][1])
    end = max(free)
    now = at * end
    by_size: dict[int, list[int]] = {}
    for i in order:
        by_size.setdefault(int(math.log2(costs[i] * 1e6)), []).append(i)
    groups = []
    for size, tasks in by_size.items():
        pending = [costs[i] for i in tasks if spans[i][0] > now]
        done = [i for i in tasks if spans[i][1] <= now]
        groups.append(
            Group(
                "cogs",
                size,
                len(pending),
                sum(pending),
                max(pending, default=0),
                len(done),
                sum(costs[i] for i in done),
                sum(spans[i][1] - spans[i][0] for i in done),
                tuple(InWork(costs[i], now - spans[i][0]) for i in tasks if spans[i][0] <= now < spans[i][1]),
            )
        )
    return end, groups


@pytest.mark.parametrize("workers", [2, 8])
def test_at_half_time_the_end_of_mixed_jobs_is_known_to_a_quarter_though_no_part_is(workers):
    errors, inside = [], 0
    for seed in range(60):
        random_of = random.Random(seed)
        costs = [random_of.lognormvariate(-1, 1.2) for _ in range(300)]
        wrong = random_of.lognormvariate(0, 0.7)  # a machine that was never measured
        factors = [wrong * random_of.lognormvariate(0, 0.3) for _ in costs]
        end, groups = played(costs, factors, workers, 0.5)
        told = estimate(groups, workers)
        errors.append(abs(told.seconds - end / 2) / (end / 2))
        inside += told.low <= end / 2 <= told.high
    assert median(errors) <= 0.25
    assert inside >= 48
