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

#: What a KML refers to another file of its archive with.
_TAG = re.compile(rb"<(/?)(?:\w+:)?(NetworkLink|href)\b[^<>]*>")
_CDATA = b"<![CDATA[", b"]]>"
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
    found, inside, begin = [], False, None
    for tag in _TAG.finditer(text):
        ends, local = bool(tag[1]), tag[2]
        if local == b"NetworkLink":
            inside, begin = not ends and not tag[0].endswith(b"/>"), None
        elif ends and begin is not None:
            found.append(_plain(text[begin : tag.start()]))
            begin = None
        elif inside and not ends:
            begin = tag.end()
    return [href for href in found if href]


def _plain(text: bytes) -> str:
    """The text of an element without elements in it; empty where it has some."""
    begin, end = _CDATA
    href = text.strip().removeprefix(begin).removesuffix(end).strip()
    return "" if b"<" in href else href.decode("utf-8", "replace")
