"""The COGs of items are read back from where they are, and the items are compared with them.

Here: fetching as many bytes as a header has, many headers in one call. Not here: reading them (`raster/header.py`, in
the sandboxed child), the comparison (`stac/assets.py`).
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
from geo_assets.storage.containers import BlobRef

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


def disagreements(context: StageContext, made: Sequence[Made]) -> list[GeoAssetsError | None]:
    """Check that items say of each COG what the COG's header says; what is wrong with each, if anything.

    All are read in one call of a child. Only those that do not agree by their first bytes are looked at alone: some
    headers are longer, and a file that kills a child must not speak for its neighbours.

    Raises:
        GeoAssetsError: what is no fault of one item: a store does not answer, the run was stopped.
    """
    doubtful = _doubtful(context, made)
    return [_disagreement(context, each) if number in doubtful else None for number, each in enumerate(made)]


def insist_on_agreement(context: StageContext, item: dict[str, Any], cogs: Mapping[str, BlobRef]) -> None:
    """As `disagreements`, of one item.

    Raises:
        GeoAssetsError: STAC_CONTRADICTS_ASSET; what the store or the sandbox raises.
    """
    (error,) = disagreements(context, [Made(item, cogs)])
    if error:
        raise error


def _doubtful(context: StageContext, made: Sequence[Made]) -> set[int]:
    """Those, by their places, whose items the first bytes of their COGs do not show to be right."""
    cogs = [(number, key, ref) for number, each in enumerate(made) for key, ref in each.assets]
    try:
        headers = _headers(context, [_fetched(context, ref, _FETCHED[0]) for _, _, ref in cogs])
    except GeoAssetsError as error:
        if not is_of_the_file(error):
            raise
        return set(range(len(made)))
    return {
        number
        for (number, key, _), header in zip(cogs, headers, strict=True)
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
    """Without its last bytes a header may lack its CRS, or not be readable: only with the most bytes is it believed."""
    wrong = ["its header cannot be read"]
    for length in _FETCHED:
        data = _fetched(context, ref, length)
        (header,) = _headers(context, [data])
        if header:
            wrong = contradictions(item, key, header)
        if not wrong or len(data) < length:
            break
    return wrong


def _fetched(context: StageContext, ref: BlobRef, length: int) -> bytes:
    return context.output_container(ref.container).read_range(ref.path, 0, length)


def _headers(context: StageContext, data: Sequence[bytes]) -> Sequence[CogHeader | None]:
    """The headers that some first bytes have, in their order."""
    if not data:
        return []
    with context.sandbox.workspace() as folder:
        files = [folder / f"{number}.tif" for number in range(len(data))]
        for file, each in zip(files, data, strict=True):
            file.write_bytes(each)
        request = HeadersRequest(sources=tuple(map(str, files)))
        headers = context.sandbox.call("geo_assets.raster.header:headers", request, HeadersReport).headers
        if len(headers) != len(data):
            raise GeoAssetsError("SANDBOX_CRASHED", f"the reader told of {len(headers)} of {len(data)} files")
        return headers
