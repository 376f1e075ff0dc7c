"""A GeoPackage of many layers is read one at a time, and each as in the whole file."""

import json
import sqlite3
import struct
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyogrio
import pytest

from geo_assets.vector.reader import gpkg_alone
from geo_assets.vector.reader.sqlite_values import quoted
from geo_assets.wire import told
from geo_assets_tests.vector.builders import BOWTIE, SQUARE, frame, points, write
from geo_assets_tests.vector.conftest import send

#: More than the fewest layers that are set apart.
MANY = 24


def of_many_layers(path):
    """Layers of all kinds, whose names hold those of others, and of their indexes."""
    for i in range(MANY - 10):
        write(points(3, a=[i, i + 1, i + 2], t=["x", None, "Straße"]), path, layer=f"l{i}")
    write(frame(BOWTIE, SQUARE, None, n=[1, 2, 3]), path, layer="A")
    write(points(2, crs=3857), path, layer="a_geom")
    write(points(2), path, layer='Größe und "Maß"\'s')
    write(frame("POINT(1 2)", SQUARE, "LINESTRING(0 0, 1 1)"), path, layer="mixed")
    write(points(2), path, layer="no_index", SPATIAL_INDEX="NO")
    write(points(2), path, layer="own_key", FID="key")
    pyogrio.write_dataframe(pd.DataFrame({"n": [1, 2]}), path, layer="bare", append=True)
    write(points(4).iloc[:0], path, layer="empty", geometry_type="Point")
    with closing(sqlite3.connect(path)) as database, database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f"drop trigger {quoted(name)}")
        for name in ("curved", "damaged"):
            database.execute(f"create table {name} (fid integer primary key, geom blob, v text)")
            database.execute(
                "insert into gpkg_contents (table_name, data_type, identifier, srs_id) values (?, 'features', ?, 4326)",
                (name, name),
            )
            database.execute("insert into gpkg_geometry_columns values (?, 'geom', 'GEOMETRY', 4326, 0, 0)", (name,))
        header = b"GP\x00\x01" + (4326).to_bytes(4, "little")
        arc = b"\x01\x08\x00\x00\x00\x03\x00\x00\x00" + b"".join(
            struct.pack("<dd", x, y) for x, y in ((0, 0), (1, 1), (2, 0))
        )
        database.execute("insert into curved values (1, ?, 'arc')", (header + arc,))
        database.execute("insert into damaged values (1, ?, 'junk')", (b"GP\x00\x01junk",))
        database.execute("insert into damaged values (2, null, 'none')")
        database.execute("create view seen as select * from l1")
    return path


def read(path, look, private, **request):
    """All plans and warnings, and what is sent of each layer, with its rejects."""
    report = look(path, attribute_tables=True, **request)
    folder = private(path)
    sent = {}
    for plan in report.layers:
        file, said = send(folder, plan)
        tables = [pa.ipc.open_stream(file).read_all().to_pylist() for _ in range(2)]
        sent[plan.layer, plan.part] = (tables, json.dumps(said, default=told, sort_keys=True))
    return json.dumps(report, default=told, sort_keys=True), sent


@pytest.mark.parametrize("request_", [{}, {"thorough": False}, {"trust_geometry": True}, {"mixed": "split"}])
def test_each_layer_is_what_it_is_in_the_whole_file(tmp_path, look, private, monkeypatch, request_):
    path = of_many_layers(tmp_path / "a.gpkg")
    shown = []
    monkeypatch.setattr(
        gpkg_alone, "show", lambda path, layer, show=gpkg_alone.show: (shown.append(layer), show(path, layer))
    )
    alone = read(path, look, private, **request_)
    assert len(set(shown)) >= MANY - 1
    shown.clear()
    monkeypatch.setattr(gpkg_alone, "_FEWEST", sys.maxsize)
    whole = read(path, look, private, **request_)
    assert shown == []
    assert alone[0] == whole[0]
    assert alone[1] == whole[1]


def test_the_file_itself_is_not_changed_and_its_triggers_do_nothing(tmp_path, look, private):
    path = of_many_layers(tmp_path / "a.gpkg")
    with closing(sqlite3.connect(path)) as database, database:
        for when in ("insert", "delete"):
            database.execute(f"create trigger {when}s after {when} on gpkg_contents begin delete from l1; end")
    copy = private(path)
    before = copy.read_bytes()
    plan = next(plan for plan in look(path).layers if plan.layer == "l1")
    file, _ = send(copy, plan)
    assert len(pa.ipc.open_stream(file).read_all()) == 3
    assert copy.read_bytes() == before


def test_a_layer_of_many_takes_as_long_as_one_of_few(tmp_path, look):
    seconds = {}
    for count in (25, 100):
        path = tmp_path / f"{count}.gpkg"
        for i in range(count):
            write(points(2), path, layer=f"l{i}")
        began = time.process_time()
        assert len(look(path, thorough=False).layers) == count
        seconds[count] = (time.process_time() - began) / count
    assert seconds[100] < 2 * seconds[25]  # it was 4 times as much


def test_what_sqlite_might_move_or_could_not_write_is_left_as_it_is(tmp_path):
    path = of_many_layers(tmp_path / "a.gpkg")
    vacuumed, foreign = tmp_path / "vacuumed.gpkg", tmp_path / "foreign.gpkg"
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma auto_vacuum = full")
        database.execute("vacuum into ?", (str(vacuumed),))
        database.execute("pragma writable_schema = on")
        database.execute("update sqlite_master set sql = replace(sql, '\"t\"', cast(x'22D622' as text))")
        database.commit()
        database.execute("pragma auto_vacuum = none")
    path.rename(foreign)
    for each in (vacuumed, foreign):
        before = each.read_bytes()
        gpkg_alone.set_apart(each)
        assert not gpkg_alone.is_alone(each)
        assert each.read_bytes() == before


def test_a_copy_that_there_is_no_room_for_is_not_made(tmp_path, look, monkeypatch):
    path = of_many_layers(tmp_path / "a.gpkg")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpkg_alone, "shutil", SimpleNamespace(copyfile=full))
    assert len(look(path).layers) >= MANY - 4
