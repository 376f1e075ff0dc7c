"""What is computed of a tile: compiled code and NumPy give the same, to the last bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_assets.compiled import library
from geo_assets.raster import overviews, tiles
from geo_assets.raster.tiles import Weights

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")


@pytest.fixture(autouse=True)
def is_compiled():
    assert tiles.are_compiled()


def by_numpy(call, *arguments, **named):
    """The result of a function of `tiles` where nothing is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_library", lambda: None)
        return call(*arguments, **named)


def numbers(rng, dtype, shape):
    """Some over the whole range of a type, some of a few values, as nodata is; floats that are not finite, too."""
    if rng.random() < 0.3:
        return rng.integers(0, 4, shape).astype(dtype)
    if dtype.startswith("float"):
        values = (rng.standard_normal(shape) * 10.0 ** rng.integers(-30, 30)).astype(dtype)
        values[rng.random(shape) < 0.01] = -0.0
        return values
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape).copy()


def assert_the_same_bits(call, *arguments, **named):
    compiled, plain = call(*arguments, **named), by_numpy(call, *arguments, **named)
    assert (compiled.shape, compiled.dtype) == (plain.shape, plain.dtype)
    assert compiled.tobytes() == plain.tobytes()


def window_of(rng, length):
    """A part of an axis: the pixel of the next level at which it begins, the length of the axis, pixels of the part."""
    of_next, odd = -(-length // 2), length % 2
    first = int(rng.integers(0, of_next))
    count = int(rng.integers(1, of_next - first + 1))
    at_the_edge = odd and first + count == of_next and rng.random() < 0.5  # where the last one has no second pixel
    return first, length, 2 * count + (0 if at_the_edge else odd)


seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(TYPES), st.integers(1, 6), st.integers(1, 40), st.integers(1, 70), seeds)
def test_predictors_and_quarters_of_any_tile_are_those_of_numpy(dtype, bands, rows, columns, seed):
    tile = numbers(np.random.default_rng(seed), dtype, (bands, rows, columns))
    assert_the_same_bits(tiles.differences, tile)
    if dtype.startswith("float"):
        assert_the_same_bits(tiles.float_differences, tile)
    even = tile[:, : rows // 2 * 2, : columns // 2 * 2]  # not contiguous, most of the time
    if even.size:
        assert_the_same_bits(tiles.quarters, even)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(TYPES),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([None, 0.02, 0.5, 0.98]),
    st.sampled_from([None, 0, 1, 3, 127, float("nan")]),
    seeds,
)
def test_averages_by_weight_are_those_of_numpy(dtype, size, share, nodata, seed):
    """Of a window at the left, in the middle or at the right of a level of any size, odd and even."""
    rng, number = np.random.default_rng(seed), np.dtype(dtype)
    nodata = None if nodata is not None and np.isnan(nodata) and number.kind != "f" else nodata
    windows = [window_of(rng, length) for length in size]
    axes, there = [Weights.of(*window) for window in windows], [pixels for *_, pixels in windows]
    values = numbers(rng, dtype, there)
    valid = None if share is None else rng.random(there) < share
    if valid is not None and number.kind == "f":
        values[~valid] = rng.choice([np.nan, np.inf])
    empty = number.type(0 if nodata is None or np.isnan(nodata) else nodata)
    assert_the_same_bits(tiles.averages, values, valid, *axes, empty=empty, nodata=nodata)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(TYPES),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from([None, 0.02, 0.5, 0.98]),
    st.integers(1, 5),
    seeds,
)
def test_the_commonest_values_are_those_of_numpy(dtype, size, share, classes, seed):
    rng = np.random.default_rng(seed)
    windows = [window_of(rng, length) for length in size]
    there = [pixels for *_, pixels in windows]
    values = rng.integers(0, classes, there).astype(dtype)
    valid = None if share is None else rng.random(there) < share
    covered = [overviews._covered(*window) for window in windows]
    assert_the_same_bits(tiles.modes, values, valid, *covered, empty=99)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(7, 7), (7, 8), (8, 7), (8, 8)])
def test_the_average_of_minus_zeros_has_one_sign_compiled_or_not(dtype, size):
    """At the lower and the right edge of an odd size, where the last one has no second pixel."""
    values = np.full([2 * -(-n // 2) for n in size], -0.0, dtype)
    axes = [Weights.of(0, *both) for both in zip(size, values.shape, strict=True)]
    for valid in (None, np.ones(values.shape, bool)):
        assert_the_same_bits(tiles.averages, values, valid, *axes, empty=0)


@pytest.mark.parametrize("nodata", [-np.inf, np.inf, np.nan, np.finfo(float).min])
def test_an_average_beyond_the_largest_number_is_not_taken_for_nodata(nodata):
    values = np.full((6, 6), -1e308 if nodata < 0 else 1e308)
    values[:2] = nodata
    arguments = (values, np.isfinite(values) & (values != nodata), None, None)
    assert_the_same_bits(tiles.averages, *arguments, empty=nodata, nodata=nodata)
    assert (np.abs(tiles.averages(*arguments, empty=nodata, nodata=nodata)[1:]) == 1e308).all()


def test_where_none_counts_and_the_result_is_no_number_compiled_code_has_done_it(monkeypatch):
    monkeypatch.setattr(tiles, "_averages", lambda *_: pytest.fail("NumPy did it once more"))
    valid = np.arange(36).reshape(6, 6) > 20
    found = tiles.averages(np.ones((6, 6)), valid, None, None, empty=np.nan, nodata=np.nan)
    assert np.isnan(found).sum() == 4


_TILE, _BAND, _PLAIN = np.ones((3, 5, 4), np.uint8), np.ones((4, 6), np.uint8), np.arange(4).reshape(-1, 2).T


@pytest.mark.parametrize(
    "call",
    [
        lambda: tiles.sums_of(np.empty(0, np.uint8)),
        lambda: tiles.quarters(_TILE),
        lambda: tiles.quarters(_TILE.swapaxes(1, 2)),
        lambda: tiles.differences(_TILE[:, :, :0]),
        lambda: tiles.float_differences(_TILE[:0].astype(np.float32)),
        lambda: tiles.averages(_BAND, np.ones((4, 5), bool), None, None, empty=0),
        lambda: tiles.averages(_BAND[:3], None, None, None, empty=0),
        lambda: tiles.averages(_BAND, None, Weights.of(0, 9, 6), None, empty=0),
        lambda: tiles.modes(_BAND, np.ones((4, 5), bool), _PLAIN, np.arange(6).reshape(-1, 2).T, empty=0),
        lambda: tiles.modes(_BAND, None, _PLAIN, _PLAIN, empty=0),
        lambda: tiles.modes(_BAND, None, _PLAIN, np.arange(6).reshape(-1, 2).T.astype(np.int32), empty=0),
        lambda: tiles.modes(_BAND, None, np.full((3, 2), 4), np.arange(6).reshape(-1, 2).T, empty=0),
        lambda: tiles.modes(_BAND, None, np.zeros((4, 2), np.int64), np.arange(6).reshape(-1, 2).T, empty=0),
    ],
)
def test_arrays_that_do_not_fit_are_refused_compiled_or_not(call):
    for told in (call, lambda: by_numpy(call)):
        with pytest.raises(ValueError, match=r"of another tile|in number|no numbers"):
            told()


def test_a_library_of_another_source_is_not_used(tmp_path):
    beside = tmp_path / "tiles.py"
    for name in ("tiles.c", "libtiles.so"):
        (tmp_path / name).write_bytes(Path(tiles.__file__).with_name(name).read_bytes())
    assert library(str(beside), "tiles", {}) is not None
    (tmp_path / "tiles.c").write_text("another one")
    assert library(str(beside), "tiles", {}) is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_averages_of_the_largest_numbers_are_numbers_without_compiled_code_as_well(dtype):
    values = np.full((4, 4), np.finfo(dtype).max, dtype)
    for valid in (None, np.eye(4, dtype=bool)[::-1] | np.eye(4, dtype=bool)):
        for call in (tiles.averages, lambda *a, **k: by_numpy(tiles.averages, *a, **k)):
            assert np.isfinite(call(values, valid, None, None, empty=0)).all()
    assert np.isfinite(tiles.quarters(values[None])).all()


@settings(deadline=None)
@given(st.sampled_from(["uint8", "uint16"]), st.integers(1, 20000), seeds)
def test_sums_of_any_numbers_are_exact(dtype, count, seed):
    values = numbers(np.random.default_rng(seed), dtype, (count,))
    whole = values.astype(object)
    exact = (whole.sum(), (whole * whole).sum(), whole.min(), whole.max())
    assert tiles.sums_of(values) == exact
    assert by_numpy(tiles.sums_of, values) == exact


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_sums_of_a_tile_of_the_greatest_numbers_are_exact(dtype):
    greatest, count = int(np.iinfo(dtype).max), 3 * 512 * 512
    values = np.full(count if dtype == "uint8" else count // 3, greatest, dtype)
    exact = (values.size * greatest, values.size * greatest**2, greatest, greatest)
    assert tiles.sums_of(values) == exact
    assert by_numpy(tiles.sums_of, values) == exact


def test_a_processor_without_avx2_gives_the_same():
    """All of the above once more, as such a processor does it: in a process of its own, which cannot go back."""
    told = "from geo_assets.raster import tiles; tiles._library().without_avx2()"
    run = f"import sys, pytest; {told}; sys.exit(pytest.main(sys.argv[1:]))"
    chosen = ["-q", "-p", "no:cacheprovider", "-k", "not avx2", __file__]
    done = subprocess.run([sys.executable, "-c", run, *chosen], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
