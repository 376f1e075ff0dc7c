"""Geometries that name another SRID than their layer, in a GeoPackage and in GeoParquet."""

import json
import sqlite3
import struct
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geo_assets_tests.vector.builders import altered, points, write
from geo_assets_tests.vector.conftest import send
from geo_assets_tests.vector.test_later import as_the_stages_load

ANOTHER = {"another SRID than the other rows": 1}


def geopackage(path, *srids):
    """A GeoPackage in EPSG:4326 whose geometries name these SRIDs."""
    write(points(len(srids)), path, layer="l")
    with closing(sqlite3.connect(path)) as database:
        column = database.execute("select column_name from gpkg_geometry_columns").fetchone()[0]
        shapes = dict(database.execute(f"select fid, {column} from l").fetchall())
    changed = [
        (f"update l set {column} = ? where fid = ?", (shapes[fid][:4] + struct.pack("<i", srid) + shapes[fid][8:], fid))
        for fid, srid in zip(sorted(shapes), srids, strict=True)
    ]
    return altered(path, *changed)


def test_a_geometry_of_a_geopackage_that_names_another_srid_than_the_others_is_rejected(tmp_path, load, db):
    path = geopackage(tmp_path / "a.gpkg", 4326, 25832, 4326, 0, -1)
    loaded = load(path, "strays")
    assert db.value("select count(*) from {t}", t=loaded.table) == 4
    assert db.rows("select src_fid, reason from {t}", t=f"{loaded.table}__rejects") == [(2, next(iter(ANOTHER)))]


@pytest.mark.parametrize("trust", [False, True])
def test_where_a_layer_is_read_as_its_file_states_it_such_a_geometry_makes_it_looked_at_first(tmp_path, trust):
    path = geopackage(tmp_path / "a.gpkg", 4326, 25832, 4326)
    plan, rows, attempts = as_the_stages_load(path, trust_geometry=trust)
    assert (len(rows), plan.rejected_by_reason, attempts) == (2, ANOTHER, 2)


@pytest.mark.parametrize("srid", [0, -1, 4326])
def test_a_geopackage_whose_geometries_name_none_or_that_of_their_layer_is_loaded_without_a_note(tmp_path, look, srid):
    (plan,) = look(geopackage(tmp_path / "a.gpkg", srid, srid)).layers
    assert (plan.srid, plan.warnings, plan.rejected_by_reason) == (4326, (), {})


def test_where_all_geometries_of_a_geopackage_name_another_srid_the_layers_counts_with_a_note(tmp_path, look):
    (plan,) = look(geopackage(tmp_path / "a.gpkg", 25832, 25832, 25832)).layers
    note = "3 geometries that name SRID 25832, which were taken for those of their layer, 4326"
    assert (plan.srid, plan.warnings, plan.rejected_by_reason) == (4326, (note,), {})


def geoparquet(path, *srids):
    """A GeoParquet in longitude and latitude whose geometries name these SRIDs; 0: none."""
    shapes = [shapely.to_wkb(shapely.set_srid(shapely.Point(3, 4), srid), include_srid=srid > 0) for srid in srids]
    geo = {"version": "1.1.0", "primary_column": "g", "columns": {"g": {"encoding": "WKB", "geometry_types": []}}}
    table = pa.table({"g": pa.array(shapes, pa.binary()), "n": list(range(len(srids)))})
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(geo)}), path)
    return path


def test_a_geometry_of_a_geoparquet_that_names_another_srid_is_rejected(tmp_path, look, private):
    path = geoparquet(tmp_path / "a.parquet", 4326, 25830, 0)
    (plan,) = look(path).layers
    assert (plan.srid, plan.warnings, plan.rejected_by_reason) == (4326, (), ANOTHER)
    assert send(private(path), plan)[1].rejected == ANOTHER


def test_where_all_geometries_of_a_geoparquet_name_another_srid_its_crs_counts_with_a_note(tmp_path, look):
    (plan,) = look(geoparquet(tmp_path / "a.parquet", 25830, 25830)).layers
    assert (plan.srid, plan.rejected_by_reason) == (4326, {})
    assert plan.warnings == ("its geometries name SRID 25830, and were taken for those of its CRS, as it is declared",)
