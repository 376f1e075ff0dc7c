"""Attributes that are computed at their first use, safe with several threads.

Here: one descriptor. Not here: what is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


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
