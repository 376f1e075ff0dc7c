"""Conversion of a source that holds several rasters: each becomes a COG, and one that cannot be converted does not
affect the others.

Here: the parent's side, which asks sandboxed children: the members of a zip, the variables of a container, what each is
called.
Not here: looking at a file (`archives.py`, `variables.py`, `cog.py`), where COGs are put (`stages/cogs.py`,
`commands/raster.py`).

A file is not looked at before it is converted: one raster costs one call, and only the refusal RASTER_SUBDATASETS has
it taken apart.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from geo_assets.archives import MAX_UNPACKED_BYTES
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.raster import safe
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets.raster.variables_models import (
    ProductReport,
    ProductRequest,
    UnpackReport,
    UnpackRequest,
    Variable,
    VariablesReport,
    VariablesRequest,
)
from geo_assets.sandbox.scratch import remove
from geo_assets.storage.kinds import is_packed
from geo_assets.storage.zips import contents, is_tar
from geo_assets.text import without_name

if TYPE_CHECKING:
    from geo_assets.sandbox.pool import SandboxPool

#: The directory of a workspace with the metadata of a source's product; GDAL does not look there.
PRODUCT = "product"

T = TypeVar("T")
R = TypeVar("R")

#: Characters of a name; with an ending and a number it stays below what file systems allow.
_LONGEST_NAME = 80

#: The file in which a child tells which part is done.
_PROGRESS = "progress"

#: For a directory in which a child may still write; what is left goes with the workspace.
_REMOVE_SECONDS = 5.0

#: Sixteen times a thumbnail without compression.
_THUMBNAIL_BYTES = 4 << 20

#: Refusals and remarks that one message names; all are in the ledger.
_NAMED = 10

#: One part may take too much time or memory without being wrong; it must not take the others with it.
_TOO_MUCH = frozenset({"SANDBOX_TIMEOUT", "SANDBOX_OUT_OF_MEMORY"})

#: Names that mean something else where COGs are listed by name (`stac/item.py`).
_RESERVED = frozenset({"thumbnail"})


@dataclass(frozen=True, slots=True)
class Part:
    """One raster of a source: its COG, or the reason why there is none."""

    member: str = ""  # its path within an archive
    variable: str = ""
    title: str | None = None
    stem: str = ""  # of file names: plain, and unlike those of the other parts also in another case
    cog: Path | None = None
    thumbnail: Path | None = None
    report: ConvertReport | None = None
    notes: tuple[str, ...] = ()
    error: GeoAssetsError | None = None

    @property
    def name(self) -> str:
        """A variable, a member's path, or member:variable; empty where the source is one raster."""
        return ":".join(word for word in (self.member, self.variable) if word)


@dataclass(frozen=True, slots=True)
class SceneMember:
    """One raster of a scene: the key of its asset, its path in the container, and where it lies."""

    key: str
    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class ConvertedSource:
    """The result of converting a source: its parts, each with a COG or an error."""

    parts: tuple[Part, ...]
    others: tuple[str, ...] = ()  # members of an archive that are no rasters
    aside: tuple[str, ...] = ()  # its rasters that are no data: masks and previews of a product
    notes: tuple[str, ...] = ()  # on the archive itself
    vectors: tuple[str, ...] = ()  # of a tar, from which no stage loads them

    @property
    def is_single(self) -> bool:
        """Whether the source itself is one raster, rather than a container that holds one."""
        return len(self.parts) == 1 and not self.parts[0].name

    @property
    def made(self) -> tuple[Part, ...]:
        """The parts that became COGs."""
        return tuple(part for part in self.parts if part.cog)

    def warnings(self) -> list[str]:
        """The warnings, each sentence once, with the names of the parts that it applies to."""
        told: dict[str, list[str]] = {}
        for part in self.parts:
            if part.error:
                sentence = f"left out: {_reason(part)} ({part.error.code}); {part.error.remedy}"
                told.setdefault(sentence, []).append(part.name)
            for note in (*part.notes, *(part.report.warnings if part.report else ())):
                told.setdefault(note, []).append(part.name)
        said = [f"{_listed(names)}: {sentence}" if any(names) else sentence for sentence, names in told.items()]
        if self.aside:
            names = _listed([name.rpartition("/")[2] for name in self.aside])
            said.append(f"masks and previews of the product are not converted: {names}")
        said += self.notes
        if self.vectors:
            said.append(f"vectors in a tar are left out; put them into a zip: {_listed(self.vectors)}")
        if packed := [name for name in self.others if is_packed(name)]:
            said.append(f"what is packed within an archive is not opened; unpack it: {_listed(packed)}")
        return said


@dataclass(frozen=True, slots=True)
class Converter:
    """How the rasters of a source are converted."""

    pool: SandboxPool
    folder: Path  # private; for the output
    options: dict[str, Any]  # of `ConvertRequest`, for all of them
    thumbnails: bool = False
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES
    wanted: str | None = None  # the name of the only part that is asked for
    single: bool = False  # refuse a source that holds several
    kept: str | None = None  # the name of the checkpoint of large ones, for a later attempt
    outer: Path | None = None  # for one of several parts: the workspace of all, where the results are looked for
    known_as: str = ""  # the path of the source where it comes from
    #: Called with the file in which the child keeps telling which part is done, for a source that is one raster.
    tells_in: Callable[[Path], None] | None = None
    product: Path | None = None  # in the workspace: the metadata of the product that it is part of, if any

    def source(self, path: Path) -> ConvertedSource:
        """Convert a file, or the variables that it holds.

        Raises:
            GeoAssetsError: the whole source, or every part, is bad; or the error is not a part's fault.
        """
        of_product = self._of_product()
        return _sound(path.name, ConvertedSource(_named(of_product._file(path, ""))))  # noqa: SLF001 - of its own class

    def _of_product(self) -> Converter:
        """This converter with the time of the product's metadata."""
        if self.product is None or not self.product.is_dir():
            return self
        told = self.pool.call(
            "geo_assets.raster.product:product", ProductRequest(folder=str(self.product)), ProductReport
        ).datetime
        return replace(self, options={**self.options, "product_datetime": told})

    def archive(self, path: Path) -> ConvertedSource:
        """Convert the rasters of a zip or tar, and the variables that they hold.

        Raises:
            GeoAssetsError: as `source`; UNSAFE_ARCHIVE, EMPTY_ARCHIVE, UNREADABLE, TOO_LARGE; UNSUPPORTED_FORMAT, no
                raster is in it.
        """
        private = self._private()
        request = UnpackRequest(
            archive=str(path), folder=str(private), name=path.name, max_bytes=self.max_unpacked_bytes
        )
        unpacked = self.pool.call("geo_assets.raster.archives:rasters", request, UnpackReport)
        names = [m.name for m in unpacked.rasters]
        vectors = contents([*names, *unpacked.others]).vectors if is_tar(path.name) else ()
        if not names:
            remedy = f"put its vectors into a zip: {_listed(vectors)}" if vectors else None
            raise GeoAssetsError("UNSUPPORTED_FORMAT", f"{path.name} holds no file with a raster's name", remedy=remedy)
        members = [m for m in unpacked.rasters if self.wanted is None or f"{self.wanted}:".startswith(f"{m.name}:")]
        self._check(path.name, names, [m.name for m in members])
        of_product = replace(self, options={**self.options, "product_datetime": unpacked.product_datetime})
        parts = of_product._each(  # noqa: SLF001 - of its own class
            lambda there, member: there._member(member.name, Path(member.path), private),  # noqa: SLF001
            members,
        )
        made = _named([part for group in parts for part in group])
        return _sound(path.name, ConvertedSource(made, unpacked.others, unpacked.aside, unpacked.notes, vectors))

    def scene(self, name: str, members: Sequence[SceneMember], aside: Sequence[str] = ()) -> ConvertedSource:
        """Convert the rasters of a scene, each alone in a directory, and the variables that they hold.

        Args:
            name: of the scene.
            members: its rasters.
            aside: names of those that are no data.

        Raises:
            GeoAssetsError: as `source`.
        """
        of_product = self._of_product()
        parts = of_product._each(lambda there, member: there._of_scene(member), members)  # noqa: SLF001 - its own class
        return _sound(name, ConvertedSource(_named([part for group in parts for part in group]), aside=tuple(aside)))

    def _of_scene(self, member: SceneMember) -> list[Part]:
        kept = hashlib.sha256(f"{self.kept} {member.name}".encode()).hexdigest()[:32] if self.kept else None
        alone = replace(self, known_as=member.name, kept=kept)
        try:
            folder = self._brought(member.path.parent, member.path.parent.parent)
            found = alone._file(folder / member.path.name, "")  # noqa: SLF001 - of its own class
        except GeoAssetsError as error:
            return [Part(member.name, stem=member.key, error=_of_the_part(error))]
        return [
            replace(part, member=member.name, stem=f"{member.key}_{_plain(part)}" if part.variable else member.key)
            for part in found
        ]

    def _member(self, member: str, path: Path, of: Path) -> list[Part]:
        try:
            return self._file(self._brought(path.parent, of) / path.name, member)
        except GeoAssetsError as error:
            return [Part(member, error=_of_the_part(error))]

    def _file(self, path: Path, member: str) -> list[Part]:
        if self.wanted in {None, member}:
            try:
                return [self._converted(Part(member), path)]
            except GeoAssetsError as error:
                if error.code != "RASTER_SUBDATASETS":
                    raise
        return self._variables(path, member)

    def _variables(self, path: Path, member: str) -> list[Part]:
        private = self._private()
        request = VariablesRequest(source=str(path), folder=str(private))
        found = self.pool.call("geo_assets.raster.variables:variables", request, VariablesReport).variables
        named = [(Part(member, v.name, title=v.title, notes=v.notes), v) for v in found]
        wanted = [(part, v) for part, v in named if self.wanted in {None, member, part.name}]
        self._check(path.name, [part.name for part, _ in named], [part.name for part, _ in wanted])
        return self._each(
            lambda there, pair: there._variable(*pair, private),  # noqa: SLF001 - of its own class
            wanted,
        )

    def _variable(self, part: Part, variable: Variable, of: Path) -> Part:
        if variable.path is None:
            return replace(part, error=_of_the_part(GeoAssetsError.from_reader(variable.error or {})))
        staged = self._private() / f"{_plain(part)}.tif"  # alone: GDAL looks at files beside it
        try:
            self.pool.move(Path(variable.path), staged, of=of)
            return self._converted(part, staged)
        except GeoAssetsError as error:
            return replace(part, error=_of_the_part(error))
        finally:
            remove(staged.parent, seconds=_REMOVE_SECONDS)

    def _converted(self, part: Part, path: Path) -> Part:
        made = self._private()
        cog, thumbnail = made / "cog.tif", made / "thumbnail.png" if self.thumbnails else None
        options = dict(self.options)
        if self.kept:
            name = f"{self.kept}-{hashlib.sha256(part.name.encode()).hexdigest()[:16]}"
            options["kept"] = str(self.pool.kept(self.folder, name))
        if self.tells_in and not part.name and self.outer is None:
            options["progress"] = str(made / _PROGRESS)
            self.tells_in(made / _PROGRESS)
        options["known_as"] = "/".join(filter(None, (self.known_as or path.name, part.member)))
        request = ConvertRequest(
            source=str(path), destination=str(cog), thumbnail=str(thumbnail) if thumbnail else None, **options
        )
        report = self.pool.call("geo_assets.raster.cog:convert", request, ConvertReport)
        workspace = self.outer or self.folder
        cog = self.pool.take(cog, workspace, of=made)
        if cog.stat().st_size != report.bytes:
            raise GeoAssetsError("SANDBOX_CRASHED", "the reader did not make the file that it reported")
        thumbnail = thumbnail and self.pool.take(thumbnail, workspace, of=made, most=_THUMBNAIL_BYTES)
        return replace(part, cog=cog, thumbnail=thumbnail, report=report)

    def _check(self, source: str, names: Sequence[str], wanted: Sequence[str]) -> None:
        """Refuse if the requested raster is not there, or if only one is allowed and there are several."""
        if self.wanted is not None and not wanted:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{source} holds no raster {self.wanted!r}; it holds: {_listed(names)}"
            )
        if self.single and len(wanted) > 1:
            raise GeoAssetsError("RASTER_SUBDATASETS", f"{source} holds {len(wanted)} rasters: {_listed(wanted)}")

    def _private(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _brought(self, folder: Path, of: Path) -> Path:
        """Move a directory of another workspace into this one; `of` as for `SandboxPool.move`."""
        moved = self._private() / "member"
        self.pool.move(folder, moved, of=of)
        return moved

    def _each(self, do: Callable[[Converter, T], R], items: Sequence[T]) -> list[R]:
        """Run as many at once as there are children, each in a workspace of its own; the first error ends all."""

        def one(item: T) -> R:
            if len(items) == 1:
                return do(self, item)
            with self.pool.workspace_beside(self.folder) as folder:
                return do(replace(self, folder=folder, outer=self.outer or self.folder), item)

        with ThreadPoolExecutor(max_workers=self.pool.workers, thread_name_prefix="part") as threads:
            futures = [threads.submit(one, item) for item in items]
            try:
                return [future.result() for future in futures]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise


def _of_the_part(error: GeoAssetsError) -> GeoAssetsError:
    """The reason why a part is left out; what is the machine's fault or ours is raised, so that the whole is tried
    again.
    """
    if error.error_class is ErrorClass.INVALID or error.code in _TOO_MUCH:
        return error
    raise error


def _reason(part: Part) -> str:
    """Why it is left out, to follow its name in a message."""
    return without_name(part.error.message, part.name.rpartition("/")[2]) if part.error else ""


def _sound(source: str, converted: ConvertedSource) -> ConvertedSource:
    """Raise, with every reason, if no part could be converted."""
    bad = [part for part in converted.parts if part.error]
    if converted.made or not bad:
        return converted
    if len(bad) == 1 and bad[0].error:
        raise bad[0].error
    errors = [part.error for part in bad if part.error]
    codes = {error.code for error in errors}
    reasons = "; ".join(f"{part.name}: {_reason(part)}" for part in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    code = codes.pop() if len(codes) == 1 else "RASTER_UNSUPPORTED"
    raise GeoAssetsError(
        code, f"none of the {len(bad)} rasters in {source} can be converted: {reasons}{more}", remedy=errors[0].remedy
    )


def _named(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Give each part the stem of its files: its name as far as it is plain, unless it has one; with a number where
    another has the same.
    """
    taken, named = set(_RESERVED), []
    for part in parts:
        plain = part.stem or _plain(part)
        stem = next(s for s in _candidates(plain) if s.lower() not in taken)
        taken.add(stem.lower())
        named.append(replace(part, stem=stem))
    return tuple(named)


def _candidates(plain: str) -> Iterable[str]:
    yield plain
    number = 1
    while True:
        number += 1
        yield f"{plain}_{number}"


def _plain(part: Part) -> str:
    """Its name in ASCII letters, digits and underscores; the ending of a member's path is left out."""
    member = safe.plain_name(part.member) or (str(PurePosixPath(part.member).with_suffix("")) if part.member else "")
    folded = unicodedata.normalize("NFKD", f"{member} {part.variable}").encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9]+", "_", folded).strip("_")
    return plain[-_LONGEST_NAME:].strip("_") or "raster"  # its end, which distinguishes it from its siblings


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
