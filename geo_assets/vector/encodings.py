"""Encodings of text: the codec for a name, and how text is read if the file names no encoding or the wrong one.

Here: names, code pages of DBF files, and the evidence of the bytes. Not here: reading the text.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from geo_assets.text import utf_16_of

#: The guess for text that is not UTF-8 and declares no encoding, or a wrong one.
FALLBACK = "cp1252"

_NUMBERED = re.compile(r"(?:ansi|windows|win|cp|ibm|oem|ms|dos|codepage|code page)?[\s_-]*(\d{3,5})")
_ISO_8859 = re.compile(r"(?:iso)?[\s_-]*8859[\s_-]*(\d{1,2})")
_NUMBERS = {
    65001: "utf-8",
    10000: "mac-roman",
    10006: "mac-greek",
    10007: "mac-cyrillic",
    10029: "mac-latin2",
    20866: "koi8-r",
    21866: "koi8-u",
    28591: "iso8859-1",
}
_TEXT_CODECS = re.compile(
    r"utf-8|utf-16|cp\d+|iso8859-\d+|koi8-[rut]|mac-\w+|gb\w+|big5\w*|euc_\w+|shift_jis\w*|johab|tis-620|ascii"
)

#: Encodings of which GDAL makes other text: it drops the last letter of the first two, and does not know the others.
NOT_BY_GDAL = frozenset({"cp1255", "cp1258", "mac-greek", "mac-latin2"})

#: Code pages by the byte at 29 of a DBF (its language driver).
_DBF_PAGES = {
    **dict.fromkeys((0x01, 0x09, 0x0B, 0x0D, 0x0F, 0x11, 0x15, 0x18, 0x19, 0x1B), 437),
    **dict.fromkeys((0x02, 0x0A, 0x0E, 0x10, 0x12, 0x14, 0x16, 0x1A, 0x1D, 0x25, 0x37), 850),
    **dict.fromkeys((0x03, 0x57, 0x58, 0x59), 1252),
    **dict.fromkeys((0x1F, 0x22, 0x23, 0x40, 0x64, 0x87), 852),
    **dict.fromkeys((0x08, 0x17, 0x66), 865),
    **dict.fromkeys((0x26, 0x65), 866),
    **dict.fromkeys((0x13, 0x7B), 932),
    **dict.fromkeys((0x4D, 0x7A), 936),
    **dict.fromkeys((0x4E, 0x79), 949),
    **dict.fromkeys((0x4F, 0x78), 950),
    **dict.fromkeys((0x50, 0x7C), 874),
    **dict.fromkeys((0x6A, 0x86), 737),
    **dict.fromkeys((0x6B, 0x88), 857),
    **dict.fromkeys((0x1C, 0x6C), 863),
    0x04: 10000,
    0x24: 860,
    0x67: 861,
    0x68: 895,  # Kamenický and Mazovia, for which nobody has a codec: the warning names them
    0x69: 620,
    0x7D: 1255,
    0x7E: 1256,
    0x96: 10007,
    0x97: 10029,
    0x98: 10006,
    0xC8: 1250,
    0xC9: 1251,
    0xCA: 1254,
    0xCB: 1253,
    0xCC: 1257,
}


def find_codec(name: str) -> str | None:
    """Return Python's codec for a name: `1252`, `ANSI 1252`, `Windows 1252`, `8859_1`, `UTF8`; None where the name
    means nothing (`system`).
    """
    text = name.strip().lower()
    if match := _ISO_8859.fullmatch(text):
        text = f"iso8859-{int(match[1])}"
    elif match := _NUMBERED.fullmatch(text):
        text = _NUMBERS.get(int(match[1]), f"cp{int(match[1])}")
    try:
        codec = codecs.lookup(re.sub(r"\s+", "-", text)).name
    except (LookupError, ValueError):  # ValueError: NUL
        return None
    return codec if _TEXT_CODECS.fullmatch(codec) else None


def usual_name(name: str) -> str | None:
    """Return the usual spelling of the name of an encoding: `UTF-8`, `windows-1252`; None where it means nothing."""
    codec = find_codec(name)
    if codec is None:
        return None
    special = {"big5": "Big5", "shift_jis": "Shift_JIS"}
    windows = re.sub(r"^cp(?=125\d$)", "windows-", codec)
    return windows if windows != codec else special.get(codec, gdal_name(codec))


def names_as_written(names: list[str], codec: str | None) -> list[str]:
    """Return the names of columns from those that GDAL has, which are bytes as Latin-1 where it decodes none; `codec`
    is theirs then, else None.
    """
    if codec is None:
        return names
    return [name.encode("latin-1", "replace").decode(codec, "replace") for name in names]


def gdal_name(codec: str) -> str:
    """Return GDAL's (iconv's) name of one of Python's codecs."""
    special = {
        "mac-roman": "MACINTOSH",
        "mac-greek": "MACGREEK",
        "mac-cyrillic": "MACCYRILLIC",
        "mac-latin2": "MACCENTRALEUROPE",
        "shift_jis": "SHIFT_JIS",
        "tis-620": "TIS-620",
    }
    if codec.startswith("iso8859"):
        return codec.upper().replace("ISO", "ISO-")
    return special.get(codec, codec.upper().replace("_", "-"))


def encoding_of_text(path: Path) -> str:
    """Return UTF-8 where the whole file is, UTF-16 by its first bytes, else Windows-1252."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        if wide := utf_16_of(file.read(4)):
            return wide
        file.seek(0)
        try:
            while part := file.read(1 << 20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return FALLBACK
    return "utf-8-sig"


def encoding_of_dbf(text: bytes, declared: str | None, page: int) -> tuple[str, str | None]:
    """Return the codec of a DBF's text, and a warning about it.

    Args:
        text: the bytes of its character fields, or a large sample.
        declared: what its .cpg says; None: there is none.
        page: its language driver, which counts where there is no .cpg.
    """
    if declared is not None:
        return encoding_by_evidence(text, find_codec(declared), f"its .cpg says {declared!r}")
    return encoding_by_evidence(text, find_codec(str(_DBF_PAGES.get(page, ""))), _said_of(page) if page else None)


def encoding_by_evidence(text: bytes, codec: str | None, said: str | None) -> tuple[str, str | None]:
    """Return the codec of text, and a warning about it.

    Args:
        text: its bytes, or a large sample.
        codec: that of the encoding that its file names, if it is known.
        said: how the file names it, in words; None where it names none.
    """
    if text.isascii() and _has_ascii(codec):
        return codec or "utf-8", None
    if is_mostly_utf8(text):
        wrong = codec not in {None, "utf-8"} and not (_is_double(codec) and decodes(text, codec))
        if wrong:
            return "utf-8", f"{said}, but its text is UTF-8, and was read as that"
        return "utf-8" if codec is None else codec, None
    if codec is not None and codec != "utf-8":
        return codec, None
    why = (
        "nothing says how its text is encoded, and it is not UTF-8"
        if said is None
        else f"{said}, which its text is not"
        if codec
        else f"{said}, which is no encoding that is known here"
    )
    return FALLBACK, f"{why}: it was read as Windows-1252; where that is wrong, name its encoding (encoding)"


def _has_ascii(codec: str | None) -> bool:
    """Whether ASCII is the same in an encoding; not in UTF-16, nor in those of mainframes."""
    return codec is None or "Az09".encode(codec) == b"Az09"


def _said_of(page: int) -> str:
    """Say what the language driver of a DBF means."""
    if page in _DBF_PAGES:
        return f"its DBF names the code page {_DBF_PAGES[page]}"
    return f"its DBF names the language driver 0x{page:02X}"


def is_mostly_utf8(data: bytes) -> bool:
    """Whether more non-ASCII characters are complete than broken: fields of fixed width cut some in two."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken == 0 or sum(not char.isascii() for char in text) > 2 * broken


def _is_double(codec: str | None) -> bool:
    """Whether an encoding has characters of two bytes: some texts in it are also valid UTF-8 by chance."""
    return codec is not None and bool(re.fullmatch(r"cp9\d\d|gb\w+|big5\w*|euc_\w+|shift_jis\w*|johab", codec))


def decodes(data: bytes, codec: str | None) -> bool:
    """Whether (nearly) all of the bytes are text in an encoding."""
    text = data.decode(codec or "ascii", "replace")
    return text.count("\ufffd") * 1000 <= len(text)
