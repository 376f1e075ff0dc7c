"""The COGs of items are read back from where they are, and the items are compared with them.

Here: fetching as many bytes as a header has, many headers in one call; whether a COG is there, as long as it was made.
Not here: reading them (`raster/header.py`, in the sandboxed child), the comparison (`stac/assets.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import CogHeader, HeadersReport, HeadersRequest
from geo_assets.stac.assets import contradictions
from geo_assets.stages.bad_files import is_of_the_file
from geo_assets.stages.context import StageContext
from geo_assets.stages.files import first_bytes
from geo_assets.storage.blobs import BlobRef

#: Bytes that are fetched, first few: most headers are shorter. One with the offsets of a million tiles has 12 MB.
_FETCHED = (64 << 10, 1 << 20, 32 << 20, 256 << 20)

#: Contradictions that a message names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Made:
    """An item that was made, and where its COGs are: href of an asset -> blob."""

    item: dict[str, Any]
    cogs: Mapping[str, BlobRef]

    @property
    def assets(self) -> list[tuple[str, BlobRef]]:
        """The keys of its COGs, and where they are."""
        return [(key, ref) for key, asset in self.item["assets"].items() if (ref := self.cogs.get(asset["href"]))]


def beginnings(context: StageContext, made: Sequence[Made]) -> list[bytes]:
    """What the COGs of items begin with, in their order; nothing of one that is gone, or is not as long as its item
    says.

    Raises:
        GeoAssetsError: what the store answers.
    """
    cogs = [(each.item, key, ref) for each in made for key, ref in each.assets]
    begun = first_bytes(context, (ref for _, _, ref in cogs), _FETCHED[0])
    return [
        first.data if first and first.size == _size(item, key) else b""
        for (item, key, _), first in zip(cogs, begun, strict=True)
    ]


def disagreements(context: StageContext, made: Sequence[Made], begun: Sequence[bytes]) -> list[GeoAssetsError | None]:
    """Check that items say of each COG what the COG's header says; what is wrong with each, if anything.

    All are read in one call of a child. Only those that do not agree by their first bytes are looked at alone: some
    headers are longer, and a file that kills a child must not speak for its neighbours.

    Args:
        context: of the stage.
        made: the items.
        begun: their `beginnings`.

    Raises:
        GeoAssetsError: what is no fault of one item: a store does not answer, the run was stopped.
    """
    doubtful = _doubtful(context, made, begun)
    return [_disagreement(context, each) if number in doubtful else None for number, each in enumerate(made)]


def insist_on_agreement(context: StageContext, item: dict[str, Any], cogs: Mapping[str, BlobRef]) -> None:
    """As `disagreements`, of one item.

    Raises:
        GeoAssetsError: STAC_CONTRADICTS_ASSET; OUTPUT_GONE; what the store or the sandbox raises.
    """
    made = [Made(item, cogs)]
    (error,) = disagreements(context, made, beginnings(context, made))
    if error:
        raise error


def _doubtful(context: StageContext, made: Sequence[Made], begun: Sequence[bytes]) -> set[int]:
    """Those, by their places, whose items the first bytes of their COGs do not show to be right."""
    cogs = [(number, key) for number, each in enumerate(made) for key, _ in each.assets]
    try:
        headers = _headers(context, begun)
    except GeoAssetsError as error:
        if not is_of_the_file(error):
            raise
        return set(range(len(made)))
    return {
        number
        for (number, key), header in zip(cogs, headers, strict=True)
        if header is None or contradictions(made[number].item, key, header)
    }


def _disagreement(context: StageContext, made: Made) -> GeoAssetsError | None:
    try:
        for key, ref in made.assets:
            if wrong := _wrong(context, made.item, key, ref):
                more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
                title = made.item["properties"]["title"]
                said = f"the item of {title} contradicts {ref}: {'; '.join(wrong[:_NAMED])}{more}"
                return GeoAssetsError("STAC_CONTRADICTS_ASSET", said)
    except GeoAssetsError as error:
        if not is_of_the_file(error):
            raise
        return error
    return None


def _wrong(context: StageContext, item: dict[str, Any], key: str, ref: BlobRef) -> list[str]:
    """What an item says of a COG and the COG does not. Without its last bytes a header may lack its CRS, or not be
    readable: only with the most bytes is it believed.

    Raises:
        GeoAssetsError: OUTPUT_GONE, it is not there, or has another length; what the store or the sandbox raises.
    """
    wrong = ["its header cannot be read"]
    for length in _FETCHED:
        (first,) = first_bytes(context, [ref], length)
        if first is None or first.size != _size(item, key):
            title, now = item["properties"]["title"], "gone" if first is None else f"one of {first.size:,} bytes"
            raise GeoAssetsError("OUTPUT_GONE", f"the COG that was made of {title} is {now} at {ref}")
        (header,) = _headers(context, [first.data])
        if header:
            wrong = contradictions(item, key, header)
        if not wrong or len(first.data) < length:
            break
    return wrong


def _size(item: dict[str, Any], key: str) -> int | None:
    """The bytes of a COG, as its item has them."""
    size: int | None = item["assets"][key].get("file:size")
    return size


def _headers(context: StageContext, data: Sequence[bytes]) -> Sequence[CogHeader | None]:
    """The headers that some first bytes have, in their order."""
    if not any(data):
        return [None] * len(data)
    with context.sandbox.workspace() as folder:
        file = folder / "headers"
        file.write_bytes(b"".join(data))
        request = HeadersRequest(source=str(file), lengths=tuple(map(len, data)))
        headers = context.sandbox.call("geo_assets.raster.header:headers", request, HeadersReport).headers
        if len(headers) != len(data):
            raise GeoAssetsError("SANDBOX_CRASHED", f"the reader told of {len(headers)} of {len(data)} files")
        return headers
