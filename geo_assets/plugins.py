"""What other distributions add to the project by entry points: job types, stages, engines, codes of errors.

Here: the groups, finding what is in them, loading each entry when it is first asked for, and what is said of one that
cannot be loaded. Not here: what a job type (`parameters.py`), a stage (`file_stages.py`) or an error (`errors.py`) is;
how a team makes one (docs/extend.md).

Whatever is wrong with one distribution, our own entries and those of the others are there: an entry that cannot be
loaded is not, and whoever asks for it by its name hears why, and whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The groups; the name of an entry is that of what it adds.
JOB_TYPES, STAGES, ENGINES, ERRORS = (f"geo_assets.{name}" for name in ("job_types", "stages", "engines", "errors"))

#: What an entry of a group is, for people.
_WORDS = {JOB_TYPES: "job type", STAGES: "stage", ENGINES: "engine", ERRORS: "error code"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that cannot be loaded."""

    group: str
    name: str
    distribution: str  # name and version; several where they claim the same name
    reason: str

    def __str__(self) -> str:
        return f"{_WORDS[self.group]} {self.name!r} of {self.distribution} cannot be loaded: {self.reason}"


class Registry(Mapping[str, T], Generic[T]):
    """Our own entries, then those that other distributions add. Ours are found without a look at the others."""

    def __init__(self, own: Mapping[str, T], group: str, accept: Callable[[str, object], T]) -> None:
        """Make it; nothing is loaded yet.

        Args:
            own: our entries.
            group: of the entry points of the others.
            accept: returns what was loaded under a name as an entry, or raises a sentence that says what is wrong.
        """
        self._own, self._group, self._accept = dict(own), group, accept
        self._loaded: dict[str, T | Broken] = {}

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            return self._own[name]
        if isinstance(found := self._load(name), Broken):
            raise KeyError(str(found))
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self.added

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def own(self) -> Mapping[str, T]:
        """Our entries alone."""
        return self._own

    @property
    def added(self) -> dict[str, T]:
        """The entries of others."""
        loaded = {name: self._load(name) for name in sorted(_found(self._group)) if name not in self._own}
        return {name: entry for name, entry in loaded.items() if not isinstance(entry, Broken)}

    def leave_out(self, name: str, error: Exception) -> None:
        """Take an entry of others for broken: whoever was to work with it could not."""
        whose = distribution_of(self._group, name)
        self._loaded[name] = Broken(self._group, name, whose, _said(error))

    @property
    def broken(self) -> dict[str, Broken]:
        """The entries of others that cannot be loaded, by name."""
        loaded = {name: self._load(name) for name in sorted(_found(self._group))}
        return {name: entry for name, entry in loaded.items() if isinstance(entry, Broken)}

    def _load(self, name: str) -> T | Broken:
        """Load an entry of others.

        Raises:
            KeyError: there is none.
        """
        if name not in self._loaded:
            self._loaded[name] = self._loaded_now(name, _found(self._group)[name])
        return self._loaded[name]

    def _loaded_now(self, name: str, claims: tuple[EntryPoint, ...]) -> T | Broken:
        whose = " and ".join(sorted(_distribution(entry) for entry in claims))
        if name in self._own or len(claims) > 1:
            why = "geo_assets itself has one of that name" if name in self._own else "only one may have that name"
            return Broken(self._group, name, whose, why)
        try:
            return self._accept(name, claims[0].load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else's code, which may do anything
            return Broken(self._group, name, whose, _said(error))


def engines() -> dict[str, str]:
    """The functions that children of the sandbox may run beside ours, each with its distribution."""
    return {entry.value: _distribution(entry) for claims in _found(ENGINES).values() for entry in claims}


def engine_packages() -> tuple[str, ...]:
    """The packages that these functions are in, by their names."""
    return tuple(sorted({function.partition(":")[0].partition(".")[0] for function in engines()}))


def distribution_of(group: str, name: str) -> str:
    """Name and version of the distribution that adds an entry; empty where it is ours."""
    return " and ".join(_distribution(entry) for entry in _found(group).get(name, ()))


def _found(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by name."""
    return _all()[group]


@cache
def _all() -> dict[str, dict[str, tuple[EntryPoint, ...]]]:
    """The entry points of our groups: one look at what is installed, for the life of the process and its forks."""
    from importlib.metadata import entry_points  # most processes never look

    installed = entry_points()
    found: dict[str, dict[str, tuple[EntryPoint, ...]]] = {group: {} for group in _WORDS}
    for group, entries in found.items():
        for entry in installed.select(group=group):
            entries[entry.name] = (*entries.get(entry.name, ()), entry)
    return found


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"


def _said(error: BaseException) -> str:
    """An exception as one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
