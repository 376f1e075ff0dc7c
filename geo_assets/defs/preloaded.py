"""What processes that fork run workers and steps import once, before the first of them.

Here: the names of the modules. Not here: who forks (`code_server.py`, `executors.py`, `celery_app.py`): what runs as a
program is imported by no other module, or its children, which prepare it once more, warn of two of it.
"""

#: The modules that a run worker needs and that may be imported before a fork: nothing that starts a thread or opens a
#: connection when it is imported. A module that is missing from this list costs its import in each run, no more.
PRELOADED = (
    "geo_assets.definitions",
    "dagster_postgres",
    "dagster._grpc.impl",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "pybreaker",
    "pypgstac.load",
    "jsonschema_rs",
    "pystac",
    "shapely.ops",
    "tenacity",
)
