"""What is computed once: an attribute at its first use, an answer about what is known by a text, or about a file.

Here: one descriptor and two decorators, safe with several threads. Not here: what is made; what is costly to open
(`kept.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast, overload

T = TypeVar("T")
A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])

#: Answers that are remembered by a text, and the longest text. Characters: a CRS takes hundreds; a file may state a
#: million.
_BY_TEXT, _LONGEST = 64, 20_000

#: Answers about files that are remembered: of the members of an archive, and the layers of each.
_OF_FILES = 32


class made_once(Generic[T]):  # noqa: N801 - it reads like `property`
    """`functools.cached_property` with a lock: since Python 3.12 two threads can compute the standard one twice."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._lock = threading.RLock()  # one may need another
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        """Compute it, or wait until another thread has. It is then in the instance under its name, where Python finds
        it first.
        """
        if instance is None:
            return self
        with self._lock:
            if self._name not in vars(instance):
                vars(instance)[self._name] = self._make(instance)
            return vars(instance)[self._name]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Known(Generic[A]):
    """An argument that is the same as any other of its text."""

    text: str
    argument: A = field(compare=False)


def remembered_by(
    text_of: Callable[[A], str], *, most: int = _BY_TEXT
) -> Callable[[Callable[[A], T]], Callable[[A], T]]:
    """Make a function of one argument remember its answers; an error is not remembered, nor what is said of a very long
    text.

    Args:
        text_of: what says all of an argument that the answer depends on.
        most: answers that are kept, those that were asked for last.
    """

    def decorate(function: Callable[[A], T]) -> Callable[[A], T]:
        known = lru_cache(most)(lambda each: function(each.argument))

        @wraps(function)
        def call(argument: A) -> T:
            text = text_of(argument)
            return known(_Known(text, argument)) if len(text) <= _LONGEST else function(argument)

        return call

    return decorate


def remembered_of_file(function: F) -> F:
    """Make a function of a path, and of more, remember its last answers for as long as their files are the same."""

    @lru_cache(maxsize=_OF_FILES)
    def known(path: Path, _: tuple[int, ...], *rest: Any) -> Any:
        return function(path, *rest)

    @wraps(function)
    def call(path: Path, *rest: Any) -> Any:
        stat = path.stat()
        return known(path, (stat.st_ino, stat.st_mtime_ns, stat.st_size), *rest)

    return cast("F", call)
