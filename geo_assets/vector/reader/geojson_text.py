"""The features of a GeoJSON text, parsed once: their rows in a file of ours, and what is known of all of them.

Here: a stream of features out of a text of any length, split into ids, properties and WKB. Not here: the text itself
(`json_text.py`), the type of each property (`geojson_columns.py`), the CRS (`geojson_crs.py`), WKB of one geometry
(`geojson_wkb.py`), batches (`geojson.py`).

To parse takes five times as long as to read rows again that Python wrote, and a table needs them two or three times.
"""

from __future__ import annotations

import json
import marshal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError
from geo_assets.once import remembered_of_file
from geo_assets.vector.reader.alike import Alike
from geo_assets.vector.reader.batches import BATCH_ROWS
from geo_assets.vector.reader.geojson_columns import Schema, exact, properties_of, scalar
from geo_assets.vector.reader.geojson_crs import DeclaredCrs
from geo_assets.vector.reader.geojson_wkb import BadGeometryError, is_geometry, kind_of_text, to_wkb, wkb_of_texts
from geo_assets.vector.reader.json_text import Element, Window

if TYPE_CHECKING:
    import pyarrow as pa

#: Characters of text after which the rows that are held are enough; two more such parts are in work.
_MOST_CHARACTERS = 8 * 1024**2

#: Bytes that say how long some rows are.
_LENGTH = 8

NO_FEATURE = "not a GeoJSON feature"


@dataclass(slots=True)
class Rows:
    """Some features, each split into its parts."""

    idents: list[Any] = field(default_factory=list)
    properties: list[dict[str, Any]] = field(default_factory=list)
    wkb: list[bytes | None] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)  # what is wrong with a geometry, by row
    _texts: dict[int, Element] = field(default_factory=dict)  # whose geometries are not yet parsed, by row

    def __len__(self) -> int:
        return len(self.wkb)

    def add(self, element: Element) -> None:
        """Add whatever is in the place of a feature."""
        feature, row = element.value, len(self)
        bare = is_geometry(feature)
        if not isinstance(feature, dict) or (
            not bare and feature.get("type") != "Feature" and "geometry" not in feature
        ):
            self._add(None, {})
            self.faults[row] = NO_FEATURE
            return
        self._add(None if bare else scalar(feature.get("id")), properties_of(feature))
        geometry = feature if bare else feature.get("geometry")
        if element.geometry is not None:
            self._texts[row] = element
        elif geometry is not None:
            self._place(row, geometry)

    def _add(self, ident: Any, properties: dict[str, Any]) -> None:
        self.idents.append(ident)
        self.properties.append(properties)
        self.wkb.append(None)

    def _place(self, row: int, geometry: Any) -> None:
        try:
            self.wkb[row] = to_wkb(geometry)
        except BadGeometryError as error:
            self.faults[row] = str(error)
        except OverflowError:
            self.faults[row] = "coordinates are not finite numbers"

    def parse_geometries(self, name: str) -> None:
        """Make WKB of the geometries that are text.

        Args:
            name: of the file, in messages.

        Raises:
            GeoAssetsError: UNREADABLE, one is no JSON.
        """
        kinds: dict[str, list[int]] = {}
        for row, element in self._texts.items():
            kinds.setdefault(kind_of_text(element.geometry or ""), []).append(row)
        for kind, rows in kinds.items():
            made = wkb_of_texts(kind, [self._texts[row].geometry or "" for row in rows])
            if made is None:
                for row in rows:
                    self._place(row, _parsed_alone(self._texts[row], name))
            else:
                for row, wkb in zip(rows, made, strict=True):
                    self.wkb[row] = wkb
        self._texts = {}

    @property
    def geometries(self) -> pa.Array:
        """Return the WKB of each row, as Arrow."""
        import pyarrow as pa

        return pa.array(self.wkb, pa.binary())

    def write(self, file: IO[bytes], name: str) -> None:
        """Write the rows behind others.

        Args:
            file: to write to.
            name: of the source, in messages.

        Raises:
            GeoAssetsError: UNREADABLE, a property is nested too deeply.
        """
        try:
            body = marshal.dumps((self.idents, self.properties, self.wkb, self.faults))
        except ValueError as error:
            raise GeoAssetsError("UNREADABLE", f"{name} has a property that is nested 2,000 deep") from error
        file.write(len(body).to_bytes(_LENGTH, "little"))
        file.write(body)

    @classmethod
    def read(cls, file: IO[bytes]) -> Rows | None:
        """Read the next rows; None at the end."""
        length = file.read(_LENGTH)
        if not length:
            return None
        body = file.read(int.from_bytes(length, "little"))
        return cls(*marshal.loads(body))  # noqa: S302 - this process wrote it


def _parsed_alone(element: Element, name: str) -> Any:
    try:
        return json.loads(element.geometry or "")
    except (ValueError, RecursionError) as error:  # ValueError: also thousands of digits
        what = error.msg if isinstance(error, json.JSONDecodeError) else f"nested too deeply ({type(error).__name__})"
        place = element.place + getattr(error, "pos", 0)
        raise GeoAssetsError(
            "UNREADABLE", f"{name} is not readable as GeoJSON: {what[:80]} at character {place:,}"
        ) from error


@dataclass(slots=True)
class Parsed:
    """What is known of a text once it is read."""

    file: Path
    declared: DeclaredCrs = field(default_factory=DeclaredCrs)
    schema: Schema = field(default_factory=Schema)
    features: int = 0
    alike: Alike | None = field(default_factory=Alike)  # None: some geometries differ, or are faulty

    def add(self, rows: Rows) -> None:
        """Take some more features."""
        self.features += len(rows)
        self.schema.add(rows.idents, rows.properties)
        if self.alike and (rows.faults or not self.alike.add(rows.geometries)):
            self.alike = None

    def rows(self) -> Iterator[Rows]:
        """Yield all features in their order, some at a time."""
        with self.file.open("rb") as file:
            while rows := Rows.read(file):
                yield rows


def parsed(path: Path, name: str, encoding: str) -> Parsed:
    """Parse a text, once for each of its versions.

    Args:
        path: of the text, in a folder of ours.
        name: its name in messages.
        encoding: a codec of Python's.

    Raises:
        GeoAssetsError: UNREADABLE; VECTOR_UNSUPPORTED, it is JSON of another kind; TOO_LARGE.
    """
    found = _remembered(path, name, encoding)
    return found if found.file.exists() else _parse(path, name, encoding)


def _parse(path: Path, name: str, encoding: str) -> Parsed:
    found = _read(path, name, encoding)
    return _read(path, name, encoding, number=exact) if found.schema.may_be_rounded else found


def _read(path: Path, name: str, encoding: str, number: Callable[[str], Any] | None = None) -> Parsed:
    found = Parsed(path.with_name(f"{path.name}.{encoding}.rows"))
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            _write_all(_in_parts(_elements(path, name, encoding, found.declared, number)), found, file, name)
            Path(file.name).replace(found.file)
        except BaseException:
            Path(file.name).unlink()
            raise
    return found


def _write_all(parts: Iterator[Rows], found: Parsed, file: IO[bytes], name: str) -> None:
    """Write all rows; the geometries of some are parsed while the next are read."""

    def take(rows: Rows) -> None:
        rows.parse_geometries(name)
        found.add(rows)
        rows.write(file, name)

    with ThreadPoolExecutor(1, thread_name_prefix="geojson") as worker:  # no thread begins where there is one part
        begun: Future[None] | None = None
        held: Rows | None = None
        for rows in parts:
            if held is not None:
                if begun:
                    begun.result()
                begun = worker.submit(take, held)
            held = rows
        if begun:
            begun.result()
        if held is not None:
            take(held)


_remembered = remembered_of_file(_parse)  # it is asked for when the file is inspected, and when it is loaded


def _in_parts(elements: Iterator[Element]) -> Iterator[Rows]:
    rows, size = Rows(), 0
    for element in elements:
        rows.add(element)
        size += element.length
        if len(rows) == BATCH_ROWS or size > _MOST_CHARACTERS:
            yield rows
            rows, size = Rows(), 0
    if len(rows):
        yield rows


def _elements(
    path: Path, name: str, encoding: str, declared: DeclaredCrs, number: Callable[[str], Any] | None
) -> Iterator[Element]:
    """Yield everything that is in the place of a feature."""
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
        window = Window(file, name, number=number)
        found = inherits = False
        while window.next_character(skip="\x1e"):
            found = True
            if (feature := window.feature()) is not None:
                inherits = True
                yield feature
            else:
                yield from _document(window, name, declared)
        if not found:
            raise GeoAssetsError("UNREADABLE", f"{name} holds no JSON")
        if inherits:
            declared.say_nothing()


def _document(window: Window, name: str, declared: DeclaredCrs) -> Iterator[Element]:
    """Read one object of the text: a collection, whose features are yielded one by one, a feature or a geometry."""
    if window.next_character() != "{":
        raise window.fault("an object is expected")
    members: dict[str, Any] = {}
    begin = window.place
    collection = inherits = False
    for key in window.keys():  # noqa: SIM118 - a generator that moves on
        if key == "features" and window.next_character() == "[":
            collection = True
            for element in window.features():
                inherits |= element.geometry is not None or declared.add(element.value)
                yield element
        else:
            members[key] = window.value()
    inherits |= not collection and declared.add(members)
    if "crs" in members:
        declared.say(members["crs"])
    elif inherits:
        declared.say_nothing()
    kind = members.get("type")
    if collection and (kind is None or kind == "FeatureCollection"):
        return
    if collection or not (kind == "Feature" or is_geometry(members)):
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{name} is JSON, but not GeoJSON (its type is {str(kind)[:40]!r})")
    yield Element(members, window.place - begin)
