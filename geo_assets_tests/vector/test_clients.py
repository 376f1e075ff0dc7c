"""Programs that people point at the database: a table must show up at once, with its key, type, SRID and comments."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from geo_assets.local.postgresql import free_port
from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.vector.builders import NATURAL_EARTH
from geo_assets_tests.vector.test_commands import load


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        body = answer.read()
        return json.loads(body) if "json" in answer.headers["content-type"] else body


@pytest.fixture
def tipg(cli):
    """tipg from the package index, in an environment of its own, as the reader."""
    exports = cli.exports
    port = free_port()
    env = {
        **cli.env,
        "DATABASE_URL": (
            f"postgresql://{exports['PGUSER']}:{exports['PGPASSWORD']}@{exports['PGHOST']}:{exports['PGPORT']}/{exports['PGDATABASE']}"
        ),
        "TIPG_DB_SCHEMAS": '["vector"]',
        "TIPG_DB_SPATIAL_EXTENT": "true",
    }
    command = [
        "uv",
        "run",
        "--isolated",
        "--no-project",
        "--with",
        "tipg>=1.6,<2",
        "--with",
        "uvicorn",
        "uvicorn",
        "tipg.main:app",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for _ in range(240):
            try:
                get(f"http://127.0.0.1:{port}/healthz")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, process.stdout.read().decode()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
def test_tipg_serves_a_table_as_features_and_as_tiles(cli, request):
    load(cli, NATURAL_EARTH, "vector.countries")
    base = request.getfixturevalue("tipg")
    collections = {c["id"]: c for c in get(f"{base}/collections")["collections"]}
    assert "vector.countries" in collections
    found = get(f"{base}/collections/vector.countries/items?limit=200&name=Fiji")
    assert found["numberMatched"] == 1
    (feature,) = found["features"]
    assert feature["id"] > 0
    assert (feature["geometry"]["type"], feature["properties"]["iso_a3"]) == ("MultiPolygon", "FJI")
    assert get(f"{base}/collections/vector.countries/items?bbox=170,-50,179,-30&limit=10")["numberMatched"] == 1
    assert len(get(f"{base}/collections/vector.countries/tiles/WebMercatorQuad/0/0/0")) > 1000


def test_a_table_is_what_qgis_martin_and_pg_tileserv_look_for(cli):
    """Their own questions: a typed geometry column with an SRID, a GiST index, a single integer key, SELECT,
    statistics, comments.
    """
    load(cli, NATURAL_EARTH, "vector.contract")
    with connect(cli) as db:
        pg_tileserv = """
            select n.nspname, c.relname, coalesce(d.description, ''), a.attname, postgis_typmod_srid(a.atttypmod), postgis_typmod_type(a.atttypmod), ia.attname
              from pg_class c join pg_namespace n on c.relnamespace = n.oid join pg_attribute a on a.attrelid = c.oid join pg_type t on a.atttypid = t.oid
              left join pg_description d on c.oid = d.objoid and d.objsubid = 0
              left join pg_index i on c.oid = i.indrelid and i.indisprimary and i.indnatts = 1
              left join pg_attribute ia on ia.attrelid = i.indexrelid left join pg_type it on ia.atttypid = it.oid and it.typname in ('int2', 'int4', 'int8')
             where c.relkind in ('r', 'v', 'm', 'p', 'f') and t.typname = 'geometry' and a.attnum > 0 and has_table_privilege('geo_reader', c.oid, 'select')
               and postgis_typmod_srid(a.atttypmod) > 0 and c.relname = 'contract'"""
        assert db.execute(pg_tileserv).fetchall() == [
            ("vector", "contract", f"{NATURAL_EARTH}", "geom", 4326, "MultiPolygon", "gid")
        ]  # fmt: skip
        assert db.execute("select reltuples > 0 from pg_class where oid = 'vector.contract'::regclass").fetchone() == (
            True,
        )
        assert db.execute(
            "select count(*) from pg_stats where tablename = 'contract' and attname = 'geom'"
        ).fetchone() == (1,)
