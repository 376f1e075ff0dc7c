"""Real files, when GEO_ASSETS_SAMPLES names a directory with a `vector` folder: through the sandbox, against an
independent reading.
"""

import os
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from geo_assets.sandbox.pool import SandboxPool
from geo_assets.vector.models import InspectReport, InspectRequest, StreamReport, StreamRequest
from geo_assets.vector.tables.load import stage_table
from geo_assets_tests.vector.publishing import publish

_FOLDER = Path(os.environ.get("GEO_ASSETS_SAMPLES", "/nonexistent")) / "vector"
_SAMPLES = sorted(p for p in _FOLDER.iterdir() if p.suffix != ".tsv") if _FOLDER.is_dir() else []


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with SandboxPool(tmp_path_factory.mktemp("pool")) as pool:
        yield pool


def reference(path):
    """The file as geopandas reads it, repaired as we repair."""
    if path.suffix == ".parquet":
        frame = gpd.read_parquet(path)
    elif path.suffix == ".csv":
        table = pd.read_csv(path)
        frame = gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(table["lon"], table["lat"]), crs=4326)
    else:
        frame = gpd.read_file(f"/vsizip/{path}" if path.suffix == ".zip" else path)
    return frame.set_geometry(
        gpd.GeoSeries(
            shapely.make_valid(frame.geometry.values, method="structure", keep_collapsed=False), crs=frame.crs
        )
    )


@pytest.mark.filterwarnings("ignore:Geometry is in a geographic CRS")
@pytest.mark.skipif(not _SAMPLES, reason="GEO_ASSETS_SAMPLES names no directory with a vector folder")
@pytest.mark.parametrize("path", _SAMPLES, ids=lambda p: p.name)
def test_a_sample_in_postgis_equals_an_independent_reading(pool, db, path):
    with pool.workspace() as folder:
        source = shutil.copy(path, folder)
        (plan,) = pool.call(
            "geo_assets.vector.reader.inspect:inspect", InspectRequest(source=str(source)), InspectReport
        ).layers
        with pool.stream(
            "geo_assets.vector.reader.stream:stream", StreamRequest(source=str(source), plan=plan)
        ) as stream:
            staged = stage_table(
                db.dsn,
                plan,
                "sample",
                stream.file,
                lambda: stream.report(StreamReport),
                staging_suffix="s",
                source=path.name,
            )
    done = publish(db.conn, staged)
    expected = reference(path)
    assert done.rows + sum(staged.report.rejected.values()) == len(expected)
    ((kind, srid),) = db.rows("select type, srid from geometry_columns where f_table_name = 'sample'")
    assert kind != "GEOMETRY"
    geometry = expected.to_crs(srid).geometry
    box = db.rows(
        "select st_xmin(e), st_ymin(e), st_xmax(e), st_ymax(e) from (select st_extent(geom) e from vector.sample) x"
    )[0]
    assert np.allclose(box, geometry.total_bounds, rtol=1e-6, atol=1e-6)
    area, length = db.rows("select sum(st_area(geom)), sum(st_length(geom)) from vector.sample")[0]
    assert np.isclose(area, geometry.area.sum(), rtol=1e-6)
    assert "POLYGON" in kind or np.isclose(length, geometry.length.sum(), rtol=1e-6)
    assert db.value("select count(*) from vector.sample where not st_isvalid(geom)") == 0
