"""Laws of cutting a stage into chunks, for any costs and bounds."""

import heapq
import math

from hypothesis import given
from hypothesis import strategies as st

from geo_assets.ledger.pending import Costed, Total
from geo_assets.stages.contracts import Chunk
from geo_assets.stages.cutting import Bounds, cut_chunks
from geo_assets_tests.stages.test_progress_log import JOB

#: Milliseconds, many alike and some a thousand times as long.
COSTS = st.lists(st.one_of(st.integers(1, 200), st.integers(1, 5000), st.integers(1, 3_000_000)), max_size=300)

BOUNDS = st.builds(
    Bounds,
    files=st.integers(1, 80),
    chunks=st.integers(1, 80),
    children=st.one_of(st.none(), st.integers(1, 16)),
    least_seconds=st.sampled_from([0.1, 5.0, 30.0, math.inf]),
)

#: As wide as they are by default; what they are for is tested where they do not bind.
WIDE = Bounds(files=64, chunks=64, children=4, least_seconds=1)


def tasks(costs):
    return [
        Costed(f"{number:04}", cost, 1000 * cost)
        for number, cost in sorted(enumerate(costs), key=lambda pair: -pair[1])
    ]


def cut(costs, bounds) -> list[tuple[Chunk, list[Costed]]]:
    """The chunks, each with its tasks."""
    rows = tasks(costs)
    chunks = list(cut_chunks(JOB, "cogs", Total(len(rows), sum(max(1, row.cost_ms) for row in rows)), rows, bounds))
    taken, at = [], 0
    for chunk in chunks:
        taken.append((chunk, rows[at : at + chunk.size]))
        at += chunk.size
    assert at == len(rows)
    return taken


def makespan(works, slots) -> float:
    """When the last of some works ends that begin in their order, each as soon as one of the slots is free."""
    free = [0.0] * slots
    for work in works:
        heapq.heappush(free, heapq.heappop(free) + work)
    return max(free)


@given(COSTS, BOUNDS)
def test_every_task_is_in_exactly_one_chunk_and_a_chunk_tells_of_its_tasks(costs, bounds):
    seen = []
    for index, (chunk, rows) in enumerate(cut(costs, bounds)):
        seen += rows
        assert (chunk.index, chunk.size) == (index, len(rows))
        assert ((chunk.first_cost_ms, chunk.first), (chunk.last_cost_ms, chunk.last)) == (
            (rows[0].cost_ms, rows[0].task_key),
            (rows[-1].cost_ms, rows[-1].task_key),
        )
        assert chunk.cost_seconds == round(sum(row.cost_ms for row in rows) / 1000, 3)
        assert chunk.stage_seconds == round(sum(row.cost_ms for row in tasks(costs)) / 1000, 3)
        assert chunk.bytes == sum(row.bytes for row in rows)
        assert chunk.largest_bytes == max(row.bytes for row in rows)
    assert seen == tasks(costs)


@given(COSTS, BOUNDS)
def test_the_bounds_hold(costs, bounds):
    chunks = cut(costs, bounds)
    assert len(chunks) <= bounds.chunks
    most = max(bounds.files, math.ceil(len(costs) / bounds.chunks))
    assert all(chunk.size <= most for chunk, _ in chunks)


@given(COSTS, BOUNDS)
def test_the_same_tasks_are_cut_in_the_same_way(costs, bounds):
    assert cut(costs, bounds) == cut(costs, bounds)


@given(COSTS, st.integers(1, 16))
def test_chunks_that_run_in_their_order_end_within_four_thirds_of_the_lower_bound_and_a_step(costs, slots):
    bounds = Bounds(files=300, chunks=80, children=slots, least_seconds=1)
    works = [sum(row.cost_ms for row in rows) for _, rows in cut(costs, bounds)]
    lower = max(sum(costs) / slots, max(costs, default=0))
    assert makespan(works, slots) <= 4 / 3 * lower + 1.5 * 1000 * bounds.least_seconds


@given(COSTS, st.integers(1, 16))
def test_tasks_that_begin_with_the_longest_end_within_four_thirds_of_the_best(costs, slots):
    """As the threads of one process take them: the classic bound of Graham for the longest first."""
    works = [row.cost_ms for row in tasks(costs)]
    pair = works[slots - 1 : slots + 1]  # of one task more than slots, two share a slot in any schedule
    lower = max(sum(works) / slots, max(works, default=0), sum(pair) if len(pair) == 2 else 0)
    assert makespan(works, slots) <= (4 / 3 * lower if len(works) <= 2 * slots else 1.5 * lower) + 1


@given(st.lists(st.integers(1, 300), min_size=1, max_size=500), st.integers(1, 5))
def test_a_huge_file_is_alone_in_its_chunk(small, huge):
    costs = [*small, *[2 * sum(small) + 10_000] * huge]
    alone = [rows for chunk, rows in cut(costs, WIDE) if chunk.size == 1 and rows[0].cost_ms > sum(small)]
    assert len(alone) == huge


def test_a_small_job_is_one_chunk_and_one_of_many_files_as_many_as_it_needs():
    assert [chunk.size for chunk, _ in cut([10] * 66, WIDE)] == [33, 33]
    assert len(cut([20] * 40, WIDE)) == 1
    assert {chunk.size for chunk, _ in cut([60] * 1000, WIDE)} == {62, 63}


def test_where_nobody_knows_how_many_workers_there_are_every_chunk_that_is_worth_it_is_cut():
    costs = [30_000] * 20
    assert len(cut(costs, Bounds(files=64, chunks=64, children=None, least_seconds=5))) == 20
    assert len(cut(costs, Bounds(files=64, chunks=64, children=1, least_seconds=5))) == 4


def test_a_million_tasks_are_cut_as_they_come():
    def stream():
        for number in range(1_000_000):
            yield Costed(f"{number:07}", 1 + (1_000_000 - number) // 1000, 1)

    total = Total(1_000_000, sum(task.cost_ms for task in stream()))
    chunks = cut_chunks(JOB, "cogs", total, stream(), WIDE)
    first = next(chunks)  # a generator: it has not seen the rest
    sizes = [first.size, *(chunk.size for chunk in chunks)]
    assert sum(sizes) == 1_000_000
    assert len(sizes) <= 64
