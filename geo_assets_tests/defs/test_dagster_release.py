"""What we take from Dagster that it does not promise: each release is looked at before it is taken.

Where one of these fails, read the module that its message names and the decision beside it, before the version goes up.
"""

import ast
import inspect
import multiprocessing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution import context_creation_job
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._grpc import server
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from dagster_webserver.app import create_app_from_workspace_process_context

import geo_assets
from geo_assets.defs import code_server

PACKAGE = Path(geo_assets.__file__).parent


def private_imports():
    """(our module, Dagster's, name) for everything that we import of a module of Dagster's that it calls private."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster") and "._" in node.module:
                yield from ((path.relative_to(PACKAGE).as_posix(), node.module, each.name) for each in node.names)


@pytest.mark.parametrize(("ours", "module", "name"), private_imports())
def test_what_we_import_of_dagsters_private_modules_is_where_it_was(ours, module, name):
    if find_spec(module.partition(".")[0]) is None:
        pytest.skip("an extra that is not installed")
    said = f"{ours} needs {name} of {module}, which this release of Dagster has moved or taken away"
    try:
        found = hasattr(import_module(module), name)
    except ImportError:
        found = False
    assert found, said


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        ("defs/webserver.py", WorkspaceProcessContext.__init__, {"instance", "version", "workspace_load_target"}),
        ("defs/webserver.py", create_app_from_workspace_process_context, {"live_data_poll_rate"}),
        ("defs/webserver.py", dg.DagsterInstance.optimize_for_webserver, {"statement_timeout", "pool_recycle"}),
        ("defs/executors.py", dg.InitExecutorContext, {"executor_def", "executor_config"}),
        ("defs/runs.py", dg.DagsterInstance.get_records_for_run, {"of_type", "limit"}),
        ("defs/runs.py", dg.RunsFilter, {"run_ids", "tags", "created_after"}),
    ],
)
def test_what_we_call_of_dagster_still_takes_what_we_pass(ours, theirs, names):
    lacking = names - set(inspect.signature(theirs).parameters)
    assert not lacking, f"{ours} passes {', '.join(sorted(lacking))} to {theirs.__qualname__}, which takes it no more"


def test_dagsters_server_still_starts_runs_with_the_start_method_spawn_asked_for_by_name():
    source = inspect.getsource(server)
    said = "defs/code_server.py puts forkserver in its place (docs/decisions/0017)"
    assert source.count('multiprocessing.get_context("spawn")') == 1, said
    assert source.count("get_context(") == 1, said
    assert source.count("self._mp_ctx.Process(") == source.count(".Process("), said


def test_dagster_still_asks_by_that_name_for_the_loggers_of_a_run_whose_configuration_names_none():
    source = inspect.getsource(context_creation_job)
    assert source.count("in default_system_loggers(") == 3, "defs/lines.py puts our console in its place"


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
