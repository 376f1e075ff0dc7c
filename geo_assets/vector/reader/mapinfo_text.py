"""The text of a MapInfo table, and its encoding.

Here: the charset that a .tab or .mif names, evidence of the bytes against it, a header by which GDAL delivers the
bytes as they are, and the text of these. GDAL (3.12.4) does not know the charset `Neutral` nor some others, and drops
the last letter of Hebrew. Not here: the columns of a .mif (`mif_columns.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from geo_assets.vector.encodings import encoding_by_evidence, find_codec
from geo_assets.vector.reader.dbf_layout import Dbf
from geo_assets.vector.reader.findings import Findings
from geo_assets.vector.reader.formats import head_of

if TYPE_CHECKING:
    import pyarrow as pa

    from geo_assets.vector.models import LayerOptions

#: Codecs of the charsets that MapInfo names in its own way. Source: its reference of `Charset` in MapBasic.
_CODECS = {
    "windowslatin1": "cp1252", "windowslatin2": "cp1250", "windowsarabic": "cp1256", "windowscyrillic": "cp1251",
    "windowsgreek": "cp1253", "windowshebrew": "cp1255", "windowsturkish": "cp1254", "windowsbalticrim": "cp1257",
    "windowsvietnamese": "cp1258", "windowsthai": "cp874", "windowstradchinese": "cp950", "windowssimpchinese": "gbk",
    "windowsjapanese": "cp932", "windowskorean": "cp949",
}  # fmt: skip

#: Charsets of which GDAL makes the right text, beside those of ISO and the code pages of DOS. Of text in `Neutral` it
#: makes nothing, which is right for UTF-8.
_BY_GDAL = _CODECS.keys() - {"windowshebrew", "windowsvietnamese", "windowsthai"} | {"utf-8"}
_BY_GDAL_TOO = re.compile(r"iso8859_\d|codepage(437|850|852|855|857|86[01345]|869)")

#: Where a .tab and a .mif name it. Of a .tab GDAL knows the first alone; programs write both, or one of them.
_OF_TAB = re.compile(rb'^[ \t]*!charset[ \t]+"?([^"\r\n]+?)"?[ \t\r]*$', re.IGNORECASE | re.MULTILINE)
_OF_TABLE = re.compile(rb'^[ \t]*type[ \t]+\w+[ \t]+charset[ \t]+"([^"\r\n]+)"', re.IGNORECASE | re.MULTILINE)
_OF_MIF = re.compile(rb'^[ \t]*charset[ \t]+"?([^"\r\n]+?)"?[ \t\r]*$', re.IGNORECASE | re.MULTILINE)
_LATIN_1, _NOTHING = b"ISO8859_1", "neutral"
_SAMPLE_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Charset:
    """How the text of a table is read."""

    codec: str
    note: str | None
    by_us: bool  # from the bytes, which GDAL delivers as Latin-1

    @classmethod
    def of(cls, path: Path, parts: Mapping[str, Path], options: LayerOptions) -> Self:
        """Decide it by the options, by what the bytes are, or by what the header says, in this order.

        Args:
            path: the .tab or .mif.
            parts: the files beside it, by their endings.
            options: of the request.
        """
        head = head_of(path)  # has the names of columns
        gdals, name = _named(head, is_tab=path.suffix.lower() == ".tab")
        declared = _CODECS.get(name.lower().replace(" ", "")) or find_codec(name)
        said = None if name.lower() == _NOTHING else f"its {path.suffix.lower()} says {name!r}"
        codec, note = encoding_by_evidence(head + _text_of(path, parts), declared, said)
        if options.encoding:
            codec, note = find_codec(options.encoding) or codec, None
        return cls(codec, note, codec != gdals)


def _named(head: bytes, *, is_tab: bool) -> tuple[str | None, str]:
    """Return the codec by which GDAL reads text, None where it is not right, and the charset that a file names."""
    found = (_OF_TAB if is_tab else _OF_MIF).search(head)
    name = found[1].decode("ascii", "replace") if found else _NOTHING
    known = name.lower() in _BY_GDAL or bool(_BY_GDAL_TOO.fullmatch(name.lower()))
    gdals = "utf-8" if name.lower() == _NOTHING else (_CODECS.get(name.lower()) or find_codec(name)) if known else None
    if name.lower() == _NOTHING and is_tab and (found := _OF_TABLE.search(head)):
        name = found[1].decode("ascii", "replace")
    return gdals, name


def _text_of(path: Path, parts: Mapping[str, Path]) -> bytes:
    """Return the text of the rows of a table, or a large sample."""
    if path.suffix.lower() == ".mif":
        if (rows := parts.get(".mid")) is None:
            return b""
        with rows.open("rb") as file:
            return file.read(min(_SAMPLE_BYTES, rows.stat().st_size))
    table = parts.get(".dat") or parts.get(".dbf")
    dbf = Dbf.open(table) if table is not None else None
    return dbf.character_bytes(_SAMPLE_BYTES) if dbf is not None else b""


def as_latin_1(header: bytes) -> bytes:
    """Return the header of a .tab or .mif that says that the text is Latin-1, of which every byte is a character."""
    is_tab = header.lstrip().startswith(b"!")
    where, line = (_OF_TAB, b"!charset " + _LATIN_1) if is_tab else (_OF_MIF, b'Charset "' + _LATIN_1 + b'"')
    if where.search(header):
        return where.sub(line, header, count=1)
    first, end, rest = header.partition(b"\n")
    return first + end + line + b"\n" + rest


@dataclass(slots=True)
class TextCheck:
    """Makes the text of a table from its bytes."""

    names: list[str]
    codec: str
    notes: tuple[str, ...] = ()
    hidden: frozenset[int] = frozenset()

    def correct(self, columns: list[pa.Array | None], _: pa.Array, findings: Findings) -> None:
        """Put text in the place of bytes as Latin-1."""
        import pyarrow as pa
        import pyarrow.compute as pc

        for position, column in enumerate(columns):
            is_text = column is not None and pa.types.is_string(column.type)
            if column is not None and is_text and not pc.all(pc.string_is_ascii(column)).as_py():
                columns[position] = self._decoded(column, self.names[position], findings)

    def _decoded(self, column: pa.Array, name: str, findings: Findings) -> pa.Array:
        import pyarrow as pa

        raw = [None if text is None else text.encode("latin-1", "replace") for text in column.to_pylist()]
        texts = [None if each is None else each.decode(self.codec, "replace") for each in raw]
        findings.add_faulty(name, raw, texts)
        return pa.array(texts, pa.string())
