"""Connections say the same to the database, whatever else a process has imported."""

import importlib

import pytest
from psycopg.types.json import Jsonb

from geo_assets.database.connections import connect, open_pool
from geo_assets.storage.sources import Kind

ODD = {Kind.RASTER: 1, "large": 2**70}


@pytest.mark.parametrize("imported", ["json", "pypgstac.db"])
def test_json_is_written_alike_before_and_after_pypgstac_is_imported(settings, imported):
    importlib.import_module(imported)
    with connect(settings) as conn:
        assert conn.execute("select %s", (Jsonb(ODD),)).fetchone() == ({"raster": 1, "large": 2**70},)
    with open_pool(settings) as pool, pool.connection() as conn:
        assert list(conn.execute("select %s", (Jsonb(ODD),)).fetchone().values()) == [{"raster": 1, "large": 2**70}]
