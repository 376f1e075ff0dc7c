"""The oracle of every test that runs jobs: whatever befell them, no part of the system contradicts another.

Tests in `faults/` and `integration/` that use the `cli` fixture are followed by it without asking: what they submitted
is reconciled when they end (see `follow_with_reconcile`). Elsewhere, or in the middle of a test:

    from geo_assets_tests.oracle import assert_reconciled, differences

    assert_reconciled(cli, "my-collection")                     # no fault, and no blob without a name, however young
    assert_reconciled(cli, "gone", allow={Class.ORPHAN_COG})    # where the test itself has broken this on purpose
    assert differences(cli, "gone")[Class.MISSING_SOURCE] == 1  # counts by class, also of those that are no faults

A test that breaks something on purpose and does not mend it is marked `@pytest.mark.leaves("ORPHAN_COG", …)`. For a
stack of one's own (another `Cli`), the same functions take that `Cli`. Where something is still at work it is waited
for.
"""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import timedelta
from unittest.mock import patch

import psycopg
import pytest

from geo_assets.settings import STACK_ENV_FILE, Settings
from geo_assets.stages.reconcile import Class, Difference, reconcile

#: Seconds that a job left behind by a test is waited for.
_PATIENCE = 90


def settings_of(cli) -> Settings:
    """The settings of a test's stack, as its processes have them."""
    with patch.dict(os.environ, cli.env):
        return Settings(_env_file=cli.home / STACK_ENV_FILE)


def differences(cli, *collections: str) -> Counter[Class]:
    """Class -> number of differences among what jobs of these collections have put out; of all jobs where none is
    named.
    """
    return Counter(d.kind for d in found(settings_of(cli), collections))


def assert_reconciled(cli, *collections: str, allow: Collection[Class] = ()) -> None:
    """No fault among what jobs of these collections have put out; of all jobs where none is named."""
    faults = [d for d in found(settings_of(cli), collections) if d.kind.is_fault and d.kind not in allow]
    assert not faults, "\n" + "\n".join(map(str, faults))


def found(settings: Settings, collections: Collection[str]) -> tuple[Difference, ...]:
    """Nothing is at work, so nothing is too young to be an orphan, and every COG is read."""
    wait_for_rest(settings, collections)
    return reconcile(settings, collections=sorted(collections) or None, grace=timedelta(0), deep=True).differences


def wait_for_rest(settings: Settings, collections: Collection[str]) -> None:
    """Until no job of these collections is queued or at work."""
    deadline = time.monotonic() + _PATIENCE
    query = """select count(*) from geo.job_status where status in ('queued', 'processing')
                  and (%(names)s::text[] = '{}' or parameters->>'collection' = any(%(names)s))"""
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        while db.execute(query, {"names": list(collections)}).fetchone() != (0,) and time.monotonic() < deadline:
            time.sleep(0.2)


def follow_with_reconcile(request: pytest.FixtureRequest) -> Iterator[None]:
    """The body of an autouse fixture: reconciles the collections for which anything was asked during the test."""
    if "cli" not in request.fixturenames:
        yield
        return
    settings = settings_of(request.getfixturevalue("cli"))
    with psycopg.connect(settings.dsn("pipeline")) as db:
        (started,) = db.execute("select now()").fetchone()
    yield
    with psycopg.connect(settings.dsn("pipeline")) as db:
        query = """select distinct parameters->>'collection' from geo.jobs join geo.attempts using (job_id)
                    where requested_at >= %s and parameters ? 'collection'"""
        touched = [name for (name,) in db.execute(query, (started,))]
    allowed = {Class(name) for mark in request.node.iter_markers("leaves") for name in mark.args}
    if touched:
        assert_reconciled(request.getfixturevalue("cli"), *touched, allow=allowed)
