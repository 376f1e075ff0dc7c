"""What an item was made of, how, and by which software: the processing extension, and a link to each source file.

Here: adding this to an item. Not here: the rest of it (`item.py`), where its assets lie (`places.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geo_assets.raster.models import ConvertReport

_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"

#: Source files that an item links to: a folder may hold thousands.
_MOST_SOURCES = 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read. The href has no credentials; that of a local file is percent-encoded."""

    path: str
    href: str
    size: int  # bytes
    sha256: str


def with_provenance(
    item: dict[str, Any], *, sources: Sequence[SourceFile], steps: str, software: Mapping[str, str]
) -> dict[str, Any]:
    """Return the item with its lineage.

    Args:
        item: without a lineage.
        sources: the files that it was made of, the owner first.
        steps: what was done with them.
        software: name -> version.
    """
    shown = sources[:_MOST_SOURCES]
    lineage = f"{_named(sources)}: {steps}"
    links = [
        {
            "rel": "derived_from",
            "href": file.href,
            "title": file.path,
            "file:size": file.size,
            "file:checksum": f"1220{file.sha256}",  # multihash: sha2-256, 32 bytes
        }
        for file in shown
    ]
    extensions = [*item["stac_extensions"], _PROCESSING, *([_FILE] if links else [])]
    told = {"processing:lineage": lineage} | ({"processing:software": dict(software)} if software else {})
    return {
        **item,
        "stac_extensions": list(dict.fromkeys(extensions)),
        "properties": {**item["properties"], **told},
        "links": [*item["links"], *links],
    }


def _named(sources: Sequence[SourceFile]) -> str:
    if not sources:
        return "its source"
    first, *rest = sources
    more = f" and {len(rest):,} more file{'s' * (len(rest) > 1)}" if rest else ""
    return f"{first.path} (SHA-256 {first.sha256}){more}"


def cog_steps(reports: Sequence[ConvertReport], *, reprojected: bool) -> str:
    """Say how COGs were made. `reprojected`: a CRS or the grid of web tiles was asked for."""
    report = reports[0]
    if len(reports) == 1 and report.passed_through:
        return "is a valid COG already and was kept as it is, byte for byte"
    read = f"read by the {report.driver} driver"
    warped = f", reprojected to {f'EPSG:{report.epsg}' if report.epsg else 'another CRS'}" if reprojected else ""
    what = "as a COG" if len(reports) == 1 else f"as {len(reports)} COGs"
    if kept := next((r.kept_blocks for r in reports if r.kept_blocks), None):
        return f"{read}, written {what}, with its JPEG blocks as they are, bit by bit, and overviews compressed {kept}"
    errors = [r.max_error for r in reports if r.max_error is not None]
    loss = f"with differences of at most {max(errors):g}" if errors else "without loss"
    return f"{read}{warped}, written {what}, compressed {loss} (profile {report.profile})"


def table_steps(tables: int) -> str:
    """Say how tables were made."""
    return f"loaded into {tables} table{'s' * (tables != 1)}"


def file_steps(files: int) -> str:
    """Say how files were made."""
    return f"written as {files} file{'s' * (files != 1)}"
