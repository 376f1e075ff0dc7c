"""Every way a piece of work can fail: its code, its class, a plain sentence and a remedy.

Here: the table of codes and the one exception that carries a code across processes, into the ledger, the
CLI, HTTP and Dagster. A message is written once, where the fault is found; class and remedy are looked up here.
Not here: retry policy (it follows from the class), presentation (`cli.py`, `api/`).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from geo_assets import plugins
from geo_assets.redaction import redacted
from geo_assets.task_status import BAD_INPUT, LIST_BAD, RETRY_OPTIONS


class ErrorClass(StrEnum):
    """The class of a failure; decides whether it is retried."""

    INVALID = "invalid"  # the input is at fault: quarantine, never retry
    TRANSIENT = "transient"  # a dependency did not answer: retry
    RESOURCE = "resource"  # too little memory, disk or time: retry smaller
    INTERNAL = "internal"  # our fault: fail loudly


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table: the class of a code and what a person can do about it."""

    error_class: ErrorClass
    remedy: str


_I, _T, _R, _X = ErrorClass.INVALID, ErrorClass.TRANSIENT, ErrorClass.RESOURCE, ErrorClass.INTERNAL

#: What makes a lost or damaged output again; `for_job` names the job.
_AGAIN = "make it again: geo-assets retry JOB_ID --force"

#: What a file without a CRS needs. Other parameters are another job: with all files it would make the good ones again.
NAME_CRS = (
    "name the CRS that it has, in a job of its own for this file alone: --param include=NAME --param"
    " source_crs=EPSG:25832"
)

#: What mends a difference.
_REPAIR = "have it mended: geo-assets reconcile --repair"

_OURS: dict[str, ErrorKind] = {
    # submissions
    "PLUGIN_BROKEN": ErrorKind(
        _I, "correct that distribution, or uninstall it; then restart what runs: geo-assets down, geo-assets up"
    ),
    "UNKNOWN_JOB_TYPE": ErrorKind(_I, "list the job types with: geo-assets job-types"),
    "INVALID_PARAMETERS": ErrorKind(_I, "correct it; --help lists a command's options"),
    "MESSAGE_NOT_FOUND": ErrorKind(_I, "list them with: geo-assets poison list"),
    "MESSAGE_TOO_LARGE": ErrorKind(_I, "send a reference to the files (container and prefix), not the files"),
    "INVALID_ENCODING": ErrorKind(_I, "send UTF-8"),
    "INVALID_JSON": ErrorKind(
        _I, 'send one JSON object, for example {"job_type": "hello_world", "parameters": {"n": 3}}'
    ),
    "JOB_ID_MISMATCH": ErrorKind(_I, "leave job_id out: it follows from the parameters"),
    "PLAN_CHANGED": ErrorKind(_I, "look at the plan again, then submit with its hash"),
    "UNHANDLED_POISON": ErrorKind(_X, "replay it or discard it; to see its content: geo-assets poison show ID"),
    "POISON_AFTER_COMPLETION": ErrorKind(_I, "nothing to do: the job's result stands"),
    "POISON_EXPECTED": ErrorKind(_I, "nothing to do: the job had failed already"),
    "POISON_LEFT": ErrorKind(_T, "nothing to do: the job is being processed"),
    "ORPHAN_POISON": ErrorKind(_I, "replay it or discard it; to see its content: geo-assets poison show ID"),
    "RUN_DIED": ErrorKind(
        _T, "nothing to do yet: a new attempt starts automatically; after the last attempt: geo-assets retry JOB_ID"
    ),
    "CANCELLED": ErrorKind(_I, "submit it again, or: geo-assets retry JOB_ID"),
    "INTERRUPTED": ErrorKind(_T, "run it again"),
    "STILL_AT_WORK": ErrorKind(_I, "wait for its end, or cancel it first: geo-assets cancel JOB_ID"),
    "CIRCUIT_OPEN": ErrorKind(_T, "wait: it is retried automatically; to see what does not answer: geo-assets doctor"),
    "UNAUTHORIZED": ErrorKind(_I, "send a valid bearer token"),
    "IDENTITY_PROVIDER_UNAVAILABLE": ErrorKind(
        _T, "try again later; if it persists, check GEO_ASSETS_OIDC_ISSUER and that it answers"
    ),
    "FORBIDDEN": ErrorKind(_I, "use a token with the scope that the message names"),
    "FOREIGN_HOST": ErrorKind(
        _I, "use a loopback address, or name the host in GEO_ASSETS_ALLOWED_HOSTS and start again"
    ),
    "FOREIGN_ORIGIN": ErrorKind(
        _I, "name the page's host in GEO_ASSETS_ALLOWED_HOSTS, if it is meant to, and start again"
    ),
    "NOT_JSON": ErrorKind(_I, "send JSON, with the header Content-Type: application/json"),
    "METHOD_NOT_ALLOWED": ErrorKind(_I, "send it by POST, with the header Content-Type: application/json"),
    "CONTAINER_NOT_FOUND": ErrorKind(
        _I, "create it with what is to be in it: geo-assets upload FOLDER ALIAS/CONTAINER"
    ),
    "NOTHING_MATCHED": ErrorKind(_I, "correct the prefix or the patterns; if matching nothing is fine: --allow-empty"),
    "UNKNOWN_ACCOUNT": ErrorKind(
        _I, "name an account alias that GEO_ASSETS_ACCOUNTS defines (`default` always exists)"
    ),
    "UNSAFE_PATH": ErrorKind(
        _I,
        "use plain blob paths: no '..', no leading '/', no control characters; in a directory none that ends in # and a"
        " number, as an upload does that was interrupted",
    ),
    "JOB_NOT_FOUND": ErrorKind(_I, "list the jobs with: geo-assets jobs"),
    "PARTITION_MISMATCH": ErrorKind(_I, "launch the job whose type the partition belongs to"),
    "BAD_FILES": ErrorKind(
        _I,
        f"correct them, or submit with on_error=continue; to list them: geo-assets tasks JOB_ID {LIST_BAD}",
    ),
    "MASS_RETIRE": ErrorKind(
        _I,
        "check that the container is complete (an unmounted share looks empty), then submit again; if the files were"
        " deleted on purpose, with --allow-mass-retire (docs/intake.md: the same for HTTP, messages and Dagster's"
        " launchpad)",
    ),
    "LEASE_LOST": ErrorKind(_X, "nothing to do: a newer run of this job took over"),
    # sources
    "UNSUPPORTED_FORMAT": ErrorKind(_I, "convert it to a supported format (docs/formats.md) and upload that"),
    "ORPHAN_SIDECAR": ErrorKind(_I, "upload the file that it belongs to, beside it"),
    "SCENE_INCOMPLETE": ErrorKind(
        _I, "upload what is missing, then submit again; or submit without missing_assets=refuse"
    ),
    "SCENE_AMBIGUOUS": ErrorKind(
        _I, "make id_regex and the globs of assets more exact, so that each asset of a scene has one file"
    ),
    "INCOMPLETE_SHAPEFILE": ErrorKind(_I, "upload the .shp, .shx and .dbf parts together (and .prj, .cpg)"),
    "UNREADABLE": ErrorKind(_I, "check that the upload is complete, upload it again, then submit again"),
    "INPUT_CHANGED": ErrorKind(_T, "the blob was replaced while it was read; submit again"),
    "FATAL_FILE": ErrorKind(
        _I,
        "check the file with gdalinfo or ogrinfo, and the memory of the machine (geo-assets doctor); then: geo-assets"
        f" retry JOB_ID {RETRY_OPTIONS[BAD_INPUT]}",
    ),
    "SOURCE_GONE": ErrorKind(_I, "upload it again, then submit again"),
    "SOURCE_ARCHIVED": ErrorKind(
        _I,
        "have it restored (az storage blob set-tier --tier Hot; aws s3api restore-object), wait until that is done,"
        f" then: geo-assets retry JOB_ID {RETRY_OPTIONS[BAD_INPUT]}",
    ),
    "TOO_LARGE": ErrorKind(_I, "split it, or raise the limit that the message names"),
    "UNSAFE_ARCHIVE": ErrorKind(_I, "make a plain zip of the data files alone, and upload that"),
    "EMPTY_ARCHIVE": ErrorKind(_I, "put the data files into the archive and upload it again"),
    # rasters
    "RASTER_NO_CRS": ErrorKind(_I, NAME_CRS),
    "RASTER_UNSUPPORTED": ErrorKind(_I, "convert it to GeoTIFF and upload that"),
    "RASTER_SUBDATASETS": ErrorKind(
        _I, "name a directory for all of them, or one of them: geo-assets cog SRC DST --variable NAME"
    ),
    "RESOLUTION_LOST": ErrorKind(_I, "submit with a resolution in units of target_crs, or in another target_crs"),
    "INVALID_CRS": ErrorKind(_I, "name the CRS as EPSG:code"),
    "COG_VALIDATION_FAILED": ErrorKind(_X, "nothing was published; report this with the file's name"),
    # vectors
    "VECTOR_NO_CRS": ErrorKind(_I, NAME_CRS),
    "VECTOR_NO_LAYERS": ErrorKind(_I, "upload a file with at least one layer that has geometry"),
    "VECTOR_NO_GEOMETRY": ErrorKind(
        _I, "add longitude/latitude or WKT columns, or upload a format that carries geometry"
    ),
    "VECTOR_UNSUPPORTED": ErrorKind(_I, "convert it to GeoPackage and upload that"),
    "VECTOR_MIXED_GEOMETRY": ErrorKind(_I, "split the layer by geometry type"),
    "VECTOR_ALL_REJECTED": ErrorKind(_I, "repair the geometry; the rejected features and reasons are in the message"),
    "VECTOR_UNSUPPORTED_TYPE": ErrorKind(_I, "drop or convert the named column"),
    "VECTOR_ALL_FILTERED": ErrorKind(_I, "widen the filter, or leave it out; nothing was changed"),
    "INVALID_FILTER": ErrorKind(
        _I, "the grammar of `where` is in docs/vector.md; for example: population > 1000 AND name LIKE 'A%'"
    ),
    "UNKNOWN_COLUMN": ErrorKind(_I, "list the columns with: geo-assets vector inspect FILE"),
    "UNKNOWN_LAYER": ErrorKind(_I, "list the layers with: geo-assets vector inspect FILE"),
    "AXES_SWAPPED": ErrorKind(_I, "write longitude (or easting) first, or correct the CRS"),
    "TRANSFORM_INACCURATE": ErrorKind(
        _I,
        "install the grids that the message names (projsync), raise max_transform_accuracy_m, or keep the source's CRS",
    ),
    "INVALID_KEY": ErrorKind(_I, "name columns whose values are present and distinct as the key"),
    "SCHEMA_DRIFT": ErrorKind(_I, "correct the source, or allow it: --allow-drift, or --param schema_drift=allow"),
    "SUPERSEDED": ErrorKind(
        _I,
        "nothing to do: the result of the later submission stays; to have this one in its place, with all files of its"
        " job made again: geo-assets retry JOB_ID --force",
    ),
    "ALREADY_LOADED": ErrorKind(_I, "nothing to do: its rows are in the table"),
    "NO_VERSION": ErrorKind(_I, "load with --keep-versions N: earlier versions are kept from then on"),
    "SCHEMA_MISMATCH": ErrorKind(_X, "nothing was published; report this with the file's name"),
    # STAC
    "STAC_INVALID": ErrorKind(
        _I,
        "nothing of it was published; report this with the file's name; once that is corrected: geo-assets retry"
        f" JOB_ID {RETRY_OPTIONS[BAD_INPUT]}",
    ),
    "STAC_CONTRADICTS_ASSET": ErrorKind(
        _I,
        f"nothing of it was published; convert it again: geo-assets retry JOB_ID {RETRY_OPTIONS[BAD_INPUT]}; if that"
        " does not help, report this with the file's name",
    ),
    "STAC_NOT_FOUND_AFTER_LOAD": ErrorKind(_T, "submit again"),
    "COLLECTION_NOT_FOUND": ErrorKind(_I, "list the collections with: geo-assets collection list"),
    "COLLECTION_EXISTS": ErrorKind(_I, "change it with: geo-assets collection update COLLECTION --title TITLE"),
    "COLLECTION_NOT_EMPTY": ErrorKind(
        _I, "to delete its items and their data too: geo-assets collection delete COLLECTION --cascade"
    ),
    "ITEM_NOT_FOUND": ErrorKind(
        _I, "name it as COLLECTION/ITEM; those of a job are listed by: geo-assets tasks JOB_ID"
    ),
    "CURSOR_TOO_OLD": ErrorKind(
        _I, "copy the catalogue anew: GET /api/stac/changes?since=now first, then all items, then follow that cursor"
    ),
    # the sandbox
    "SANDBOX_CRASHED": ErrorKind(_I, "the reader crashed on this file twice; check the file with gdalinfo or ogrinfo"),
    "SANDBOX_TIMEOUT": ErrorKind(_R, "raise GEO_ASSETS_SANDBOX_TIMEOUT_SECONDS, or split the file"),
    "SANDBOX_OUT_OF_MEMORY": ErrorKind(_R, "raise GEO_ASSETS_SANDBOX_MEMORY_MB, or split the file"),
    "SANDBOX_INCOMPLETE": ErrorKind(
        _R,
        "for files that you trust, set GEO_ASSETS_SANDBOX=permissive; to see what is missing: geo-assets doctor",
    ),
    # the machine and the stack
    "STACK_NOT_RUNNING": ErrorKind(_T, "start it with: geo-assets up"),
    "SERVING_NOT_INSTALLED": ErrorKind(_R, "install them: uv sync --extra serve, or pip install 'geo_assets[serve]'"),
    "EXTRA_NOT_INSTALLED": ErrorKind(_R, "install the extra that the message names"),
    "POSTGRES_NOT_FOUND": ErrorKind(
        _R, "install PostgreSQL with PostGIS, for example: sudo apt-get install postgresql-15-postgis-3"
    ),
    "POSTGRES_START_FAILED": ErrorKind(_R, "read the log that the message names, then: geo-assets doctor"),
    "START_FAILED": ErrorKind(_R, "read the log that the message names, then: geo-assets doctor"),
    "MIGRATION_CHANGED": ErrorKind(
        _X, "restore the file as it was applied, and put the change in a new sql/NNNN_name.sql"
    ),
    "RELEASE_DIFFERS": ErrorKind(_R, "install the same release everywhere, the newer one; then: geo-assets migrate"),
    "JOBS_AT_WORK": ErrorKind(
        _T, "wait until they have ended; this lets nothing begin meanwhile: geo-assets migrate --wait 3600"
    ),
    "LAUNCHES_PAUSED": ErrorKind(_T, "submit it: it is launched when the pause is over, or after: geo-assets resume"),
    "DATABASE_UNAVAILABLE": ErrorKind(_T, "check it with: geo-assets doctor"),
    "QUEUE_UNAVAILABLE": ErrorKind(
        _T, "nothing to do: it is retried automatically; if it persists, check the queue's address and identity"
    ),
    "QUEUE_NOT_FOUND": ErrorKind(
        _I, "create it with the command in the message, or give the identity the right to create it"
    ),
    "STORAGE_UNAVAILABLE": ErrorKind(
        _T, "nothing to do: it is retried until the store answers; to see what does not answer: geo-assets doctor"
    ),
    "STORAGE_FORBIDDEN": ErrorKind(_I, "give the account of GEO_ASSETS_ACCOUNTS the right to do it, then submit again"),
    # receipts: what verify finds, what rebuild cannot make again
    "BLOB_GONE": ErrorKind(_I, f"restore it from a backup, or {_AGAIN}"),
    "BLOB_CHANGED": ErrorKind(_I, f"restore it from a backup, or {_AGAIN}"),
    "ITEM_GONE": ErrorKind(_I, f"{_AGAIN}; if it is not wanted: geo-assets unpublish --item COLLECTION/ITEM"),
    "ITEM_CHANGED": ErrorKind(_I, _AGAIN),
    "ITEM_NOT_PUBLISHED": ErrorKind(_I, "submit again: it is published again"),
    "TABLE_GONE": ErrorKind(_I, _AGAIN),
    "ROWS_CHANGED": ErrorKind(_I, f"if nobody was meant to change the table, {_AGAIN}"),
    "ACCOUNT_CHANGED": ErrorKind(
        _I, "somebody changed the ledger: compare `geo-assets receipt JOB_ID` with the receipt that the message names"
    ),
    "RECEIPT_GONE": ErrorKind(_I, "write it again: geo-assets receipt JOB_ID --write"),
    "RECEIPT_UNREADABLE": ErrorKind(
        _I, "restore it from a backup, or, if the database is there, write another: geo-assets receipt JOB_ID --write"
    ),
    "RECEIPT_OF_NEWER_RELEASE": ErrorKind(
        _I, "nothing is wrong with it: use the release of geo_assets that the message names, or a later one"
    ),
    "NO_RECEIPTS": ErrorKind(_I, "name the container of the COGs as ALIAS/CONTAINER, for example default/cogs"),
    "REBUILD_CONFLICT": ErrorKind(
        _I, "rebuild into an empty database, for example that of a stack with another GEO_ASSETS_HOME"
    ),
    # backup and restore
    "FOLDER_NOT_EMPTY": ErrorKind(_I, "name a folder that is empty, or not there yet"),
    "PG_DUMP_NOT_FOUND": ErrorKind(
        _R,
        "install the client programs of the server's version, for example: sudo apt-get install postgresql-client-15",
    ),
    "NO_BACKUP": ErrorKind(
        _I, "name the folder of a backup that came to its end; one that was interrupted has to be made again"
    ),
    "BACKUP_DAMAGED": ErrorKind(_I, "fetch that file from another copy of the backup, or restore another backup"),
    "DATABASE_NOT_EMPTY": ErrorKind(
        _I, "restore into an empty database, for example that of a stack with another GEO_ASSETS_HOME"
    ),
    "STILL_CONNECTED": ErrorKind(
        _I, "stop them first: geo-assets down; then start PostgreSQL alone: geo-assets up --database-only"
    ),
    "RESTORE_FAILED": ErrorKind(_X, "the database holds nothing now; when the reason is gone, restore again"),
    "SOURCE_CHANGED": ErrorKind(_I, "restore the file as it was, then rebuild again; or submit it as it is now"),
    # reconcile: where containers, ledger, catalogue, tables and runs disagree; the first four are no faults
    "NOT_INGESTED": ErrorKind(_I, "nothing is wrong; to take it in, submit its job again"),
    "MISSING_SOURCE": ErrorKind(
        _I, "nothing is wrong: what was made of it is kept; to withdraw that, submit again with deleted=retire"
    ),
    "LOOSE_TABLE": ErrorKind(_I, "nothing to do: it is dropped automatically as soon as nothing depends on it"),
    "STAGING_LEFTOVER": ErrorKind(_I, "nothing to do: it is dropped automatically"),
    "UNACCOUNTED": ErrorKind(_X, _REPAIR),
    "UNPUBLISHED": ErrorKind(_X, _REPAIR),
    "MISSING_ITEM": ErrorKind(_I, f"{_REPAIR}; if it is not wanted: geo-assets unpublish --item COLLECTION/ITEM"),
    "ORPHAN_ITEM": ErrorKind(
        _I,
        "if others have put it there, let them move it to a collection of their own; to delete it: geo-assets"
        " reconcile --repair",
    ),
    "DANGLING_HREF": ErrorKind(_I, _REPAIR),
    "MISSING_COG": ErrorKind(_I, f"restore it from a backup, or {_REPAIR}"),
    "ORPHAN_COG": ErrorKind(
        _I,
        "if others have put it there, let them move it to a container of their own; to delete it: geo-assets"
        " reconcile --repair",
    ),
    "CHECKSUM_MISMATCH": ErrorKind(_I, f"restore it from a backup, or {_REPAIR}"),
    "MISSING_TABLE": ErrorKind(_I, _REPAIR),
    "ROWCOUNT_MISMATCH": ErrorKind(_I, f"if nobody was meant to change the table, {_REPAIR}"),
    "ORPHAN_TABLE": ErrorKind(_I, "drop it, if nobody needs it"),
    "STUCK_JOB": ErrorKind(_T, f"see that Dagster's daemon is there (geo-assets doctor), or {_REPAIR}"),
    "RUN_STATE_DRIFT": ErrorKind(_T, f"terminate the run in Dagster, or {_REPAIR}"),
    "POISON_WITHOUT_RECORD": ErrorKind(_X, "replay it or discard it; to see its content: geo-assets poison show ID"),
    "INVALID_SETTINGS": ErrorKind(_I, "correct the named variable; docs/reference/settings.md says what each takes"),
    "LAUNCH_FAILED": ErrorKind(
        _T, "the submission is recorded and the sensor will launch it; check with: geo-assets doctor"
    ),
    "DISK_FULL": ErrorKind(_R, "free disk space, then submit again"),
    "OUTPUT_DAMAGED": ErrorKind(_X, _AGAIN),
    "OUTPUT_GONE": ErrorKind(_T, _AGAIN),
    "CHECK_FAILED": ErrorKind(
        _X, "look at the check of the asset in Dagster, and at what else disagrees: geo-assets reconcile"
    ),
    "WEBHOOK_UNAVAILABLE": ErrorKind(
        _T, "check GEO_ASSETS_ALERT_WEBHOOK (geo-assets alert --test); what waits is sent when it answers"
    ),
    "ALERT_REFUSED": ErrorKind(
        _I, "check GEO_ASSETS_ALERT_WEBHOOK and GEO_ASSETS_ALERT_FORMAT, then: geo-assets alert --test"
    ),
    "CONTRACT_VIOLATION": ErrorKind(_X, "a stage received unexpected input; report this with the run's id"),
    "INTERNAL": ErrorKind(_X, "run again with --debug and report what it prints"),
}


_CODE = re.compile("[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def _accepted(code: str, found: object) -> ErrorKind:
    """A code that another distribution adds."""
    if not _CODE.fullmatch(code):
        msg = "it is not written as WORD_WORD"
        raise ValueError(msg)
    if not isinstance(found, ErrorKind) or not found.remedy:
        msg = "it is no ErrorKind with a remedy"
        raise TypeError(msg)
    return found


#: Code -> its class and what to do: ours, and those of other distributions.
ERRORS = plugins.Registry(_OURS, plugins.ERRORS, _accepted)

#: Our codes that a reader of untrusted files may return. It cannot know about others (an unavailable store, a lost
#: lease), and the file may have taken over the process.
READER_CODES = frozenset(
    {
        "INVALID_PARAMETERS", "UNSUPPORTED_FORMAT", "INCOMPLETE_SHAPEFILE", "ORPHAN_SIDECAR", "UNREADABLE", "TOO_LARGE",
        "UNSAFE_ARCHIVE", "EMPTY_ARCHIVE", "UNSAFE_PATH", "RASTER_NO_CRS", "RASTER_UNSUPPORTED", "RASTER_SUBDATASETS",
        "RESOLUTION_LOST", "INVALID_CRS", "COG_VALIDATION_FAILED", "VECTOR_NO_CRS", "VECTOR_NO_LAYERS",
        "VECTOR_NO_GEOMETRY", "VECTOR_UNSUPPORTED", "VECTOR_MIXED_GEOMETRY", "VECTOR_ALL_REJECTED",
        "VECTOR_UNSUPPORTED_TYPE", "VECTOR_ALL_FILTERED", "INVALID_FILTER", "UNKNOWN_COLUMN", "UNKNOWN_LAYER",
        "AXES_SWAPPED", "TRANSFORM_INACCURATE", "INVALID_KEY", "SCHEMA_MISMATCH", "SANDBOX_OUT_OF_MEMORY",
        "SANDBOX_INCOMPLETE", "DISK_FULL", "INTERNAL",
    }
)  # fmt: skip

#: Characters that are kept of a reader's message.
_LONGEST_SAID = 1000


class GeoAssetsError(Exception):
    """A failure with a code of `ERRORS`; `str()` is the sentence a person reads.

    Raises:
        KeyError: the code is not in the table (a programming error, found by any test that meets it).
    """

    def __init__(self, code: str, message: str, *, remedy: str | None = None) -> None:
        kind = ERRORS[code]
        super().__init__(message)
        self.code = code
        self.message = message
        self.error_class = kind.error_class
        self.remedy = remedy or kind.remedy
        #: Seconds for which a dependency asked to be left alone; 0 if it did not say.
        self.retry_after = 0.0

    def to_dict(self) -> dict[str, str]:
        """The error as JSON, for another process."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}

    @classmethod
    def from_dict(cls, data: dict[str, str]) -> Self:
        """The inverse of `to_dict`; an unknown code becomes INTERNAL, never a second failure."""
        code = data.get("code", "INTERNAL")
        return cls(code if code in ERRORS else "INTERNAL", data.get("message", ""), remedy=data.get("remedy"))

    @classmethod
    def from_reader(cls, data: dict[str, str]) -> Self:
        """As `from_dict`, for an error from a process that reads untrusted files: SANDBOX_CRASHED if readers may not
        return the code.
        """
        code, message, remedy = (data.get(name) for name in ("code", "message", "remedy"))
        if code is None or not _is_of_readers(code):
            return cls(
                "SANDBOX_CRASHED", f"the reader ended with {str(code)[:80]!r}, a code that readers may not return"
            )
        return cls(code, (message or "")[:_LONGEST_SAID], remedy=remedy and remedy[:_LONGEST_SAID])

    def __reduce__(self) -> tuple[type[Self], tuple[str, str], dict[str, Any]]:
        """Keeps a custom remedy through pickle and copy."""
        return type(self), (self.code, self.message), self.__dict__


def _is_of_readers(code: str) -> bool:
    """Whether a reader may return a code: one of `READER_CODES`, or one of another distribution that blames the file;
    whether anything is tried again is not for a file to decide.
    """
    return code in READER_CODES or (
        code not in ERRORS.own
        and code in ERRORS
        and ERRORS[code].error_class in {ErrorClass.INVALID, ErrorClass.RESOURCE}
    )


def for_job(remedy: str, job_id: str) -> str:
    """A remedy whose commands name this job, by the characters of its id that are shown."""
    return remedy.replace("JOB_ID", job_id[:12])


def for_collection(code: str, collection: str) -> str:
    """The remedy of a code, with commands that name this collection."""
    return ERRORS[code].remedy.replace("COLLECTION", collection)


def known_code(code: str | None) -> str | None:
    """Check an error code that a user filters by; None passes.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, the code is not in the table.
    """
    if code is not None and code not in ERRORS:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"there is no error code {code[:64]!r}",
            remedy=f"one of: {', '.join(closest_first(code, sorted(ERRORS)))}",
        )
    return code


def closest_first(code: str, codes: Iterable[str]) -> list[str]:
    """The codes, those most similar to `code` first."""
    from difflib import get_close_matches

    known = list(codes)
    close = get_close_matches(code[:64].upper().replace("-", "_"), known)
    return [*close, *(other for other in known if other not in close)]


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk of this machine or of the store was full; stores pass on only the text of the system's error."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return getattr(error, "errno", None) in full or any(f"(os error {number})" in str(error) for number in full)


def unforeseen(error: Exception) -> GeoAssetsError:
    """An unexpected exception as a `GeoAssetsError`, without secrets: DISK_FULL if a disk was full, INTERNAL
    otherwise.
    """
    if is_disk_full(error):
        return GeoAssetsError("DISK_FULL", f"there is no room left: {redacted(str(error).splitlines()[0])[:300]}")
    return GeoAssetsError("INTERNAL", redacted(f"{type(error).__name__}: {error}")[:1000])
