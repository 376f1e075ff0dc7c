"""What `geo_reader` can do, all of it, in a migrated database."""

from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from geo_assets.database.bootstrap import _limit_reader, bootstrap
from geo_assets.database.connections import connect
from geo_assets.parameters import validate_parameters

TABLE_RIGHTS = """
    select c.oid::regclass::text, p.kind
      from pg_class c, unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) as p(kind)
     where c.relkind in ('r', 'p', 'v', 'm', 'f') and has_table_privilege('geo_reader', c.oid, p.kind)"""

GEO_RELATIONS = """
    select c.relname from pg_class c
     where c.relnamespace = 'geo'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and has_table_privilege('geo_reader', c.oid, 'SELECT')"""

HARMFUL = r"""
    select p.oid::regprocedure::text from pg_proc p
     where has_function_privilege('geo_reader', p.oid, 'EXECUTE')
       and (p.proname ~ '^(lo_|loread|lowrite)' or p.proname ~ 'advisory' or p.proname ~ '^pg_(read|ls|stat)_?(file|dir|binary)'
            or p.proname ~ '^(dblink|pg_reload|pg_rotate|pg_promote|pg_switch_wal|pg_create_restore|pg_logical_emit)')"""

#: For an old pgAdmin; they look themselves who calls.
ASK_FOR_A_SUPERUSER = {"pg_read_file_old(text,bigint,bigint)", "pg_rotate_logfile_old()"}

DEFINERS = """
    select p.oid::regprocedure::text from pg_proc p
     where p.prosecdef and p.pronamespace <> 'pg_catalog'::regnamespace and has_function_privilege('geo_reader', p.oid, 'EXECUTE')"""


def all_of(db, query):
    return {row if len(row) > 1 else row[0] for row in db.execute(query)}


@pytest.fixture
def reader(settings):
    with connect(settings, "reader", autocommit=True) as db:
        yield db


def test_the_reader_writes_no_table(reader):
    assert all_of(reader, TABLE_RIGHTS) == {("pg_settings", "UPDATE")}  # which is SET


def test_the_reader_sees_the_ledger_but_no_message_and_no_token(reader):
    seen = all_of(reader, GEO_RELATIONS)
    assert {"jobs", "attempts", "tasks", "job_status", "published", "inventory"} <= seen
    assert not seen & {"messages", "message_heads", "api_tokens", "errors"}
    reader.execute("select error_id, code, message, remedy, job_id from geo.errors")
    for query in (
        "select excerpt from geo.errors",
        "select head from geo.message_heads",
        "select * from geo.messages",
        "select * from geo.api_tokens",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(query)


def test_the_reader_creates_nothing(reader):
    creates = (
        "select nspname from pg_namespace where has_schema_privilege('geo_reader', oid, 'CREATE') and nspname not like"
        " 'pg\\_%temp%'"
    )
    assert all_of(reader, creates) == set()
    rights = (
        "select has_database_privilege('geo_reader', current_database(), 'CREATE'),"
        " has_database_privilege('geo_reader', current_database(), 'TEMP')"
    )
    assert reader.execute(rights).fetchone() == (False, False)
    for statement in (
        "create temp table t (n int)",
        "create table public.t (n int)",
        "create schema s",
        "create extension hstore",
        "create role r",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(statement)


def test_the_reader_calls_no_function_that_locks_stores_or_reads_files(reader):
    assert all_of(reader, HARMFUL) <= ASK_FOR_A_SUPERUSER
    for call in (
        "lo_create(0)",
        "lo_from_bytea(0, 'x')",
        "pg_advisory_lock(1)",
        "pg_try_advisory_xact_lock_shared(1, 2)",
        "pg_read_file('PG_VERSION')",
        "pg_logical_emit_message(false, 'x', repeat('x', 1000))",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"select {call}")


def test_the_reader_fills_no_disk_with_temporary_files_and_cannot_lift_the_limit(reader):
    assert reader.execute("show temp_file_limit").fetchone() == ("1GB",)
    for lift in (
        "set temp_file_limit = -1",
        "alter role geo_reader set temp_file_limit = -1",
        "alter role geo_reader reset temp_file_limit",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(lift)
    reader.execute("set work_mem = '64kB'")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temporary file size exceeds"):
        reader.execute(
            "select count(*) from (select n, repeat('x', 4000) as x from generate_series(1, 400000) n order by x, n"
            " desc offset 1) s"
        )


def test_the_reader_has_twenty_sessions_and_the_pipeline_is_served_while_they_last(settings):
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(psycopg.connect(settings.dsn("reader")))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            psycopg.connect(settings.dsn("reader"))
        with connect(settings, "pipeline") as db:
            assert db.execute("select 1").fetchone() == (1,)


def test_a_host_that_keeps_the_limit_of_files_to_itself_is_warned_of_and_bootstrapped(settings, caplog):
    admin = f"postgresql://postgres:secret@127.0.0.1:{settings.pg_port}/postgres"
    with psycopg.connect(admin, autocommit=True) as db:
        db.execute("create role host_admin createrole")
        try:
            db.execute("set session authorization host_admin")
            _limit_reader(db, "geo_reader")
        finally:
            db.execute("reset session authorization")
            db.execute("drop role host_admin")
    assert "temp_file_limit" in caplog.text
    assert "pgstac.readonly" in caplog.text


def test_the_reader_calls_nothing_with_the_rights_of_another(reader):
    """But for PostGIS's, which looks at the statistics of tables that the caller may read, and the newest run
    of a job.
    """
    definers = all_of(reader, DEFINERS)
    assert {name.partition("(")[0] for name in definers} <= {"st_estimatedextent", "geo.newest_run"}
    look = (
        "select prosrc, proconfig, proowner::regrole::text from pg_proc where oid ="
        " 'geo.newest_run(text)'::regprocedure"
    )
    assert reader.execute(look).fetchone()[1:] == (["search_path=pg_catalog, pg_temp"], "geo_pipeline")
    assert "execute" not in reader.execute(look).fetchone()[0].lower()  # nothing that a caller could fill in


def test_the_reader_reads_every_relation_of_the_ledger_that_it_is_given(settings, reader, submitter, dagster):
    """With jobs and runs in them: what a view calls is first called for a row."""
    submitted = submitter.submit(validate_parameters("hello_world", {"message": "for the reader"}), submitted_by="test")
    run_id = dagster.run(submitter.jobs.find(submitted.job_id), "STARTED")
    for relation in all_of(reader, GEO_RELATIONS) - {"errors"}:
        reader.execute(sql.SQL("select * from geo.{}").format(sql.Identifier(relation))).fetchall()
    seen = reader.execute("select status, run_id from geo.job_status where job_id = %s", (submitted.job_id,)).fetchone()
    assert seen == ("processing", run_id)


def test_the_reader_looks_at_dagsters_storage_by_no_other_way(settings, reader, dagster):
    for query in ("select * from dagster.runs", "select * from dagster.run_tags", "select geo.was_terminated('x')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(query)
    assert reader.execute("select has_schema_privilege('geo_reader', 'dagster', 'usage')").fetchone() == (False,)
    assert reader.execute("select has_schema_privilege('geo_pipeline', 'geo', 'create')").fetchone() == (False,)
    assert reader.execute("select * from geo.newest_run('no partition of a job')").fetchall() == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # nor does a table of the caller's own come before it
        reader.execute("create temp table runs (run_id text)")


def test_the_reader_is_a_member_of_pgstacs_readers_alone(reader):
    member = "select rolname from pg_roles where pg_has_role('geo_reader', oid, 'MEMBER') and rolname <> 'geo_reader'"
    assert all_of(reader, member) == {"pgstac_read"}
    flags = (
        "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls from pg_roles where rolname"
        " = 'geo_reader'"
    )
    assert reader.execute(flags).fetchone() == (False,)


def test_the_reader_searches_the_catalogue_counts_and_finds_a_search_that_was_registered(settings, reader):
    item = {
        "id": "i",
        "collection": "of_the_reader",
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [1, 2]},
    }
    item |= {"bbox": [1, 2, 1, 2], "properties": {"datetime": "2024-01-01T00:00:00Z"}, "assets": {}, "links": []}
    registered = Jsonb({"collections": ["of_the_reader"]})
    with connect(settings, "pipeline") as db:
        db.execute("set local search_path to pgstac, public")
        db.execute("select create_collection(%s)", (Jsonb({"id": "of_the_reader", "type": "Collection"}),))
        db.execute("select create_item(%s)", (Jsonb(item),))
        (hashed,) = db.execute("select hash from search_query(%s)", (registered,)).fetchone()
    with connect(settings, "pipeline") as db:
        kept = (
            "select (select count(*) from pgstac.searches), (select count(*) from pgstac.search_wheres), (select"
            " count(*) from pgstac.format_item_cache)"
        )
        before = db.execute(kept).fetchone()
        assert before[0]
    reader.execute("set search_path to pgstac, public")
    for conf in ({}, {"context": "on"}, {"context": "auto"}):
        query = {
            "limit": 1,
            "collections": ["of_the_reader"],
            "filter": {"op": "<", "args": [{"property": "datetime"}, "2025-01-01"]},
            "conf": conf,
        }
        found = reader.execute("select search(%s)", (Jsonb(query),)).fetchone()[0]
        assert [feature["id"] for feature in found["features"]] == ["i"]
        assert found["numberMatched"] == 1 if conf else "numberMatched" not in found
    assert reader.execute("select search->'collections' from search_fromhash(%s)", (hashed,)).fetchone() == (
        ["of_the_reader"],
    )
    assert reader.execute("select get_item('i', 'of_the_reader')->>'id'").fetchone() == ("i",)
    with connect(settings, "pipeline") as db:
        assert db.execute(kept).fetchone() == before
        db.execute("set local search_path to pgstac, public")
        db.execute("select delete_item('i', 'of_the_reader')")
        db.execute("select delete_collection('of_the_reader')")


def test_pipeline_and_migrator_keep_their_locks_and_the_pipeline_its_temporary_tables(settings):
    for role in ("pipeline", "migrator"):
        with connect(settings, role) as db:
            db.execute("select pg_advisory_xact_lock(1), pg_try_advisory_lock_shared(2), pg_advisory_unlock_shared(2)")
            db.execute("create temp table t (n int)")


def test_a_second_bootstrap_changes_nothing(settings):
    admin = f"postgresql://postgres:secret@127.0.0.1:{settings.pg_port}/postgres"
    with connect(settings) as db:
        before = all_of(db, "select oid, proacl::text from pg_proc where proacl is not null")
    bootstrap(admin, settings)
    with connect(settings) as db:
        assert all_of(db, "select oid, proacl::text from pg_proc where proacl is not null") == before


@pytest.mark.parametrize("role", ["pipeline", "reader"])
def test_a_session_of_a_person_finds_pgstacs_tables_and_functions_without_their_schema(settings, role):
    bootstrap(f"postgresql://postgres:secret@127.0.0.1:{settings.pg_port}/postgres", settings)
    with connect(settings, role) as db:
        assert db.execute("select count(*) from items").fetchone() == (0,)
        (found,) = db.execute("select search('{}')->'features'").fetchone()
    assert found == []


def test_whoever_deletes_an_item_by_pgstacs_own_function_need_not_name_a_search_path(settings):
    bootstrap(f"postgresql://postgres:secret@127.0.0.1:{settings.pg_port}/postgres", settings)
    with connect(settings) as db:
        db.execute("select pgstac.create_collection(%s)", (Jsonb({"id": "c", "type": "Collection"}),))
        with pytest.raises(psycopg.errors.NoDataFound):
            db.execute("select pgstac.delete_item('gone', 'c')")


def test_the_exports_of_the_reader_are_the_readers(cli):
    exports = cli.json("env", "--reader")
    assert exports.keys() == {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"}
    with psycopg.connect(
        f"host={exports['PGHOST']} port={exports['PGPORT']} dbname={exports['PGDATABASE']}",
        user=exports["PGUSER"],
        password=exports["PGPASSWORD"],
    ) as db:
        assert db.execute("select current_user").fetchone() == ("geo_reader",)
        db.execute("select * from geo.job_status")


def test_the_reader_sees_the_status_of_jobs(cli):
    cli.json("submit", "hello_world", "--param", "message=seen by the reader", "--wait")
    exports = cli.json("env", "--reader")
    place = f"host={exports['PGHOST']} port={exports['PGPORT']} dbname={exports['PGDATABASE']}"
    with psycopg.connect(place, user=exports["PGUSER"], password=exports["PGPASSWORD"]) as db:
        seen = "select status from geo.job_status where parameters->>'message' = 'seen by the reader'"
        assert db.execute(seen).fetchall() == [("completed",)]
