"""The meaning of a store's errors: blob or container missing, access denied, disk full, or no answer.

Here: that decision, once for every store and every call, and a sentence without credentials. Not here: what is done
about it (`containers.py`, `stages/patience.py`).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from typing import Any

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from geo_assets.errors import GeoAssetsError
from geo_assets.task_status import BAD_INPUT, RETRY_OPTIONS

#: The status of the service's answer, in obstore's error text.
_STATUS = re.compile(r"status code: (\d{3})")

#: The service's own error code.
_SERVICE_CODE = re.compile(r"<Code>(\w+)</Code>")

#: Statuses after which a retry may succeed: timeout, too many requests.
_PASSING = frozenset({"408", "429"})

#: Conflicts (409) that resolve by themselves; one without a code may.
_PASSING_CONFLICTS = frozenset(
    {"", "ContainerBeingDeleted", "OperationTimedOut", "AccountBeingCreated", "PendingCopyOperation"}
)

#: Conflicts that mean that something with this name exists already.
_EXISTS = frozenset({"BlobAlreadyExists", "ContainerAlreadyExists", "QueueAlreadyExists", "PreconditionFailed"})

#: The container, or bucket, is not there.
_NO_CONTAINER = frozenset({"ContainerNotFound", "NoSuchBucket"})

#: A conflict that lasts until the blob is rehydrated: no byte of it can be read before.
_ARCHIVED = frozenset({"BlobArchived", "BlobBeingRehydrated"})

#: Errors of a file system, by their meaning. obstore gives their number in its text.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ERRNO = re.compile(r"\(os error (\d+)\)")

#: Whose errors are a store's: modules of other clients than obstore.
_CLIENTS = ("azure.", "botocore.", "geo_assets.storage.s3")

_RIGHTS = (
    "give the storage account a key, SAS or identity, or the directory the rights, to read sources and to write outputs"
)


def understood(error: Exception, place: str, path: str = "") -> GeoAssetsError | None:
    """Translate the error of a store to ours; None for one that is not a store's.

    Args:
        error: what obstore, Azure's SDK or the file system raised; a missing blob is handled by the caller.
        place: alias/container.
        path: the blob's, where the call was about one.

    Returns:
        INPUT_CHANGED, UNSAFE_PATH, STORAGE_FORBIDDEN, SOURCE_ARCHIVED, CONTAINER_NOT_FOUND, DISK_FULL,
        STORAGE_UNAVAILABLE or INTERNAL.
    """
    what = f"{place}/{path}" if path else place
    text = str(error)
    if isinstance(error, PreconditionError):
        return GeoAssetsError("INPUT_CHANGED", f"{path} was replaced after it was listed")
    if isinstance(error, InvalidPathError) or "Could not parse path" in text:
        return GeoAssetsError("UNSAFE_PATH", f"{what!r} is a name that the store's client refuses")
    if not (isinstance(error, (BaseError, OSError)) or type(error).__module__.startswith(_CLIENTS)):
        return None
    number = _errno(error, text)
    if number in _FULL:
        return GeoAssetsError("DISK_FULL", f"there is no space left for {what}")
    if number in _NAME:
        return GeoAssetsError(
            "UNSAFE_PATH", f"{what!r} is not a name that the file system accepts: {os.strerror(number)}"
        )
    if number in _REFUSED:
        return _forbidden(what, place, os.strerror(number))
    return _answered(error, what, place, text)


def made_unless_it_exists(make: Callable[[], object]) -> bool:
    """Call `make`; return false if something with that name exists already. Any other error is raised, also that
    something with that name is being deleted.
    """
    try:
        make()
    except Exception as error:
        if _says_it_exists(error):
            return False
        raise
    return True


def _says_it_exists(error: Exception) -> bool:
    """Whether a store refused because the name exists. obstore and Azure's SDK raise the same for all conflicts."""
    text = str(error)
    if _status(error, text):
        return _service_code(error, text) in _EXISTS
    return isinstance(error, (AlreadyExistsError, FileExistsError))


def _answered(error: Exception, what: str, place: str, text: str) -> GeoAssetsError:
    """Translate by the service's answer; without one the store is unavailable."""
    status, code = _status(error, text), _service_code(error, text)
    if code in _NO_CONTAINER:
        return GeoAssetsError("CONTAINER_NOT_FOUND", f"there is no container {place}")
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or status in {"401", "403"}:
        return _forbidden(what, place, code or status)
    if code in _ARCHIVED:
        return GeoAssetsError("SOURCE_ARCHIVED", f"{what} is in the archive tier and cannot be read: {code}")
    if code == "BlobImmutableDueToPolicy":
        return _forbidden(what, place, code)
    passing = code in _PASSING_CONFLICTS if status == "409" else status in _PASSING
    if status.startswith("4") and not passing:
        return GeoAssetsError("INTERNAL", f"the store refuses a request for {what}: {status} {code or plain(error)}")
    return GeoAssetsError(
        "STORAGE_UNAVAILABLE", f"the store of {what} does not answer as it should: {code or plain(error)}"
    )


def _forbidden(what: str, place: str, why: str) -> GeoAssetsError:
    again = "then submit again" if what == place else f"then: geo-assets retry JOB_ID {RETRY_OPTIONS[BAD_INPUT]}"
    return GeoAssetsError("STORAGE_FORBIDDEN", f"access to {what} is refused: {why}", remedy=f"{_RIGHTS}; {again}")


def _status(error: Exception, text: str) -> str:
    """Return the HTTP status of an answer; empty where there was none."""
    from_sdk = getattr(error, "status_code", None) or _told(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    found = _STATUS.search(text)
    return str(from_sdk) if from_sdk else found.group(1) if found else ""


def _service_code(error: Exception, text: str) -> str:
    from_sdk = getattr(error, "error_code", None) or _told(error).get("Error", {}).get("Code")
    found = _SERVICE_CODE.search(text)
    return str(getattr(from_sdk, "value", from_sdk)) if from_sdk else found.group(1) if found else ""


def _told(error: Exception) -> dict[str, Any]:
    """What the service answered, in an error of botocore's."""
    told = getattr(error, "response", None)
    return told if isinstance(told, dict) else {}


def _errno(error: Exception, text: str) -> int:
    """Return the number of a file system's error; 0 for any other error."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = _ERRNO.search(text)
    return int(found.group(1)) if found else 0


def plain(error: Exception) -> str:
    """Return the first line of a store's error: the rest may contain a signed URL."""
    return re.sub(r"\?\S+", "?…", str(error).splitlines()[0])[:300] if str(error) else type(error).__name__
