"""The inventory of a container.

Here: statements on `geo.inventory`. Not here: listing (`storage/containers.py`), classification
(`storage/sources.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from psycopg_pool import ConnectionPool

from geo_assets.capture import LANDSAT_METADATA
from geo_assets.database.connections import DictConnection, retrying
from geo_assets.storage.blobs import Blob
from geo_assets.storage.sources import Member, name_key

#: Members that are read at once.
_PAGE = 5000


class Inventory:
    """The content of a container when a job last listed it."""

    def __init__(self, pool: ConnectionPool[DictConnection]) -> None:
        self._pool = pool

    def replace(self, job_id: str, pages: Iterable[list[tuple[Blob, str | None]]]) -> None:
        """Replace the listing, each blob with the reason why it is ignored, if it is. One transaction, a page in
        memory.

        The COPY is one statement for as long as the store lists: millions of blobs take more than any other statement
        may.
        """
        with self._pool.connection() as conn:
            conn.execute("set local statement_timeout = 0")
            conn.execute("delete from geo.inventory where job_id = %s", (job_id,))
            with (
                conn.cursor() as cursor,
                cursor.copy(
                    "copy geo.inventory (job_id, path, size, etag, last_modified, folder, stem, ignored) from stdin"
                ) as copy,
            ):
                for page in pages:
                    for blob, ignored in page:
                        copy.write_row(
                            (job_id, blob.path, blob.size, blob.etag, blob.last_modified, *name_key(blob.path), ignored)
                        )

    def members(self, job_id: str) -> Iterator[Member]:
        """Every file that is not ignored, ordered so that a source and its sidecars are neighbours; a server-side
        cursor bounds memory.
        """
        with self._pool.connection() as conn, conn.cursor("inventory") as cursor:
            cursor.itersize = 2000
            cursor.execute(
                "select path, size, etag, holds from geo.inventory where job_id = %s and ignored is null order by"
                ' folder collate "C", stem collate "C", path collate "C"',
                (job_id,),
            )
            for row in cursor:
                yield Member.model_validate(row)

    def by_path(self, job_id: str) -> Iterator[Member]:
        """As `members`, in the order of their paths. Between two pages no transaction is open: the caller may wait for
        a store.
        """
        after = ""
        while page := self._page(job_id, after):
            yield from page
            after = page[-1].path

    @retrying
    def _page(self, job_id: str, after: str) -> list[Member]:
        with self._pool.connection() as conn:
            rows = conn.execute(
                "select path, size, etag, holds from geo.inventory where job_id = %s and ignored is null and path > %s"
                " order by path limit %s",
                (job_id, after, _PAGE),
            ).fetchall()
        return [Member.model_validate(row) for row in rows]

    @retrying
    def product_metadata(self, job_id: str) -> list[Member]:
        """The files that say what a product of several rasters is; see `sources.with_metadata`."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select path, size, etag from geo.inventory
                     where job_id = %s and ignored is null and path ~* %s
                     order by path collate "C" """,
                (job_id, LANDSAT_METADATA),
            ).fetchall()
        return [Member.model_validate(row) for row in rows]

    def ignored(self, job_id: str) -> Iterator[tuple[str, int, str]]:
        """(path, bytes, reason) of every file that is ignored, by path."""
        with self._pool.connection() as conn, conn.cursor("ignored") as cursor:
            cursor.execute(
                "select path, size, ignored from geo.inventory where job_id = %s and ignored is not null order by path"
                ' collate "C"',
                (job_id,),
            )
            for row in cursor:
                yield str(row["path"]), int(str(row["size"])), str(row["ignored"])

    @retrying
    def note_contents(self, job_id: str, members: Sequence[Member]) -> None:
        """Record what zips hold. They were opened before: no transaction waits for a store."""
        with self._pool.connection() as conn:
            for member in members:
                if member.holds is not None:
                    conn.execute(
                        "update geo.inventory set holds = %s where job_id = %s and path = %s",
                        (list(member.holds), job_id, member.path),
                    )

    @retrying
    def made_from(self, job_id: str) -> list[tuple[str, str]]:
        """(path, SHA-256) of the listed files from which the job made something while their etag was what it is now."""
        with self._pool.connection() as conn:
            rows = conn.execute(
                """select distinct i.path, m->>'sha256' as sha256
                     from geo.tasks t cross join jsonb_array_elements(t.receipt->'input') m
                     join geo.inventory i on i.job_id = t.job_id and i.path = m->>'path' and i.etag = m->>'etag'
                    where t.job_id = %s and t.receipt is not null""",
                (job_id,),
            ).fetchall()
        return [(str(row["path"]), str(row["sha256"])) for row in rows]

    @retrying
    def note_rewritten(self, job_id: str, account: str, container: str, path: str, sha256: str) -> None:
        """Record that a listed file holds other bytes than its etag stood for."""
        with self._pool.connection() as conn:
            conn.execute(
                """insert into geo.rewritten (account, container, path, etag, sha256)
                   select %(account)s, %(container)s, path, split_part(etag, '+', 1), %(sha256)s
                     from geo.inventory where job_id = %(job)s and path = %(path)s
                   on conflict (account, container, path) do update set etag = excluded.etag,
                     sha256 = excluded.sha256, found_at = now()""",
                {"job": job_id, "account": account, "container": container, "path": path, "sha256": sha256},
            )

    @retrying
    def mark_rewritten(self, job_id: str, account: str, container: str) -> None:
        """Mark the etags of listed files that were rewritten without a new etag (`stored_etag` removes the mark)."""
        with self._pool.connection() as conn:
            conn.execute(
                """update geo.inventory i set etag = r.etag || '+' || left(r.sha256, 16) from geo.rewritten r
                    where i.job_id = %s and (r.account, r.container) = (%s, %s) and r.path = i.path
                      and r.etag = split_part(i.etag, '+', 1)""",
                (job_id, account, container),
            )

    @retrying
    def totals(self, job_id: str) -> tuple[int, int]:
        """(files, bytes)."""
        with self._pool.connection() as conn:
            row = conn.execute(
                "select count(*) as files, coalesce(sum(size), 0)::bigint as bytes from geo.inventory where job_id = %s"
                " and ignored is null",
                (job_id,),
            ).fetchone()
        return (int(str(row["files"])), int(str(row["bytes"]))) if row else (0, 0)


def stored_etag(etag: str) -> str:
    """The store's own etag, without the mark of a file that was rewritten behind it."""
    return etag.partition("+")[0]
