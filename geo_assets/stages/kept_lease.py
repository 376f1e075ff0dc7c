"""The lease of a run's job, from the first step to the last: kept by whoever executes the plan.

Here: renewing it between steps too, while a step waits for a process, a worker or a machine; a sign of life where the
run waits so and holds none; letting it go if the plan does not come to its end. Not here: steps, which prove and renew
it while they work (`context.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from geo_assets.database.connections import TRANSIENT, KeptConnection
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger import lease
from geo_assets.ledger.lease import Renewal
from geo_assets.ledger.ledger import Ledger
from geo_assets.settings import Settings
from geo_assets.stages.context import HEARTBEAT_SECONDS


@contextmanager
def kept_lease(
    settings: Settings,
    run_id: str,
    lost: Callable[[], None] = lambda: None,
    waits: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Keep the lease of the job that a run has claimed, or will claim. A plan that is shorter than a heartbeat opens no
    connection for it.

    Args:
        settings: where the ledger is.
        run_id: whose job it is.
        lost: called once, in a thread, if the lease is lost.
        waits: whether no process works on a step of the run, asked while it holds no lease. Otherwise that process may
            be dead, and this one would wait for it for ever: it gives no sign of life then.
    """
    over = threading.Event()
    thread = threading.Thread(target=_renew, args=(settings, run_id, lost, waits, over), name="run-lease", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:  # interrupted between two steps, or the executor failed
        with suppress(*TRANSIENT, GeoAssetsError), Ledger(settings, connections=1) as ledger:
            ledger.jobs.let_go(run_id)
        raise
    finally:
        over.set()
        thread.join(timeout=1)  # a heartbeat that waits for the database ends with the process


def _renew(
    settings: Settings, run_id: str, lost: Callable[[], None], waits: Callable[[], bool], over: threading.Event
) -> None:
    """Renew the lease until the plan is over, or the lease is lost."""
    kept = Renewal.NOT_HELD
    with KeptConnection(settings) as connected:
        while kept is not Renewal.LOST and not over.wait(HEARTBEAT_SECONDS):
            with suppress(*TRANSIENT, GeoAssetsError):
                with connected() as conn, conn.transaction():
                    kept = lease.keep(conn, run_id)
                if kept is Renewal.NOT_HELD and waits():
                    with connected() as conn, conn.transaction():
                        lease.give_sign(conn, run_id)
    if kept is Renewal.LOST:
        lost()
