"""A real private cluster in a temporary directory: made once, started, stopped, killed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.local.debian_packages import missing_libraries, unpacked_environment
from geo_assets.local.postgresql import Cluster, find_binaries, free_port, usable_data_dir
from geo_assets_tests.databases import link_postgresql
from geo_assets_tests.processes import children, command, is_alive
from geo_assets_tests.waiting import until

NOT_DURABLE = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "20", "max_wal_size": "64MB"}


@pytest.fixture(scope="module")
def home(open_folder):
    return open_folder()


@pytest.fixture(scope="module")
def binaries(postgres_home):
    return find_binaries(postgres_home)


def new_cluster(binaries, folder: Path, **settings: str) -> Cluster:
    return Cluster(
        binaries,
        folder / "postgres",
        folder / "logs" / "postgresql.log",
        free_port(),
        "s3cret",
        {**NOT_DURABLE, **settings},
    )


def end(cluster: Cluster) -> None:
    """End the postmaster of this cluster, by its pid, whatever the test left of it."""
    pid = cluster.pid()
    if pid is not None:
        os.kill(pid, signal.SIGQUIT)
        wait_until_gone(pid)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 15
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def crash(cluster: Cluster) -> None:
    """Kill one of its processes: the server restarts within itself, which takes five seconds, since another
    is stopped.
    """
    family = {command(child): child for child in children(cluster.pid())}
    named = {name.rpartition("postgres: ")[2]: pid for name, pid in family.items()}
    os.kill(named["checkpointer"], signal.SIGSTOP)
    os.kill(named["walwriter"], signal.SIGKILL)
    until(lambda: not cluster.answers())


@pytest.fixture(scope="module")
def running(home, binaries):
    """A cluster that is up; tests of this module share it and leave it up."""
    cluster = new_cluster(binaries, home)
    cluster.init()
    cluster.start()
    yield cluster
    end(cluster)


@pytest.fixture
def stopped(home, binaries, tmp_path):
    """A cluster that was initialised and never started; what a test starts of it is ended."""
    folder = home / tmp_path.name
    folder.mkdir()
    cluster = new_cluster(binaries, folder)
    cluster.init()
    yield cluster
    end(cluster)


def ask(cluster: Cluster, query: str) -> str:
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


def test_a_started_cluster_transforms_a_point_with_postgis(running):
    with psycopg.connect(running.dsn(), autocommit=True) as connection:
        connection.execute("create extension if not exists postgis; create extension if not exists btree_gist")
        connection.execute("create extension if not exists unaccent")
    assert ask(running, "select unaccent('Île')") == "Ile"
    point = ask(running, "select st_astext(st_transform('SRID=4326;POINT(10 50)'::geometry, 3857), 1)")
    assert point == "POINT(1113194.9 6446275.8)"


def test_postgis_has_the_projection_database_and_not_only_its_fallback(running):
    """Without proj.db PROJ says nothing and transforms from the proj4 text of spatial_ref_sys: 11 cm off here."""
    with psycopg.connect(running.dsn(), autocommit=True) as connection:
        connection.execute("create extension if not exists postgis")
    x = float(ask(running, "select st_x(st_transform('SRID=4326;POINT(13.4 52.5)'::geometry, 31468))"))
    assert x == pytest.approx(4595175.599, abs=0.01)


def test_the_cluster_listens_on_loopback_only_and_asks_for_the_password(running):
    assert ask(running, "show listen_addresses") == "127.0.0.1"
    assert ask(running, "show unix_socket_directories") == ""
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(replace(running, password="wrong").dsn())


def test_the_cluster_keeps_utf8_utc_and_checksums(running):
    shown = [
        ask(running, f"show {name}") for name in ("server_encoding", "lc_collate", "timezone", "data_checksums", "jit")
    ]
    assert shown[:1] + shown[2:] == ["UTF8", "UTC", "on", "off"]
    assert shown[1] == "C.UTF-8"


def test_durability_is_on_unless_a_caller_turns_it_off(home, binaries):
    folder = home / "durable"
    folder.mkdir()
    cluster = Cluster(
        binaries, folder / "postgres", folder / "postgresql.log", free_port(), "s3cret", {"shared_buffers": "16MB"}
    )
    cluster.init()
    try:
        cluster.start()
        assert [ask(cluster, f"show {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")] == [
            "on",
            "on",
            "on",
        ]
    finally:
        end(cluster)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be someone else")
def test_the_server_of_root_is_not_root(running):
    assert Path(f"/proc/{running.pid()}").stat().st_uid != 0
    assert running.data_dir.stat().st_uid != 0


def test_starting_a_running_cluster_changes_nothing(running):
    before = running.pid()
    running.init()
    running.start()
    assert running.pid() == before


def test_two_clusters_run_side_by_side(running, stopped):
    stopped.start()
    assert running.pid() != stopped.pid()
    assert ask(running, "show data_directory") != ask(stopped, "show data_directory")


def test_stop_leaves_no_process_and_may_be_repeated(stopped):
    stopped.start()
    pid = stopped.pid()
    family = [pid, *children(pid)]
    stopped.stop()
    assert not [process for process in family if is_alive(process)]
    assert stopped.pid() is None
    stopped.stop()


def test_the_server_outlives_the_process_that_started_it(stopped):
    starter = f"""
from pathlib import Path
from geo_assets.local.debian_packages import missing_libraries, unpacked_environment
from geo_assets.local.postgresql import Binaries, Cluster
Cluster(Binaries(Path({str(stopped.binaries.bin)!r}), {stopped.binaries.version}, {dict(stopped.binaries.environment)!r}),
        Path({str(stopped.data_dir)!r}), Path({str(stopped.log_file)!r}), {stopped.port}, "s3cret", {dict(stopped.extra_settings)!r}).start()
"""
    subprocess.run([sys.executable, "-c", starter], check=True, start_new_session=True, timeout=60)
    assert ask(stopped, "select 1") == "1"


def test_a_committed_row_survives_the_death_of_the_server(stopped):
    stopped.start()
    with psycopg.connect(stopped.dsn(), autocommit=True) as connection:
        connection.execute("create table kept as select 42 as answer")
    pid = stopped.pid()
    family = children(pid)
    os.kill(pid, signal.SIGKILL)
    for process in (pid, *family):
        wait_until_gone(process)
    stopped.start()
    assert ask(stopped, "select answer from kept") == "42"


def test_a_pid_file_that_names_a_stranger_is_not_mistaken_for_the_server(stopped):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (stopped.data_dir / "postmaster.pid").write_text(f"{stranger.pid}\n{stopped.data_dir}\n")
        assert stopped.pid() is None
        stopped.stop()
        assert stranger.poll() is None
        stopped.start()
        assert ask(stopped, "select 1") == "1"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_failed_start_says_why_and_names_the_log(stopped):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", stopped.port))
        taken.listen()
        with pytest.raises(GeoAssetsError, match="did not start") as caught:
            stopped.start()
    assert caught.value.code == "POSTGRES_START_FAILED"
    assert str(stopped.log_file) in caught.value.message
    assert "Address already in use" in stopped.log_file.read_text()


def test_a_killed_init_leaves_nothing_that_looks_initialised(home, binaries):
    folder = home / "killed"
    folder.mkdir()
    cluster = new_cluster(binaries, folder)
    child = os.fork()
    if child == 0:
        cluster.init()
        os._exit(0)
    while not list(folder.glob("*/data/*")):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not cluster.data_dir.exists()
    cluster.init()
    assert (cluster.data_dir / "PG_VERSION").exists()


def test_init_never_clears_a_folder_that_is_no_cluster(home, binaries):
    folder = home / "precious"
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "thesis.txt").write_text("years")
    with pytest.raises(GeoAssetsError, match="is not empty"):
        new_cluster(binaries, folder).init()
    assert (folder / "postgres" / "thesis.txt").read_text() == "years"


def test_what_a_killed_init_left_goes_with_the_next_because_it_holds_the_password(home, binaries):
    folder = home / "left"
    (folder / "initdb-left").mkdir(parents=True)
    (folder / "initdb-left" / "password").write_text("s3cret")
    new_cluster(binaries, folder).init()
    assert [path.name for path in folder.iterdir()] == ["postgres"]


def test_start_waits_for_a_server_that_somebody_else_started_and_that_is_still_recovering(stopped):
    (stopped.data_dir / "recovery.signal").touch()  # recovery asks for files by a command, which takes its time
    shutil.chown(stopped.data_dir / "recovery.signal", stopped.data_dir.owner(), stopped.data_dir.group())
    slow = replace(
        stopped, extra_settings={**stopped.extra_settings, "restore_command": "sleep 0.5; false", "hot_standby": "off"}
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slow.start)
        until(lambda: stopped.pid() is not None)
        assert not stopped.answers()
        stopped.start()
        assert ask(stopped, "select 1") == "1"
        first.result(timeout=10)


def test_start_waits_for_a_server_that_recovers_from_the_crash_of_one_of_its_processes(running):
    before = running.pid()
    crash(running)
    assert "ready" in (running.data_dir / "postmaster.pid").read_text()  # it says so all the while
    running.start()
    assert ask(running, "select 1") == "1"
    assert running.pid() == before


def test_a_server_that_takes_no_connections_in_time_is_said_to_be_recovering(stopped, monkeypatch):
    monkeypatch.setattr("geo_assets.local.postgresql._START_SECONDS", 1)
    stopped.start()
    os.kill(stopped.pid(), signal.SIGSTOP)
    try:
        with pytest.raises(GeoAssetsError, match="has taken no connection within 1 s") as caught:
            stopped.start()
    finally:
        os.kill(stopped.pid(), signal.SIGCONT)
    assert caught.value.remedy.endswith("wait, then: geo-assets up")


def test_a_cluster_is_run_only_by_the_version_that_made_it(home, binaries, postgres_home, tmp_path):
    made = home / tmp_path.name / "postgres"
    made.mkdir(parents=True)
    (made / "PG_VERSION").write_text(f"{binaries.version}\n")
    link_postgresql(postgres_home, made.parent)
    assert find_binaries(made.parent).version == binaries.version
    (made / "PG_VERSION").write_text("9\n")
    assert find_binaries(made.parent) is None


def test_a_path_that_merely_begins_alike_is_another_cluster(running):
    other = replace(running, data_dir=Path(str(running.data_dir)[:-1]))
    other.data_dir.mkdir()
    (other.data_dir / "postmaster.pid").write_text(f"{running.pid()}\n")
    assert other.pid() is None


def test_an_unpacked_tree_that_lacks_its_libraries_is_not_found(home):
    tree = home / "broken" / "postgresql-dist" / "usr/lib/postgresql/15/bin"
    tree.mkdir(parents=True)
    (tree / "initdb").touch()
    assert missing_libraries(home / "broken" / "postgresql-dist") == ["PostgreSQL or PostGIS itself"]


def test_an_unpacked_tree_without_projections_leaves_proj_to_the_machine(tmp_path):
    assert "PROJ_DATA" not in unpacked_environment(tmp_path)
    (tmp_path / "usr/share/proj").mkdir(parents=True)
    assert unpacked_environment(tmp_path)["PROJ_DATA"] == str(tmp_path / "usr/share/proj")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be kept out of its home as someone else")
def test_a_cluster_stays_where_it_was_made_when_its_home_is_closed_later(home, tmp_path):
    folder = home / tmp_path.name
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("15\n")
    folder.chmod(0o700)
    assert usable_data_dir(folder) == folder / "postgres"


def test_a_free_port_is_the_preferred_one_unless_someone_listens_there():
    preferred = free_port(None)
    assert free_port(preferred) == preferred
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", preferred))
        taken.listen()
        assert free_port(preferred) not in {preferred, 0}


def test_the_data_directory_lies_in_the_home_where_the_server_can_reach_it(home):
    assert usable_data_dir(home) == home / "postgres"


@pytest.mark.skipif(os.geteuid() != 0, reason="anyone but root is the server's user himself")
def test_the_data_directory_of_an_unreachable_home_lies_below_var_lib_and_differs_by_home(home):
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    one, other = usable_data_dir(closed / "one"), usable_data_dir(closed / "other")
    assert re.fullmatch(r"/var/lib/geo_assets/[0-9a-f]{12}/postgres", str(one))
    assert one == usable_data_dir(closed / "one")
    assert one != other
