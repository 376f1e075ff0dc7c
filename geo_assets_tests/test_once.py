import threading
import time

import pytest

from geo_assets.once import made_once, remembered_by, remembered_of_file
from geo_assets.settings import Settings
from geo_assets.stages.context import StageContext


class Owner:
    def __init__(self):
        self.made = 0

    @made_once
    def thing(self):
        """What it is."""
        time.sleep(0.05)  # long enough for every thread to ask
        self.made += 1
        return object()


def asked_at_once(ask, threads=16):
    got, barrier = [], threading.Barrier(threads)

    def one():
        barrier.wait()
        got.append(ask())

    workers = [threading.Thread(target=one) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return got


def test_threads_that_ask_at_once_get_one_thing():
    owner, other = Owner(), Owner()
    assert len(set(map(id, asked_at_once(lambda: owner.thing)))) == 1
    assert owner.made == 1
    assert other.thing is not owner.thing
    assert Owner.thing.__doc__ == "What it is."


def test_a_stage_has_one_sandbox_however_many_threads_ask_for_it(tmp_path):
    with StageContext(Settings(home=tmp_path)) as context:
        assert len(set(map(id, asked_at_once(lambda: context.sandbox)))) == 1
        assert len(list((tmp_path / "scratch").glob("run-*"))) == 1


def test_an_answer_is_remembered_by_the_text_of_its_argument_and_an_error_is_not():
    asked = []

    @remembered_by(str, most=2)
    def answer(number):
        asked.append(number)
        return 1 / number

    assert answer(2) == answer(2) == 0.5
    assert asked == [2]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            answer(0)
    assert asked == [2, 0, 0]
    answer(3), answer(4), answer(2)
    assert asked == [2, 0, 0, 3, 4, 2]  # it remembers two


def test_what_is_said_of_a_very_long_text_is_not_remembered():
    asked = []

    @remembered_by(str)
    def length(text):
        asked.append(len(text))
        return len(text)

    for text in ("a" * 20_000, "a" * 20_001):
        assert length(text) == length(text)
    assert asked == [20_000, 20_001, 20_001]


def test_an_answer_about_a_file_is_remembered_until_it_changes(tmp_path):
    asked = []

    @remembered_of_file
    def text(path, more):
        asked.append(path.name)
        return path.read_text() + more

    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    other.write_text("2")
    assert [text(file, "x"), text(file, "x"), text(file, "y")] == ["1x", "1x", "1y"]
    assert asked == ["a", "a"]
    file.write_text("10")
    assert [text(file, "y"), text(other, "y"), text(file, "y")] == ["10y", "2y", "10y"]
    assert asked == ["a", "a", "a", "b"]
