"""What the text of a GML says that GDAL does not read as it is written, and a copy that it does.

Here: features, geometries that are not read or in part, several of one feature, dimensions. Not here: the pass over the
text (`xml_numbers.py`), which elements are read in part (`gml_geometries.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from geo_assets.vector.reader.edits import attribute_at, copy_edited
from geo_assets.vector.reader.gml_geometries import GEOMETRIES, IN_PART, NAMESPACE, SUSPECTS, fault_of, may_be_at_fault

#: Elements that contain features, and what such an element may contain instead, as the answer to several queries does.
_MEMBERS = frozenset({"featureMember", "featureMembers", "member"})
_COLLECTION = "FeatureCollection"

_POSITIONS = frozenset({"pos", "posList"})
_DIMENSION, _REFERENCE = "srsDimension", "srsName"

#: Different names of CRSs of a layer that are kept: more cannot be of one.
_MOST_REFERENCES = 32

_NOTED = GEOMETRIES | SUSPECTS | _POSITIONS


@dataclass(slots=True)
class GmlText:
    """What the text of a GML says that GDAL does not."""

    features: Counter[str] = field(default_factory=Counter)  # by element name
    unread: dict[str, dict[int, str]] = field(default_factory=dict)  # by element name, then position: what is wrong
    several: Counter[str] = field(default_factory=Counter)  # features with more than one geometry, by element name
    envelopes: list[int] = field(default_factory=list)  # where extents of collections begin that state a dimension
    references: dict[str, dict[str, None]] = field(default_factory=dict)  # srsName of geometries, by element name
    has_dimension: bool = False  # of a geometry, in a feature
    lacks_dimension: bool = False

    @property
    def wants_a_copy(self) -> bool:
        """Whether GDAL should read a copy: for positions without a dimension it takes that of the whole collection,
        where others say their own.
        """
        return bool(self.envelopes) and self.has_dimension and self.lacks_dimension


class GmlLook:
    """What a parser meets in a GML."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.seen = GmlText()
        self._parser = parser
        self._feature: int | None = None  # the depth of that in which we are
        self._geometry: int | None = None  # that of its geometry
        self._dimension: int | None = None  # that of the element whose dimension counts
        self._geometries = 0

    def wants(self, local: str, attributes: Mapping[str, str]) -> bool:
        """Whether `start` is to be called; to be asked for each element takes longer than to parse it."""
        return self._feature is None or bool(attributes) or local in _NOTED

    def start(self, path: Sequence[str], tags: Sequence[str], attributes: Mapping[str, str]) -> None:
        """An element begins.

        Args:
            path: its name, and before it those of the elements that it is in, without namespaces.
            tags: the same with namespaces.
            attributes: its own.
        """
        depth, local = len(path), path[-1]
        if self._feature is None:
            if depth > 1 and path[-2] in _MEMBERS and not local.endswith(_COLLECTION):
                self._feature, self._geometries = depth, 0
                self.seen.features[local] += 1
            elif local == "Envelope" and _DIMENSION in attributes:
                self.seen.envelopes.append(self._parser.CurrentByteIndex)
            return
        layer = path[self._feature - 1]
        if may_be_at_fault(local, attributes):
            self._look_for_unread(layer, tags[self._feature - 1 :], attributes)
        if path[-2] == "boundedBy":
            return
        if self._dimension is None and _DIMENSION in attributes:
            self._dimension, self.seen.has_dimension = depth, True
        if local in _POSITIONS:
            self.seen.lacks_dimension |= self._dimension is None
        elif self._geometry is None and local in GEOMETRIES and tags[-1].startswith(NAMESPACE):
            self._geometry = depth
            self._geometries += 1
            references = self.seen.references.setdefault(layer, {})
            if len(references) < _MOST_REFERENCES:
                references[attributes.get(_REFERENCE, "")] = None
            self.seen.several[layer] += self._geometries == 2

    def end(self, depth: int) -> None:
        """An element ends."""
        if depth == self._dimension:
            self._dimension = None
        if depth == self._geometry:
            self._geometry = None
        if depth == self._feature:
            self._feature = None

    def _look_for_unread(self, layer: str, tags: Sequence[str], attributes: Mapping[str, str]) -> None:
        fault = fault_of(tags, attributes)
        if fault is None:
            return
        faults = self.seen.unread.setdefault(layer, {})
        place = self.seen.features[layer] - 1
        if fault in IN_PART or place not in faults:
            faults[place] = fault


def copy_for_gdal(path: Path, to: Path, text: GmlText) -> None:
    """Copy a GML whose extents of collections state no dimension.

    Args:
        path: the GML.
        to: the copy.
        text: of the GML.
    """
    with path.open("rb") as source:
        places = [attribute_at(source, tag, _DIMENSION.encode()) for tag in text.envelopes]
        copy_edited(source, to, [(*place, b"") for place in places if place])
