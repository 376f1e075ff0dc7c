"""Scenes of a job: the sources that its patterns make of a listing, and where their files lie while they are converted.

Here: what joins a job's parameters with `storage/scenes.py`. Not here: the patterns themselves, the conversion
(`raster_conversion.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import Work
from geo_assets.outcomes import InputFile
from geo_assets.parameters import IngestContainer, Parameters
from geo_assets.stages.raster_conversion import PRODUCT, SceneMember
from geo_assets.storage.kinds import Kind
from geo_assets.storage.scenes import ASIDE, Scenes, tells_of_a_product
from geo_assets.storage.sources import Member, Source, group_sources, name_key

#: Bytes of a file's name in the private directory; a longer one is shortened.
_LONGEST_NAME = 200


def scenes_of(asked: Parameters) -> Scenes | None:
    """How a job groups files; None if it does not."""
    if not isinstance(asked, IngestContainer) or asked.id_regex is None:
        return None
    return Scenes(asked.id_regex, asked.assets, needs_all=asked.missing_assets == "refuse")


def sources_in(members: Iterable[Member], asked: Parameters) -> Iterable[Source]:
    """The sources of a listing that is ordered by `name_key`, scenes among them where the job asks for them."""
    scenes = scenes_of(asked)
    return scenes.grouped(group_sources(members), metadata=False) if scenes else group_sources(members)


def scene_fault(asked: Parameters, source: Source) -> GeoAssetsError | None:
    """Why a scene cannot be an item; None if it can, and of any other source."""
    scenes = scenes_of(asked)
    return scenes.fault(source) if scenes and source.kind is Kind.SCENE else None


def scene_places(work: Work, folder: Path) -> list[Path]:
    """Where the members of a scene lie in a private directory: each raster with its own sidecars in a directory of its
    own, the metadata of the product in theirs.
    """
    return [_place(member, folder) for member in work.input.members]


def _place(member: InputFile, folder: Path) -> Path:
    name = member.path.rpartition("/")[2]
    if tells_of_a_product(member.path):
        return folder / PRODUCT / name
    key = name_key(member.path)
    if len(name.encode()) > _LONGEST_NAME:
        name = f"source{name[len(key[1]) :]}"
    return folder / hashlib.sha256("\0".join(key).encode("utf-8", "backslashreplace")).hexdigest()[:16] / name


def scene_members(asked: Parameters, work: Work, folder: Path) -> tuple[list[SceneMember], list[str], list[str]]:
    """What there is to convert of a scene that was fetched to a directory; its rasters that are no data; the keys of
    assets for which there is no file.
    """
    scenes = scenes_of(asked)
    if scenes is None:
        raise GeoAssetsError("CONTRACT_VIOLATION", f"{work.task_key} is a scene of a job that asks for none")
    by_path = {member.path: member for member in work.input.members}
    files = scenes.files([Member(path=m.path, size=m.size, etag=m.etag) for m in work.input.members])
    rasters = [SceneMember(f.key, f.path, _place(by_path[f.path], folder)) for f in files if f.key != ASIDE]
    return rasters, [file.path for file in files if file.key == ASIDE], scenes.missing(files)


def refuse_incomplete(asked: Parameters, work: Work, left_out: Sequence[tuple[str, GeoAssetsError]]) -> None:
    """Refuse a scene of which every file is needed, and some could not be converted.

    Raises:
        GeoAssetsError: SCENE_INCOMPLETE.
    """
    scenes = scenes_of(asked)
    if scenes and scenes.needs_all and left_out:
        name, error = left_out[0]
        raise GeoAssetsError(
            "SCENE_INCOMPLETE",
            f"{name} of the scene {work.task_key} cannot be converted: {error.message} ({error.code})",
            remedy=error.remedy,
        )
