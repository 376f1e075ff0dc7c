"""Dagster's webserver behind our guard: `python -m geo_assets.defs.webserver --port 3000 --workspace workspace.yaml`.

Dagster's own command answers every Host and Origin, and takes mutations from a URL: an image on any web page that its
user looks at shuts the code location down.
Here: Dagster's application, as its command makes it, between our guard and our server
(docs/decisions/0019-who-may-talk-to-our-servers.md).
Not here: what the guard lets through (`web/guard.py`), its connections (`storage.py`), which processes a stack has
(`local/stack.py`).
"""

import argparse

from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_MAX_OVERFLOW, DEFAULT_POOL_RECYCLE
from dagster_webserver.version import __version__

from geo_assets import logs
from geo_assets.settings import load_settings
from geo_assets.web import serve
from geo_assets.web.guard import Guard

#: The UI asks this often for news of assets, in milliseconds; the default of Dagster's command.
_POLL_MS = 2000


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workspace", required=True)
    arguments = parser.parse_args()
    settings = load_settings()
    logs.configure(settings)
    configure_loggers(formatter=logs.dagster_format(settings))
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        target = WorkspaceFileTarget(paths=[arguments.workspace])
        with WorkspaceProcessContext(instance, version=__version__, workspace_load_target=target) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=_POLL_MS)
            serve.serve(Guard(app, hosts=settings.allowed_hosts, graphql="/graphql"), arguments.host, arguments.port)


if __name__ == "__main__":
    main()
