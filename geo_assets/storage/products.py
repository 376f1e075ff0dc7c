"""Products of several files: the metadata of a product belong to each of its rasters.

Here: recognising these files by name. Not here: grouping of other files (`sources.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from geo_assets.capture import LANDSAT_METADATA
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source

#: The name of a product's metadata file; the names of the product's other files begin with the first group.
_PRODUCT_METADATA = re.compile(f"(.+){LANDSAT_METADATA}", re.IGNORECASE)


def is_product_metadata(path: str) -> bool:
    """Whether a file is by its name the metadata of a Landsat product: `<product>_MTL.txt`."""
    return _PRODUCT_METADATA.fullmatch(path.rpartition("/")[2]) is not None


def with_metadata(sources: Iterable[Source], metadata: Iterable[Member]) -> Iterator[Source]:
    """Yield the same sources; a raster that is named after a product gets the metadata of that product in its folder as
    its last members.

    The metadata stay a companion, which several rasters may share. They give the time of capture, so a raster is
    converted again when they change.

    Args:
        sources: in any order.
        metadata: the files of the listing for which `is_product_metadata` is true.
    """
    by_folder: dict[str, list[tuple[str, Member]]] = {}
    for member in metadata:
        folder, _, name = member.path.rpartition("/")
        if match := _PRODUCT_METADATA.fullmatch(name):
            by_folder.setdefault(folder, []).append((match[1].lower(), member))
    for source in sources:
        name = source.path.lower().rpartition("/")[2]
        there = (
            by_folder.get(source.path.rpartition("/")[0], [])
            if source.kind is Kind.RASTER and not source.is_folder
            else []
        )
        fitting = tuple(member for product, member in there if name.startswith((f"{product}_", f"{product}.")))
        yield source.model_copy(update={"members": (*source.members, *fitting)}) if fitting else source


def metadata_beside(path: Path) -> list[Path]:
    """Return the metadata of the product after which a raster is named, where they are in its folder."""
    there = [
        Member(path=p.name, size=0, etag="")
        for p in sorted(path.absolute().parent.iterdir())
        if is_product_metadata(p.name)
    ]
    source = Source(path=path.name, kind=Kind.RASTER, members=(Member(path=path.name, size=0, etag=""),))
    (described,) = with_metadata([source], there)
    return [path.absolute().parent / member.path for member in described.members[1:]]
