"""What is swept by the janitor: one thing that cannot be swept does not keep the rest from being."""

from datetime import timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.accounts import LocalAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import blobs
from geo_assets.outcomes import Cog, CogOutputs, FileOutputs, ListingOutputs, Outputs, TableFile, TableOutputs
from geo_assets.stages.orphans import sweep_blobs, sweep_orphans
from geo_assets.stages.waiting_tables import sweep_waiting_tables


@pytest.fixture
def db(settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("delete from geo.loose_blobs")
        yield conn
        conn.execute("delete from geo.loose_blobs")


def lose(db, *names, hours=48):
    db.cursor().executemany(
        "insert into geo.loose_blobs (blob, since) values (%s, now() - make_interval(hours => %s))",
        [(name, hours) for name in names],
    )


def loose(db) -> set[str]:
    return {name for (name,) in db.execute("select blob from geo.loose_blobs")}


COG = Cog(name="tas", cog="default/cogs/a.tif", sha256="ab", thumbnail="default/thumbnails/a.png")


@pytest.mark.parametrize(
    "outputs",
    [
        Outputs(stac_item="c/a"),
        ListingOutputs(files=3, bytes=10, sources={}, ignored=0),
        CogOutputs(cog=COG.cog, sha256="ab", thumbnail=COG.thumbnail),
        CogOutputs(cog=COG.cog, sha256="ab"),
        CogOutputs(cog=COG.cog, sha256="ab", cogs=(COG, COG.model_copy(update={"cog": "default/cogs/b.tif"}))),
        FileOutputs(blobs=("default/cogs/b.x", "default/cogs/a.x")),
        TableOutputs(geoparquet=(TableFile(table="vector.t", blob="default/cogs/t.parquet", sha256="ab", bytes=1),)),
    ],
)
def test_the_ledger_and_the_outputs_name_the_same_blobs(db, outputs):
    ((named,),) = db.execute("select geo.blobs_of(%s)", (Jsonb(outputs.stored()),)).fetchall()
    assert sorted(named) == sorted(outputs.all_blobs)


def test_a_list_of_blobs_that_is_none_names_nothing(db):
    assert db.execute("select geo.blobs_of(%s)", (Jsonb({"blobs": [7, None, {"a": 1}]}),)).fetchone() == ([],)


def test_blobs_that_can_never_be_deleted_stand_in_nobodys_way(settings, db):
    refused = [f"default/cogs/a{i:02}.tif" for i in range(25)]
    lose(db, *refused)
    lose(db, "default/cogs/b.tif", hours=47)
    asked = []

    def delete(blob):
        asked.append(blob)
        if blob in refused:
            raise GeoAssetsError("STORAGE_FORBIDDEN", "it is locked")

    with psycopg.connect(settings.dsn("pipeline")) as conn:
        assert blobs.sweep(conn, delete, grace=timedelta(hours=24), limit=30) == 1
        assert sorted(asked) == [*refused, "default/cogs/b.tif"]
        assert blobs.sweep(conn, delete, grace=timedelta(hours=24), limit=30) == 0
        assert len(asked) == 26, "what was refused is put off"
        assert blobs.sweep(conn, delete, grace=timedelta(0)) == 0
        assert len(asked) == 51, "each once, also without grace"
    assert loose(db) == set(refused)


def test_a_store_that_is_away_is_asked_once_a_sweep(settings, db, tmp_path):
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    away = type(settings)(**{**given, "accounts": {"away": LocalAccount(root=tmp_path / "not-mounted")}})
    lose(db, *(f"away/cogs/{i:02}.tif" for i in range(15)))
    assert sweep_orphans(away) == 0
    assert db.execute("select count(*) from geo.loose_blobs where since > now() - interval '1 hour'").fetchone() == (1,)
    assert sweep_blobs(away, [f"away/cogs/{i:02}.tif" for i in range(15)]) == 0
    assert len(loose(db)) == 15


def test_tables_that_wait_for_nobody_are_dropped_some_at_a_time_and_one_that_cannot_be_does_not_keep_blobs_from_being_swept(
    settings, db
):
    for i in range(45):
        db.execute(f"create table vector_waiting.left_{i:02} (n int)")
        db.execute(
            "insert into geo.waiting_tables values (%s, repeat('0', 64), 'vector_tables', %s, 0, '{}')",
            (f"left_{i:02}", str(i)),
        )
    db.execute("create view public.over_what_waits as select * from vector_waiting.left_44")
    blob = settings.home / "containers" / "cogs" / "lost.tif"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(b"x")
    lose(db, "default/cogs/lost.tif")
    assert sweep_orphans(settings) == 1
    assert not blob.exists()
    left = "select count(*) from pg_tables where schemaname = 'vector_waiting' and tablename ^@ 'left_'"
    assert 0 < db.execute(left).fetchone()[0] < 45
    db.execute("drop view public.over_what_waits")
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        sweep_waiting_tables(conn)
    assert db.execute(left).fetchone() == (0,)
