"""One staged table, published as a load of one layer does it."""

from geo_assets.vector.tables import merge as merging
from geo_assets.vector.tables import publish as publishing
from geo_assets.vector.tables.publish import PublishedTable, in_one_commit


def publish(conn, staged, *, before_commit=None, **options) -> PublishedTable:
    """Publish it in a commit of its own; `before_commit` is called in the transaction, last."""
    return _committed(conn, staged, lambda: publishing.publish(conn, staged, **options), before_commit)


def merge(conn, staged, mode, *, before_commit=None, **options) -> PublishedTable:
    """Add its rows in a commit of its own; `before_commit` is called in the transaction, last."""
    return _committed(conn, staged, lambda: merging.merge(conn, staged, mode, **options), before_commit)


def _committed(conn, staged, work, before_commit):
    def whole():
        done = work()
        if before_commit is not None:
            before_commit(conn, done)
        return done

    return in_one_commit(conn, [staged], whole)
