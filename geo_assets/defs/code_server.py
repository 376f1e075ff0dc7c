"""The code server, which forks its run workers from a prepared process: `python -m geo_assets.defs.code_server --port
4266`.

Here: Dagster's own gRPC server, and where its run workers come from. Dagster starts each in a fresh interpreter, which
imports Dagster and our definitions again: 1.3 s, a third of a small job. A `multiprocessing` forkserver imports them
once, before it has a thread or a connection, and every run worker is a fork of it
(docs/decisions/0017-run-workers-are-forked.md).
Not here: which processes a stack has (`local/stack.py`).
"""

import argparse
import multiprocessing
import runpy
import signal
import sys
from multiprocessing import forkserver

from geo_assets import logs
from geo_assets.defs.preloaded import PRELOADED
from geo_assets.settings import load_settings


def serve(host: str, port: int) -> None:
    """Serve the definitions until a signal ends it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # by a script, of all that it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Dagster's server does at SIGTERM what it does here
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()
    _fork_where_dagster_spawns()
    sys.argv = ["dagster", "api", "grpc", "-m", "geo_assets.definitions", "-a", "defs", "--location-name", "geo_assets"]
    settings = load_settings()
    logs.configure(settings)
    sys.argv += ["--host", host, "--port", str(port), "--log-format", logs.dagster_format(settings)]
    runpy.run_module("dagster", run_name="__main__")


def _fork_where_dagster_spawns() -> None:
    """Replace the start method `spawn`, for which Dagster's server asks by name, without a setting for it (seen in its
    1.13).
    """
    get_context = multiprocessing.get_context

    def instead(method: str | None = None) -> multiprocessing.context.BaseContext:
        return get_context("forkserver" if method == "spawn" else method)

    multiprocessing.get_context = instead  # type: ignore[assignment]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    serve(arguments.host, arguments.port)


if __name__ == "__main__":
    main()
