"""Whether the broker of Celery is still the one to which the steps were sent.

Here: noticing that a Redis was started again, or is another one. Not here: what is done then (`executors.py`), other
brokers, whose queues outlive them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: How often it is asked.
_EVERY_SECONDS = 5.0


@contextmanager
def watched(broker: str, lost: Callable[[str], None]) -> Iterator[None]:
    """Have a function called once, in a thread, if the broker is not the same any more.

    Args:
        broker: its URL; only those of Redis are watched.
        lost: called with a sentence that says so, without the URL.
    """
    if not broker.startswith(("redis://", "rediss://")):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(broker, lost, over), name="broker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1)


def _watch(broker: str, lost: Callable[[str], None], over: threading.Event) -> None:
    """Ask until it is over: a Redis has another `run_id` each time it starts."""
    first = _identity(broker)
    while not over.wait(_EVERY_SECONDS):
        now = _identity(broker)
        first = first or now
        if now and now != first:
            lost(
                "Celery's broker was restarted: steps that waited there may be lost. The run ends, another one goes on"
            )
            return


def _identity(broker: str) -> str:
    """Which start of which Redis this is; empty while it does not answer."""
    import redis

    try:
        with redis.Redis.from_url(broker, socket_timeout=5, socket_connect_timeout=5) as client:
            return str(client.info("server")["run_id"])
    except (redis.RedisError, OSError):
        return ""
