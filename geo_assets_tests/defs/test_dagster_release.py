"""What we take from Dagster that it does not promise: each release is looked at before it is taken.

Where one of these fails, read the module that its message names and the decision beside it, before the version goes up.
"""

import inspect
import multiprocessing

from dagster._grpc import server
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)

from geo_assets.defs import code_server


def test_dagsters_server_still_starts_runs_with_the_start_method_spawn_asked_for_by_name():
    source = inspect.getsource(server)
    said = "defs/code_server.py puts forkserver in its place (docs/decisions/0017)"
    assert source.count('multiprocessing.get_context("spawn")') == 1, said
    assert source.count("get_context(") == 1, said
    assert source.count("self._mp_ctx.Process(") == source.count(".Process("), said


def test_where_dagster_asks_for_spawn_it_gets_forkserver_and_any_other_method_is_left_alone(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", multiprocessing.get_context)  # put back in the end
    code_server._fork_where_dagster_spawns()
    assert multiprocessing.get_context("spawn").get_start_method() == "forkserver"
    assert multiprocessing.get_context("fork").get_start_method() == "fork"


def test_the_storages_of_dagster_postgres_still_connect_through_one_attribute_each():
    said = "defs/storage.py puts a pool in its place (docs/decisions/0026)"
    parent = inspect.getsource(DagsterPostgresStorage.__init__)
    for attribute in ("_run_storage", "_event_log_storage", "_schedule_storage"):
        assert f"self.{attribute} = " in parent, said
    for storage in (PostgresRunStorage, PostgresEventLogStorage, PostgresScheduleStorage):
        assert "self._engine = create_pg_engine(" in inspect.getsource(storage.__init__), said
        assert "create_pg_connection(self._engine)" in inspect.getsource(storage), said
