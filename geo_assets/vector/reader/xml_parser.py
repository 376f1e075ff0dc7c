"""A parser of XML that untrusted files cannot surprise.

Here: expat without entities, and what is no XML. Not here: what is looked for (`xml_numbers.py`, `gpx_values.py`).
"""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

#: Bytes of text that are handed over at once.
_BUFFER = 1 << 16

#: Bytes that are read at once. `ParseFile` reads so little that a waiting thread never gets Python's lock: each time
#: that it is released for a moment the thread's wait begins anew.
_PIECE = 1 << 20


def new_parser(*, namespaces: bool = False) -> expat.XMLParserType:
    """Return a parser that hands over text in few pieces, and refuses entities, which can make gigabytes of a line.

    Args:
        namespaces: tags begin with their namespace and a blank, if they have one.
    """
    parser = expat.ParserCreate(namespace_separator=" ") if namespaces else expat.ParserCreate()
    parser.buffer_text = True
    parser.buffer_size = _BUFFER
    parser.EntityDeclHandler = _no_entities
    return parser


def parsed(parser: expat.XMLParserType, path: Path) -> bool:
    """Parse a file; whether it is well-formed. One that is not is left to GDAL, which says what is wrong with it."""
    with path.open("rb") as file:
        try:
            while piece := file.read(_PIECE):
                parser.Parse(piece, False)
            parser.Parse(b"", True)
        except (expat.ExpatError, ValueError, LookupError):  # LookupError: an encoding that nobody knows
            return False
    return True


def _no_entities(*_: object) -> None:
    raise ValueError("it declares entities")
