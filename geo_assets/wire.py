"""What a sandboxed child and its parent say to each other: their requests and reports as JSON, in both directions.

Here: the base class of both, which is a dataclass: a child starts a quarter sooner where it need not import pydantic
(docs/decisions/0062-messages-are-dataclasses.md). A child builds what its parent says as it is said. A parent trusts no
child: pydantic checks its reports against the same class, type by type.
Not here: the requests and reports themselves (`models.py` of the engines), the socket (`sandbox/protocol.py`).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic.main import IncEx

T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """A request or a report. Immutable; where it is checked it has nothing extra, and each of its numbers is finite.

    What else pydantic shall check stands in a field's `metadata`, by the names of the arguments of its `Field`.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}


def ready_to_check(kind: type) -> None:
    """Have pydantic make what checks such messages, which takes milliseconds: while somebody waits for one anyway."""
    _adapter(cast("Any", kind))


def checked(kind: type[T], said: Any) -> T:
    """Return a message that somebody sent who is not trusted.

    Args:
        kind: a class derived from `Message`, or a model of pydantic's.
        said: its JSON, parsed.

    Raises:
        ValueError: it is not such a message; pydantic's ValidationError is one.
    """
    return cast("T", _adapter(cast("Any", kind)).validate_python(said))


def json_of(message: object, *, exclude: IncEx | None = None) -> dict[str, Any]:
    """Return a message for people and their programs: values that JSON has, without the fields that say nothing.

    Args:
        message: a request or a report.
        exclude: fields to leave out, too, as pydantic takes them.
    """
    return cast(
        "dict[str, Any]", _adapter(cast("Any", type(message))).dump_python(message, mode="json", exclude=exclude)
    )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # a child has no use for it

    return TypeAdapter(kind)


def told(message: Any) -> dict[str, Any]:
    """Return the fields of a message, which may be messages; also for `json.dumps`, as `default`. A model of pydantic's
    is a message, too: that of an engine of another distribution.
    """
    return vars(message) if is_dataclass(message) else message.model_dump(mode="json")


def built(kind: type[T], said: Mapping[str, Any]) -> T:
    """Return a message that somebody sent who is trusted.

    Raises:
        TypeError: a field is missing, or of a type that a request may not have.
        KeyError: there is one too many.
    """
    if is_dataclass(kind):
        return cast("T", _reader(kind)(said))
    return cast("T", kind.model_validate(said))  # type: ignore[attr-defined]


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of this type of its JSON."""
    if is_dataclass(kind):
        readers = {name: _reader(each) for name, each in typing.get_type_hints(kind).items()}
        return lambda said: cast("type", kind)(**{name: readers[name](each) for name, each in said.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return _optional(_reader(next(each for each in arguments if each is not types.NoneType)))
    if origin is tuple and arguments[-1] is not Ellipsis:
        several = [_reader(each) for each in arguments]
        return lambda said: tuple(reader(each) for reader, each in zip(several, said, strict=True))
    if origin is tuple:
        each = _reader(arguments[0])
        return lambda said: tuple(map(each, said))
    if any(map(_is_made, (kind, origin, *arguments))):
        msg = f"a request has no {kind}: only JSON's own types, other messages, tuples, and what may be None"
        raise TypeError(msg)
    return lambda said: said


def _is_made(kind: Any) -> bool:
    """Whether JSON has no such values, or they stand where they would stay as JSON."""
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, Enum | PurePath | set | frozenset))


def _optional(reader: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda said: None if said is None else reader(said)
