"""Connections say the same to the database, whatever else a process has imported, and are replaced if it ends them."""

import importlib
import os
import socket
import stat
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.database.connections import connect, open_pool
from geo_assets.serving.reader import open_reader_for_threads
from geo_assets.storage.kinds import Kind
from geo_assets.vector.tables.session import open_session
from geo_assets_tests.keepalive import seconds_until_noticed

ODD = {Kind.RASTER: 1, "large": 2**70}


@pytest.mark.parametrize("imported", ["json", "pypgstac.db"])
def test_json_is_written_alike_before_and_after_pypgstac_is_imported(settings, imported):
    importlib.import_module(imported)
    with connect(settings) as conn:
        assert conn.execute("select %s", (Jsonb(ODD),)).fetchone() == ({"raster": 1, "large": 2**70},)
    with open_pool(settings) as pool, pool.connection() as conn:
        assert list(conn.execute("select %s", (Jsonb(ODD),)).fetchone().values()) == [{"raster": 1, "large": 2**70}]


def connected_to(port):
    """The descriptors of this process's connections to a port."""
    found = set()
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                if sock.getpeername()[1:] == (port,):
                    found.add(descriptor)
        except OSError:
            continue  # no socket, or closed since
    return found


@pytest.mark.parametrize(
    "open_", [connect, open_pool, open_reader_for_threads, lambda s: open_session(s.dsn("pipeline"))]
)
def test_a_server_that_vanished_while_it_is_waited_for_is_noticed_within_half_a_minute(settings, open_):
    before = connected_to(settings.pg_port)
    with open_(settings):
        opened = connected_to(settings.pg_port) - before
        assert {seconds_until_noticed(descriptor) for descriptor in opened} == {25}


@pytest.mark.parametrize(("open_", "role"), [(open_pool, "pipeline"), (open_reader_for_threads, "reader")])
def test_a_pool_gives_out_a_new_connection_at_once_when_the_server_has_ended_the_one_it_had(settings, open_, role):
    def pid(conn):
        return conn.execute("select pg_backend_pid() as pid").fetchone()["pid"]

    with open_(settings) as pool, psycopg.connect(settings.dsn(role), autocommit=True) as other:
        for _ in range(3):
            with pool.connection() as conn:
                before = pid(conn)
            other.execute("select pg_terminate_backend(%s, 10000)", (before,))
            began = time.monotonic()
            with pool.connection() as conn:
                assert pid(conn) != before
            assert time.monotonic() - began < 5
