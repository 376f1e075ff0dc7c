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
from geo_assets.redaction import redacted
from geo_assets.task_status import BAD_INPUT, RETRY_OPTIONS

#: The status of the service's answer, in obstore's error text.
_STATUS = re.compile(r"status code: (\d{3})")

#: The service's own error code.
_SERVICE_CODE = re.compile(r"<Code>(\w+)</Code>")

#: Statuses after which a retry may succeed: timeout, too many requests.
_PASSING = frozenset({"408", "429"})

#: Codes of refusals that resolve by themselves: of conflicts (409), of which one without a code may, too.
_PASSING_CODES = frozenset(
    {
        "",
        "ContainerBeingDeleted",
        "OperationTimedOut",
        "AccountBeingCreated",
        "PendingCopyOperation",
        "ConditionalRequestConflict",  # another request for this name is under way
        "OperationAborted",
    }
)

#: Codes of other refusals that do: S3 has a timeout with 400.
_PASSING_ANYWHERE = frozenset({"RequestTimeout", "SlowDown", "ServerBusy", "Throttling", "RequestLimitExceeded"})

#: Conflicts that mean that something with this name exists already.
_EXISTS = frozenset({"BlobAlreadyExists", "ContainerAlreadyExists", "QueueAlreadyExists", "PreconditionFailed"})

#: The bucket is in another region: the answer tells which, or the service does when it is asked.
_ELSEWHERE = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})

#: The region in such an answer, and what obstore says of one that it takes for a redirection.
_REGION = re.compile(r"<Region>([\w-]+)</Region>|expecting '([\w-]+)'")
_BARE_REDIRECT = "redirect without LOCATION"

#: What the services' codes mean, whatever status comes with them.
_MEANINGS: dict[str, str] = {
    **dict.fromkeys(("ContainerNotFound", "NoSuchBucket"), "CONTAINER_NOT_FOUND"),
    # obstore has errors of their own for these two, but not where a download was cut and goes on
    **dict.fromkeys(("BlobNotFound", "NoSuchKey"), "SOURCE_GONE"),
    **dict.fromkeys(("ConditionNotMet", "PreconditionFailed"), "INPUT_CHANGED"),
    # it lasts until somebody has the blob restored: no byte of it can be read before
    **dict.fromkeys(("BlobArchived", "BlobBeingRehydrated", "InvalidObjectState"), "SOURCE_ARCHIVED"),
    **dict.fromkeys(
        (
            "BlobImmutableDueToPolicy",
            "ExpiredToken",
            "InvalidToken",
            "TokenRefreshRequired",
            "InvalidAuthenticationInfo",
            "BucketAlreadyExists",  # and is somebody else's
        ),
        "STORAGE_FORBIDDEN",
    ),
    **dict.fromkeys(
        (
            "KeyTooLongError",
            "KeyTooLong",
            "InvalidObjectName",
            "XMinioInvalidObjectName",
            "InvalidUri",
            "InvalidURI",
            "InvalidResourceName",
        ),
        "UNSAFE_PATH",
    ),
    **dict.fromkeys(_ELSEWHERE, "INVALID_SETTINGS"),
}

_SENTENCES = {
    "CONTAINER_NOT_FOUND": "there is no container {place}",
    "SOURCE_GONE": "{what} is no longer there",
    "INPUT_CHANGED": "{what} was replaced after it was listed",
    "SOURCE_ARCHIVED": "{what} is in the archive tier and cannot be read: {code}",
    "UNSAFE_PATH": "{what!r} is a name that the store refuses: {code}",
}

#: Errors of a file system, by their meaning. obstore gives their number in its text.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NAME = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_ERRNO = re.compile(r"\(os error (\d+)\)")

#: What obstore says of a name that it does not take: of any store, and of a directory, where it calls uploads so.
_NO_NAME = ("Could not parse path", r"Filenames containing trailing '/#\d+/' are not supported")

#: Whose errors are a store's: modules of other clients than obstore.
_CLIENTS = ("azure.", "botocore.", "geo_assets.storage.s3")

_RIGHTS = (
    "give the storage account a key, SAS or identity, or the directory the rights, to read sources and to write outputs"
)


def _nowhere() -> str:
    return ""


def understood(
    error: Exception, place: str, path: str = "", *, region: Callable[[], str] = _nowhere
) -> GeoAssetsError | None:
    """Translate the error of a store to ours; None for one that is not a store's.

    Args:
        error: what obstore, Azure's SDK or the file system raised; a missing blob is handled by the caller.
        place: alias/container.
        path: the blob's, where the call was about one.
        region: asks the service for the container's region, where its answer was that it is in another.

    Returns:
        INPUT_CHANGED, SOURCE_GONE, UNSAFE_PATH, STORAGE_FORBIDDEN, SOURCE_ARCHIVED, CONTAINER_NOT_FOUND,
        INVALID_SETTINGS, DISK_FULL, STORAGE_UNAVAILABLE or INTERNAL.
    """
    what = f"{place}/{path}" if path else place
    text = str(error)
    if isinstance(error, PreconditionError):
        return GeoAssetsError("INPUT_CHANGED", _SENTENCES["INPUT_CHANGED"].format(what=what))
    if isinstance(error, InvalidPathError) or any(words in text for words in _NO_NAME):
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
    return _answered(error, what, place, text, region)


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


def _answered(error: Exception, what: str, place: str, text: str, region: Callable[[], str]) -> GeoAssetsError:
    """Translate by the service's answer; without one the store is unavailable."""
    status, code = _status(error, text), _service_code(error, text)
    meaning = "INVALID_SETTINGS" if _BARE_REDIRECT in text else _MEANINGS.get(code, "")
    if meaning == "INVALID_SETTINGS":
        return _elsewhere(place, text, code, region)
    if meaning in _SENTENCES:
        return GeoAssetsError(meaning, _SENTENCES[meaning].format(what=what, place=place, code=code))
    refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or status in {"401", "403"}
    if meaning == "STORAGE_FORBIDDEN" or refused:
        return _forbidden(what, place, code or status)
    passing = code in _PASSING_CODES if status == "409" else status in _PASSING or code in _PASSING_ANYWHERE
    if status.startswith("4") and not passing:
        return GeoAssetsError("INTERNAL", f"the store refuses a request for {what}: {status} {code or plain(error)}")
    away = GeoAssetsError(
        "STORAGE_UNAVAILABLE", f"the store of {what} does not answer as it should: {code or plain(error)}"
    )
    away.retry_after = _retry_after(error)
    return away


def _retry_after(error: Exception) -> float:
    """Return the seconds for which the answer asks to be left alone. obstore's errors have no headers."""
    from_boto = _told(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
    headers = from_boto or getattr(getattr(error, "response", None), "headers", {})
    said = str(headers.get("Retry-After") or headers.get("retry-after") or "")
    return float(said) if said.isdecimal() else 0.0


def _elsewhere(place: str, text: str, code: str, region: Callable[[], str]) -> GeoAssetsError:
    """The account says another region than the bucket's."""
    alias, found = place.partition("/")[0], _REGION.search(text)
    told = (found.group(1) or found.group(2)) if found else region()
    where = f"the region {told}" if told else f"another region than the account says ({code or 'a redirection'})"
    return GeoAssetsError(
        "INVALID_SETTINGS",
        f"GEO_ASSETS_ACCOUNTS: {alias}.region: the bucket of {place} is in {where}",
        remedy=f'correct it: "region": "{told}"' if told else "correct it: the provider of the bucket shows its region",
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
    """Return the first line of a store's error without secrets, and without what a URL asks for: it may be signed."""
    return redacted(re.sub(r"\?\S+", "?…", str(error).splitlines()[0]))[:300] if str(error) else type(error).__name__
