"""Reading one message: bytes in, validated parameters or a clear error out.

Here: limits, strict JSON, the discriminated union over the job types, recovery of a job id from what is not JSON.
Not here: recording (`ledger/messages.py`), what follows from the outcome (`boundary.py`).

Nothing here raises anything but `GeoAssetsError`, whatever the bytes are, and nothing takes longer than milliseconds.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from geo_assets.correlation import Trace
from geo_assets.errors import GeoAssetsError
from geo_assets.faults import wrong_parameters
from geo_assets.ledger.messages import MAX_MESSAGE_BYTES
from geo_assets.parameters import JOB_TYPES, Parameters, parameters_type
from geo_assets.text import strict_json

#: Parameters are flat with short lists; anything deeper or wider is no message for us.
_MAX_DEPTH, _MAX_KEYS = 16, 200

#: Bounded on purpose: `(…+)+` over hostile bytes takes hours.
_JOB_ID = re.compile(rb'"job_id"\s{0,8}:\s{0,8}"([0-9a-f]{64})"')

#: The ids that a message asks to be found by, whatever else it holds.
_TRACE = re.compile(rb'"(correlation_id|traceparent)"\s{0,8}:\s{0,8}"([A-Za-z0-9._:-]{1,128})"')

#: A string, closed or running to the end: without the end, the search would start again at each quote of a broken
#: message.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


class Message(BaseModel):
    """The fields of every message; its parameters depend on its job type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    job_type: str
    parameters: Parameters
    job_id: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="if given, it must be the id of this request"
    )
    correlation_id: str | None = Field(None, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")
    traceparent: str | None = Field(None, max_length=128, description="the sender's span (W3C Trace Context)")
    force: bool = Field(False, description="redo finished work too")
    allow_mass_retire: bool = Field(
        False, description="with deleted=retire: withdraw even more than max_retire_percent"
    )


def _message_type(name: str, model: type[Parameters]) -> Any:
    fields: dict[str, Any] = {"job_type": (Literal[name], ...), "parameters": (model, ...)}
    return create_model(f"{model.__name__}Message", __base__=Message, **fields)


_EACH = tuple(_message_type(name, model) for name, model in JOB_TYPES.items())
_TYPES: Any = Union[_EACH]  # noqa: UP007 - made at run time

#: One member per job type, told apart by `job_type`.
MESSAGE: TypeAdapter[Any] = TypeAdapter(Annotated[_TYPES, Field(discriminator="job_type")])


def read_message(body: bytes) -> Message:
    """Read a whole message: `{"job_type": …, "parameters": {…}}`.

    Raises:
        GeoAssetsError: MESSAGE_TOO_LARGE, INVALID_ENCODING, INVALID_JSON, UNKNOWN_JOB_TYPE, INVALID_PARAMETERS.
    """
    data = _checked_object(body)
    if isinstance(data.get("job_type"), str):
        parameters_type(data["job_type"])
    try:
        message: Message = MESSAGE.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise wrong_parameters("the message", error) from error
    return message


def read_parameters_of(job_type: str, body: bytes) -> Parameters:
    """Read the parameters of a known job type from an HTTP body.

    Raises:
        GeoAssetsError: as `read_message`.
    """
    model = parameters_type(job_type)
    data = _checked_object(body)
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise wrong_parameters(job_type, error, model.model_fields) from error


def recover_job_id(body: bytes) -> str | None:
    """The job id that a bad message names, from its first 64 KiB, by a bounded pattern."""
    match = _JOB_ID.search(body, 0, MAX_MESSAGE_BYTES)
    return match[1].decode() if match else None


def trace_of(body: bytes) -> Trace:
    """The ids under which a message asks to be found, good or bad: what is said of a bad one is found, too."""
    named = {name.decode(): value.decode() for name, value in _TRACE.findall(body[:MAX_MESSAGE_BYTES])}
    return Trace.of(named.get("correlation_id"), named.get("traceparent"))


def _checked_object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_MESSAGE_BYTES:
        raise GeoAssetsError(
            "MESSAGE_TOO_LARGE", f"the message has {len(body):,} bytes; {MAX_MESSAGE_BYTES:,} are allowed"
        )
    _refuse_deep_or_wide(body)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GeoAssetsError("INVALID_ENCODING", f"the message is not UTF-8 (byte {error.start})") from error
    try:
        data = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise GeoAssetsError("INVALID_JSON", f"the message is not JSON: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(data, dict):
        raise GeoAssetsError("INVALID_JSON", f"the message is a JSON {type(data).__name__}, not an object")
    return data


def _refuse_deep_or_wide(body: bytes) -> None:
    """Refuse deep nesting (brackets outside strings) and many keys (colons) before any parser sees the bytes."""
    skeleton = _STRING.sub(b"", body)
    depth = deepest = 0
    for byte in skeleton:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > _MAX_DEPTH:
        raise GeoAssetsError("INVALID_JSON", f"the message is nested {deepest:,} deep; {_MAX_DEPTH} is allowed")
    if skeleton.count(b":") > _MAX_KEYS:
        raise GeoAssetsError("INVALID_JSON", f"the message has {skeleton.count(b':'):,} keys; {_MAX_KEYS} are allowed")
