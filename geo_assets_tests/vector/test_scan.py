"""For a GeoPackage whose geometry is trusted, one scan by SQLite gives the same result as GDAL."""

from dataclasses import replace

import geopandas as gpd
import pytest
import shapely

from geo_assets.vector.models import InspectRequest
from geo_assets.vector.reader.inspect import inspect
from geo_assets.vector.reader.sqlite_values import SQLiteCheck
from geo_assets_tests.vector.builders import altered, write

POLYGON = shapely.box(0, 0, 1, 1)
SOUND, NOT_SCANNED = True, False


def plan_of(path, monkeypatch, *, scans: bool):
    with monkeypatch.context() as patch:
        if not scans:
            patch.setattr(SQLiteCheck, "scan", lambda *_: None)
        request = InspectRequest(
            source=str(path), trust_geometry=True, thorough=False, look_first=True, mixed="generic"
        )
        (plan,) = inspect(request).layers
    return plan


def two_polygons(folder, *, but):
    """A GeoPackage that was changed by SQL."""
    return altered(
        write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=[POLYGON, POLYGON], crs=4326), folder / "a.gpkg"), but
    )


@pytest.mark.parametrize(
    ("geometry", "sound"),
    [
        ([POLYGON, shapely.box(5, 5, 9, 7)], SOUND),
        ([POLYGON, None, shapely.box(5, 5, 9, 7), None], SOUND),
        ([shapely.Point(0, 0), shapely.Point(8.5, 47.4)], SOUND),
        ([shapely.Point(0, 0, 0), shapely.Point(8.5, 47.4, 3)], SOUND),
        ([shapely.LineString([(0, 0), (1, 1)]), shapely.LineString([(0, 0), (9, 9)])], SOUND),
        ([shapely.MultiPolygon([POLYGON]), shapely.MultiPolygon([shapely.box(5, 5, 9, 7)])], SOUND),
        ([shapely.Point(0, 0), shapely.Point(8.5, 47.4, 3)], NOT_SCANNED),
        ([POLYGON, shapely.Point(3, 3)], NOT_SCANNED),
        ([POLYGON, shapely.Polygon()], NOT_SCANNED),
        ([shapely.Polygon(), POLYGON], NOT_SCANNED),
    ],
)
def test_the_plan_is_the_same_whoever_reads_the_geometry(tmp_path, monkeypatch, geometry, sound):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame({"n": range(len(geometry))}, geometry=geometry, crs=4326).to_file(path)
    scanned, read = (plan_of(path, monkeypatch, scans=scans) for scans in (True, False))
    assert replace(scanned, sound_values=False) == read
    assert scanned.sound_values is sound


def test_a_value_of_another_type_is_looked_for_again_on_the_way_to_the_table(tmp_path, monkeypatch):
    path = two_polygons(tmp_path, but="update a set n = 'N/A' where n = 2")
    assert not plan_of(path, monkeypatch, scans=True).sound_values


def test_bytes_that_are_no_geometry_are_left_to_who_can_say_what_is_wrong(tmp_path, monkeypatch):
    path = two_polygons(tmp_path, but="update a set geom = x'00' where n = 2")
    plan = plan_of(path, monkeypatch, scans=True)
    assert (plan.sound_values, sum(plan.rejected_by_reason.values())) == (False, 1)
