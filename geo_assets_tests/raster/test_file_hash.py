import hashlib
import os
import threading
from pathlib import Path

import pytest

from geo_assets.raster.file_hash import FileHash
from geo_assets.raster.workers import workers

_PARTS = [b"", b"header", os.urandom(3_000_000), b"", os.urandom(1 << 20), b"the end"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_is_hashed_while_it_is_written(tmp_path, threads):
    with workers(1, threads) as thread, FileHash(thread) as digest:
        with (tmp_path / "file").open("w+b") as out:
            for part in _PARTS:
                out.write(part)
                digest.reached(out)
        (tmp_path / "file").rename(tmp_path / "another")
        assert digest.hexdigest() == hashlib.sha256(b"".join(_PARTS)).hexdigest()


def test_what_lies_in_the_file_is_hashed_and_not_what_was_written(tmp_path):
    with workers(1, 1) as thread, FileHash(thread) as digest, (tmp_path / "file").open("w+b") as out:
        out.write(b"as written")
        out.flush()
        os.pwrite(out.fileno(), b"other", 3)
        digest.reached(out)
        assert digest.hexdigest() == hashlib.sha256(b"as otheren").hexdigest()


def test_a_file_that_is_cut_off_beneath_has_no_hash(tmp_path):
    with workers(1, 1) as thread, FileHash(thread) as digest, (tmp_path / "file").open("w+b") as out:
        out.seek(100)
        digest.reached(out)
        with pytest.raises(OSError, match="ends before"):
            digest.hexdigest()


def test_whoever_gives_up_leaves_no_file_open_and_no_thread_behind(tmp_path):
    def giving_up():
        with workers(1, 2) as thread, FileHash(thread) as digest, (tmp_path / "file").open("w+b") as out:
            out.write(bytes(50 << 20))
            digest.reached(out)
            raise InterruptedError

    def held():
        return {str(each) for each in Path("/proc/self/fd").iterdir()}, threading.active_count()

    before = held()
    with pytest.raises(InterruptedError):
        giving_up()
    assert held() == before
