"""Batches in threads: in order, and no more of them held than are in work."""

import gc
import weakref

import pyarrow as pa
import pytest

from geo_assets.vector.reader.batches import Batch
from geo_assets.vector.reader.threads import BATCH_BYTES, in_order


class Watched:
    """Batches, and which of them anybody still holds."""

    def __init__(self, count, size=8):
        self.count, self.size, self.known = count, size, []

    def __iter__(self):
        for _ in range(self.count):
            batch = Batch([], pa.array([bytes(self.size)], pa.binary()), {}, pa.array([1]))
            self.known.append(weakref.ref(batch.wkb))
            yield batch
            del batch

    @property
    def held(self):
        gc.collect()
        return [number for number, batch in enumerate(self.known) if batch() is not None]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_every_batch_is_worked_on_in_order(threads, count):
    batches = (Batch([], pa.array([bytes([n])], pa.binary()), {}, pa.array([n])) for n in range(count))
    assert list(in_order(batches, lambda batch: batch.wkb[0].as_py()[0], threads=threads)) == list(range(count))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_batch_whose_result_is_used_is_not_held_any_longer(threads):
    watched = Watched(20)
    for number, _ in enumerate(in_order(iter(watched), lambda batch: len(batch.wkb), threads=threads)):
        assert min(watched.held, default=number) >= number - 2  # a thread lets go a moment later


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_batch_is_worked_on_before_another_is_read(threads):
    watched = Watched(3, BATCH_BYTES + 1)
    for number, _ in enumerate(in_order(iter(watched), lambda batch: len(batch.wkb), threads=threads)):
        assert len(watched.known) == number + 1
