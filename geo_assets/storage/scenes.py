"""Scenes: several raster files of a container that are one item with an asset for each, by patterns for their paths.

Here: the patterns, which sources make a scene, which asset each file is, and what is wrong with a scene. Not here:
which files belong to one raster (`sources.py`), converting them (`stages/cogs.py`).

The patterns come from anybody who may submit: they are matched by RE2, whose time is linear in the length of a path
(docs/decisions/0034-scenes-are-grouped-when-they-are-planned.md).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from geo_assets.capture import METADATA_FILES
from geo_assets.errors import GeoAssetsError
from geo_assets.storage.kinds import Kind
from geo_assets.storage.products import is_product_metadata
from geo_assets.storage.sources import Member, Source, sorted_sources

#: The key of a file that belongs to a scene and is no data: it is not converted, thumbnails are made of the COGs.
ASIDE = "thumbnail"

#: Characters of an asset's key.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_GROUPS = ("id", "asset")

#: Paths that are matched at once.
_BATCH = 10_000


@dataclass(frozen=True, slots=True)
class SceneFile:
    """One raster of a scene: its file, the files that belong to it, and the keys that its path gives it."""

    path: str
    keys: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key of its asset; of a scene without a fault."""
        return self.keys[0]


@dataclass(frozen=True, slots=True)
class Scenes:
    """How files make scenes."""

    id_regex: str
    assets: Mapping[str, str] = field(default_factory=dict)  # key -> glob; the first is shown
    needs_all: bool = False  # of `assets`

    def grouped(self, sources: Iterable[Source], *, metadata: bool = True) -> list[Source]:
        """Return the sources with those rasters put together that make a scene, in the order of their paths. All of
        them are held in memory.

        Args:
            sources: as `group_sources` yields them.
            metadata: whether the files that tell of a scene's product become its last members; they remain companions.
        """
        rest, parts, tell = [], dict[str, list[Source]](), dict[str, list[Member]]()
        listed = list(sources)
        for source, (identity, _) in zip(listed, self._found([s.path for s in listed]), strict=True):
            if identity and source.kind is Kind.RASTER and not source.is_folder and self._keys(source.path):
                parts.setdefault(identity, []).append(source)
                continue
            if identity and source.kind is Kind.COMPANION and tells_of_a_product(source.path):
                tell.setdefault(identity, []).extend(source.members)
            rest.append(source)
        taken = {source.path for source in rest}
        scenes = [
            _scene(identity, found, tell.get(identity, []) if metadata else [], taken)
            for identity, found in parts.items()
        ]
        return sorted([*rest, *scenes], key=lambda source: source.path)

    def files(self, members: Sequence[Member]) -> list[SceneFile]:
        """Return the rasters of a scene, of its members: in the order of `assets`, without these of their paths. The
        first is what people are shown of the scene.
        """
        rasters = [source.path for source in sorted_sources(members) if source.kind is Kind.RASTER]
        files = [SceneFile(path, self._keys(path)) for path in rasters]
        places = {key: place for place, key in enumerate(self.assets)}
        return sorted(files, key=lambda file: places.get(file.key, 0))

    def missing(self, files: Iterable[SceneFile]) -> list[str]:
        """Return the keys of assets for which there is no file."""
        there = {key for file in files for key in file.keys}
        return [key for key in sorted(self.assets) if key not in there]

    def fault(self, scene: Source) -> GeoAssetsError | None:
        """Return why a scene cannot be an item: SCENE_AMBIGUOUS, SCENE_INCOMPLETE; None if it can."""
        files = self.files(scene.members)
        missing = self.missing(files)
        if ambiguous := _ambiguous(files):
            return GeoAssetsError("SCENE_AMBIGUOUS", f"{ambiguous} of the scene {scene.path}")
        if self.needs_all and missing:
            return GeoAssetsError("SCENE_INCOMPLETE", f"the scene {scene.path} has no file for {', '.join(missing)}")
        if all(file.key == ASIDE for file in files):
            return GeoAssetsError("SCENE_INCOMPLETE", f"the scene {scene.path} has nothing but a thumbnail")
        return None

    def _keys(self, path: str) -> tuple[str, ...]:
        """The keys that a path gives to its file: of the globs that it matches, or of the group `asset`; without either
        its name.
        """
        name = path.rpartition("/")[2]
        if self.assets:
            found = (k for k, glob in self.assets.items() if any(fnmatch.fnmatchcase(p, glob) for p in (path, name)))
            return tuple(sorted(found))
        ((identity, asset),) = self._found([path])
        if "asset" in groups_of(self.id_regex):
            return (asset,) if identity and asset else ()
        return (
            re.sub(r"[^A-Za-z0-9_-]+", "_", name.rpartition(".")[0] or name).strip("_-")[-64:].strip("_-") or "raster",
        )

    def _found(self, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(id, asset) of each path; empty where the expression finds none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        expression = normalized(self.id_regex)
        for start in range(0, len(paths), _BATCH):
            batch = [path.encode("utf-8", "replace").decode() for path in paths[start : start + _BATCH]]
            for found in pc.extract_regex(pa.array(batch, pa.string()), expression).to_pylist():
                told = found or {}
                yield told.get("id", "").strip("/"), told.get("asset", "")


def _ambiguous(files: Sequence[SceneFile]) -> str:
    """Return what is no single file for a single asset, in words that go on with the scene; empty if nothing is."""
    by_key: dict[str, list[SceneFile]] = {}
    for file in files:
        if len(file.keys) > 1:
            return f"{file.path} is {' and '.join(file.keys)}"
        if _KEY.fullmatch(file.key) is None:
            return f"{file.path} is {file.key!r}, which is no key of an asset,"
        by_key.setdefault(file.key.lower(), []).append(file)
    double = next((found for _, found in sorted(by_key.items()) if len(found) > 1), None)
    return f"{', '.join(sorted(file.path for file in double))} are all {double[0].key}" if double else ""


def _scene(identity: str, found: Sequence[Source], metadata: Sequence[Member], taken: set[str]) -> Source:
    members = {member.path: member for source in found for member in source.members}
    last = {m.path: m for m in (*members.values(), *metadata) if tells_of_a_product(m.path)}
    own = [members[path] for path in sorted(members) if path not in last]
    path = f"{identity}/" if identity in taken else identity
    return Source(path=path, kind=Kind.SCENE, members=(*own, *(last[name] for name in sorted(last))))


def tells_of_a_product(path: str) -> bool:
    """Whether a file is by its name the metadata of a product, which all rasters of a scene share."""
    return is_product_metadata(path) or any(ending.search(path) for ending, _ in METADATA_FILES)


def normalized(id_regex: str) -> str:
    """Return the expression with its groups named, as RE2 takes it: without groups all that it finds is the id; a
    single group without a name is the id.

    Raises:
        ValueError: it is no regular expression of RE2, has other groups, or none for the id.
    """
    opening = list(_openings(id_regex))
    named = groups_of(id_regex)
    if not opening:
        expression = f"(?P<id>{id_regex})"
    elif len(opening) == 1 and not named:
        expression = f"{id_regex[: opening[0] + 1]}?P<id>{id_regex[opening[0] + 1 :]}"
    else:
        expression = id_regex
    return expression


def groups_of(id_regex: str) -> list[str]:
    """Return the names of the groups of an expression."""
    return re.findall(r"\(\?P?<([A-Za-z_]\w*)>", id_regex)


def _openings(text: str) -> Iterator[int]:
    """Yield where the groups of an expression open that capture something."""
    escaped = in_class = False
    for at, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif in_class:
            in_class = char != "]" or text[at - 1] == "["
        elif char == "[":
            in_class = True
        elif char == "(" and (text[at + 1 : at + 2] != "?" or re.match(r"\(\?P?<[A-Za-z_]", text[at:])):
            yield at


def check(id_regex: str) -> None:
    """Raise ValueError with a sentence if it is no expression for scenes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    strange = sorted(set(groups_of(id_regex)) - set(_GROUPS))
    if strange:
        msg = f"has a group {strange[0]!r}; there are id and asset"
        raise ValueError(msg)
    expression = normalized(id_regex)
    try:
        pc.extract_regex(pa.array([""], pa.string()), expression)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0].removeprefix("Invalid regular expression: ")
        msg = f"is no regular expression of RE2: {reason}"
        if "unnamed groups" in reason:
            msg = "has a group without a name beside others: write (?P<id>…), (?P<asset>…), and (?:…) for the others"
        raise ValueError(msg) from None
    if "id" not in groups_of(expression):
        msg = "has no group for the id: (?P<id>…)"
        raise ValueError(msg)


def check_key(key: str) -> None:
    """Raise ValueError with a sentence if it is no key of an asset."""
    if _KEY.fullmatch(key) is None:
        msg = f"{key!r} is no key of an asset: letters, digits, _ and -, at most 64, the first one a letter or digit"
        raise ValueError(msg)
