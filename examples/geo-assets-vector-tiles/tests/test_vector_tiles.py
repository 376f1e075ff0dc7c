"""Tiles of a table in the database of a running stack, read back by GDAL; and what is offered."""

from uuid import uuid4

import psycopg
import pyogrio
import pytest
from geo_assets_vector_tiles.job import VectorTiles
from geo_assets_vector_tiles.tiles import write_tiles
from pmtiles.reader import MmapSource, Reader
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import JOB_TYPES, validate_parameters
from geo_assets.settings import load_settings


@pytest.fixture
def conn():
    try:
        conn = psycopg.connect(load_settings().dsn("pipeline"), autocommit=True, connect_timeout=5)
    except psycopg.OperationalError:
        pytest.skip("no stack is running; start it with: geo-assets up")
    with conn:
        yield conn


@pytest.fixture
def table(conn):
    """Makes a table as geo_assets publishes it, with these rows of (name, height, WKT)."""
    name = f"of_tests_{uuid4().hex[:8]}"

    def make(*rows, srid=4326):
        conn.execute(
            sql.SQL(
                "create table vector.{} (gid bigint primary key, name text, height float8, geom geometry(geometry, {}))"
            ).format(sql.Identifier(name), srid)
        )
        insert = sql.SQL("insert into vector.{} values (%s, %s, %s, st_geomfromtext(%s, {}))").format(
            sql.Identifier(name), srid
        )
        for gid, row in enumerate(rows, 1):
            conn.execute(insert, (gid, *row))
        return name

    yield make
    conn.execute(sql.SQL("drop table if exists vector.{}").format(sql.Identifier(name)))


def read(path, zoom):
    return pyogrio.read_dataframe(path, ZOOM_LEVEL=zoom)


def test_every_row_is_at_the_last_zoom_with_its_attributes_and_in_its_place(conn, table, tmp_path):
    name = table(
        ("field", 1.5, "POLYGON((8 50, 8.2 50, 8.2 50.1, 8 50.1, 8 50))"),
        ("hut", None, "POLYGON((8.1 50.05, 8.10000001 50.05, 8.1 50.05000001, 8.1 50.05))"),
        ("nowhere", 2.0, None),
    )
    written = write_tiles(conn, name, tmp_path / "a.pmtiles", max_zoom=8, most_parts=1_000)
    assert written.zoom == 8
    assert written.box == pytest.approx((8, 50, 8.2, 50.1))
    last = read(tmp_path / "a.pmtiles", 8).to_crs(4326).dissolve("name").sort_index()
    assert last.index.tolist() == ["field", "hut"]
    assert last.geometry["field"].bounds == pytest.approx((8, 50, 8.2, 50.1), abs=0.001)
    assert last.geometry["hut"].centroid.coords[0] == pytest.approx((8.1, 50.05), abs=0.001)
    assert last.height["field"] == 1.5
    assert read(tmp_path / "a.pmtiles", 0).name.tolist() == ["field"]


def test_the_same_rows_give_the_same_bytes_and_metadata_that_maps_read(conn, table, tmp_path):
    name = table(*((f"p{i}", i, f"POINT({i} {i / 2})") for i in range(50)))
    for file in ("a", "b"):
        write_tiles(conn, name, tmp_path / file, max_zoom=3, most_parts=1_000)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with (tmp_path / "a").open("rb") as file:
        reader = Reader(MmapSource(file))
        header, metadata = reader.header(), reader.metadata()
    assert (header["min_zoom"], header["max_zoom"]) == (0, 3)
    assert (header["max_lon_e7"], header["max_lat_e7"]) == (490_000_000, 245_000_000)
    assert metadata["vector_layers"] == [
        {"id": name, "fields": {"gid": "Number", "name": "String", "height": "Number"}}
    ]


def test_tiles_end_before_the_zoom_whose_tiles_would_hold_too_much(conn, table, tmp_path):
    name = table(("all", 1, "POLYGON((-179 -80, 179 -80, 179 80, -179 80, -179 -80))"))
    assert write_tiles(conn, name, tmp_path / "a", max_zoom=8, most_parts=100).zoom == 3


def test_a_table_without_a_geometry_has_no_file(conn, table, tmp_path):
    assert write_tiles(conn, table(("a", 1, None)), tmp_path / "a", max_zoom=2, most_parts=10) is None
    assert not (tmp_path / "a").exists()


def test_rows_in_another_crs_and_beyond_web_mercator_are_drawn_where_they_are(conn, table, tmp_path):
    name = table(("pole", 1, "POLYGON((0 80, 40 80, 40 89, 0 89, 0 80))"))
    write_tiles(conn, name, tmp_path / "a.pmtiles", max_zoom=2, most_parts=1_000)
    west, south, east, north = read(tmp_path / "a.pmtiles", 2).to_crs(4326).total_bounds
    assert (west, south, east) == pytest.approx((0, 80, 40), abs=0.1)
    assert 85 < north < 85.2


def test_the_job_type_is_offered_with_the_parameters_of_vectors_and_its_own():
    assert JOB_TYPES["vector_tiles"] is VectorTiles
    asked = validate_parameters("vector_tiles", {"container": "landing", "where": "a > 1", "max_zoom": 9})
    assert asked.stages == ("vector_tables", "vector_tiles")
    with pytest.raises(GeoAssetsError, match="on_error"):
        validate_parameters("vector_tiles", {"container": "landing", "on_error": "fail"})
