"""The local stack: PostgreSQL, Dagster, and the account of which processes are ours."""
