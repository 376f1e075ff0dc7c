"""The COGs of an item are read back from where they are, and the item is compared with them.

Here: fetching as many bytes as the header has. Not here: reading them (`raster/header.py`, in the sandboxed child), the
comparison (`stac/assets.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import CogHeader, HeaderReport, HeaderRequest
from geo_assets.stac.assets import contradictions
from geo_assets.stages.context import StageContext
from geo_assets.storage.containers import BlobRef

#: Bytes that are fetched, first few: most headers are shorter. One with the offsets of a million tiles has 12 MB.
_FETCHED = (64 << 10, 1 << 20, 32 << 20, 256 << 20)

#: Contradictions that a message names.
_NAMED = 5


def insist_on_agreement(context: StageContext, item: dict[str, Any], cogs: Mapping[str, BlobRef]) -> None:
    """Check that an item says of each COG what the COG's header says.

    Args:
        context: of the stage.
        item: the item.
        cogs: href of an asset -> where it is.

    Raises:
        GeoAssetsError: STAC_CONTRADICTS_ASSET; what the store or the sandbox raises.
    """
    with context.sandbox.workspace() as folder:
        for key, asset in item["assets"].items():
            if (ref := cogs.get(asset["href"])) and (wrong := _wrong(context, Path(folder), item, key, ref)):
                more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
                raise GeoAssetsError(
                    "STAC_CONTRADICTS_ASSET",
                    f"the item of {item['properties']['title']} contradicts {ref}: {'; '.join(wrong[:_NAMED])}{more}",
                )


def _wrong(context: StageContext, folder: Path, item: dict[str, Any], key: str, ref: BlobRef) -> list[str]:
    """Without its last bytes a header may lack its CRS, or not be readable: only with the most bytes is it believed."""
    container, wrong = context.output_container(ref.container), ["its header cannot be read"]
    for length in _FETCHED:
        data = container.read_range(ref.path, 0, length)
        if header := _header(context, folder, data):
            wrong = contradictions(item, key, header)
        if not wrong or len(data) < length:
            break
    return wrong


def _header(context: StageContext, folder: Path, data: bytes) -> CogHeader | None:
    file = Path(tempfile.mkdtemp(dir=folder)) / "header.tif"
    file.write_bytes(data)
    request = HeaderRequest(source=str(file))
    return context.sandbox.call("geo_assets.raster.header:header", request, HeaderReport).header
