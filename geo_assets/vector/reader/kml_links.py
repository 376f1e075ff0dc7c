"""Links in KML documents.

Here: which documents of a KMZ are read, and which links lead outside. Not here: reading them (`ogr.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.unpacking import listed

#: How a KML refers to another file of its archive.
_HREF = re.compile(rb"<(?:\w+:)?href>\s*(?:<!\[CDATA\[)?\s*([^<\]]+?)\s*(?:\]\]>)?\s*</(?:\w+:)?href>")
_NETWORK_LINK = re.compile(rb"<(?:\w+:)?NetworkLink\b.*?</(?:\w+:)?NetworkLink>", re.DOTALL)
_MOST_LINKED_BYTES = 64 * 1024**2


def kml_documents(folder: Path, members: Sequence[PurePosixPath], name: str) -> list[PurePosixPath]:
    """Return a KMZ's main document (doc.kml, else the first .kml nearest to its root) and those that it links to within
    the archive.
    """
    documents = [member for member in members if member.suffix.lower() == ".kml"]
    if not documents:
        raise GeoAssetsError("VECTOR_NO_LAYERS", f"{name} holds no KML; it holds {listed(members)}")
    found = [min(documents, key=lambda member: (len(member.parts), member.name.lower() != "doc.kml", str(member)))]
    for document in found:  # grows: a linked document may have links too
        for linked in links_of(folder / document):
            target = PurePosixPath(os.path.normpath(document.parent / linked))
            if target in documents and target not in found:
                found.append(target)
    return found


def links_of(document: Path) -> list[str]:
    """Return the paths in the network links of a KML."""
    with document.open("rb") as file:
        text = file.read(_MOST_LINKED_BYTES)
    if b"NetworkLink" not in text:  # which is soon seen
        return []
    return [href.decode("utf-8", "replace") for link in _NETWORK_LINK.findall(text) for href in _HREF.findall(link)]
