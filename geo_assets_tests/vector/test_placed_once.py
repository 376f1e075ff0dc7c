"""Geometry that is text in a table is parsed once, and belongs to its row whatever happens between two readings."""

import tempfile
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
import shapely

from geo_assets.vector.models import InspectRequest, StreamRequest
from geo_assets.vector.reader import placed_once
from geo_assets.vector.reader.inspect import inspect
from geo_assets.vector.reader.placing import Placing
from geo_assets.vector.reader.stream import stream

TEXT = "n,wkt\n1,POINT (1 1)\n2,POINT (2 2)\n"


@pytest.fixture
def asked(monkeypatch):
    """How many rows are placed, each time that some are."""
    asked, place = [], Placing.place

    def counting(placing, batch):
        asked.append(len(batch))
        return place(placing, batch)

    monkeypatch.setattr(Placing, "place", counting)
    return asked


def planned(path: Path, **options):
    (plan,) = inspect(InspectRequest(source=str(path), thorough=False, source_crs="EPSG:4326", **options)).layers
    return plan


def sent(path: Path, plan):
    sink = BytesIO()
    stream(StreamRequest(source=str(path), plan=plan), sink)
    sink.seek(0)
    rows = pa.ipc.open_stream(sink).read_all()
    return [(n, shape.wkt) for n, shape in zip(rows["n"].to_pylist(), shapely.from_wkb(rows["geom"]), strict=True)]


def written(tmp_path: Path, text: str = TEXT) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


def test_a_text_is_parsed_once(tmp_path, asked):
    path = written(tmp_path)
    assert sent(path, planned(path)) == [(1, "POINT (1 1)"), (2, "POINT (2 2)")]
    assert asked == [2]


def test_a_text_that_is_edited_in_its_place_is_parsed_again(tmp_path, asked):
    path = written(tmp_path)
    plan = planned(path)
    path.write_text("n,wkt\n2,POINT (2 2)\n1,POINT (1 1)\n")
    assert sent(path, plan) == [(2, "POINT (2 2)"), (1, "POINT (1 1)")]
    assert asked == [2, 2]


def test_another_column_of_the_same_text_is_parsed_by_itself(tmp_path):
    path = written(tmp_path, "n,a,b\n1,POINT (1 1),POINT (5 5)\n")
    assert sent(path, planned(path, wkt="a")) == [(1, "POINT (1 1)")]
    assert sent(path, planned(path, wkt="b")) == [(1, "POINT (5 5)")]


@pytest.mark.parametrize("name", [placed_once._OF, placed_once._ROWS])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no such thing")])
def test_what_was_kept_and_cannot_be_read_is_not_used(tmp_path, asked, name, damage):
    path = written(tmp_path)
    plan = planned(path)
    (kept,) = tmp_path.rglob(name)
    damage(kept)
    assert sent(path, plan) == [(1, "POINT (1 1)"), (2, "POINT (2 2)")]
    assert asked == [2, 2]


def full(*_args, **_options):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("module", "name"), [(tempfile, "mkdtemp"), (pa, "OSFile"), (Path, "rename")])
def test_without_room_for_its_folder_the_text_is_parsed_again(tmp_path, asked, monkeypatch, module, name):
    path = written(tmp_path)
    planned(path)  # what the upload is opened by needs room, too
    (kept,) = tmp_path.rglob(placed_once._OF)
    kept.unlink()
    kept.with_name(placed_once._ROWS).unlink()
    kept.parent.rmdir()
    monkeypatch.setattr(module, name, full)
    plan = planned(path)
    assert sent(path, plan) == [(1, "POINT (1 1)"), (2, "POINT (2 2)")]
    assert asked == [2, 2, 2]
    assert not list(tmp_path.rglob(placed_once._ROWS))


@pytest.mark.parametrize("where", ["write_batch", "close"])
def test_without_room_for_it_the_text_is_parsed_again(tmp_path, asked, monkeypatch, where):
    new_stream = pa.ipc.new_stream

    class Full:
        def __init__(self, rows):
            self._rows = rows

        def __getattr__(self, name):
            return full if name == where else getattr(self._rows, name)

    monkeypatch.setattr(
        pa.ipc,
        "new_stream",
        lambda sink, schema: Full(new_stream(sink, schema)) if schema.names == ["wkb"] else new_stream(sink, schema),
    )
    path = written(tmp_path)
    assert sent(path, planned(path)) == [(1, "POINT (1 1)"), (2, "POINT (2 2)")]
    assert asked == [2, 2]
    assert not list(tmp_path.rglob(placed_once._ROWS))
