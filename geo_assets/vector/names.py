"""Names of tables and columns: safe in PostgreSQL without quotes, and the same for the same file every time.

Here: pure functions of names. Names are made distinct by a hash of the original, never by a counter that depends on
what else was loaded.
Not here: quoting (`psycopg.sql.Identifier`), collisions between sources (the caller sees them all).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from geo_assets.vector.types import GEOMETRY_COLUMN, KEY

#: PostgreSQL truncates longer identifiers silently (NAMEDATALEN - 1).
MAX_IDENTIFIER_BYTES = 63

#: Leaves room for `__<suffix>` while staging, `_geom_idx`, `_pkey` and `_gid_seq`.
MAX_TABLE_NAME_BYTES = 50

_HASH_LENGTH = 8

#: `select word from pg_get_keywords() where catcode in ('R', 'T')`, PostgreSQL 15.
_KEYWORDS = """
all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
column concurrently
constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp
current_user default
deferrable desc distinct do else end except false fetch for foreign freeze from full grant group having ilike in
initially inner
intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null
offset on only or order
outer overlaps placing primary references returning right select session_user similar some symmetric system_user
table tablesample then
to trailing true union unique user using variadic verbose when where window with
"""

#: A table cannot have these, quoted or not.
_SYSTEM_COLUMNS = "ctid xmin xmax cmin cmax tableoid oid"

#: The columns that every table has already.
OWN_COLUMNS = (KEY, GEOMETRY_COLUMN)

RESERVED = frozenset((*_KEYWORDS.split(), *_SYSTEM_COLUMNS.split(), *OWN_COLUMNS))

#: Letters that Unicode does not decompose.
_LETTERS = str.maketrans(
    {
        "ß": "ss",
        "æ": "ae",
        "Æ": "ae",
        "œ": "oe",
        "Œ": "oe",
        "ø": "o",
        "Ø": "o",
        "ł": "l",
        "Ł": "l",
        "đ": "d",
        "Đ": "d",
        "ð": "d",
        "þ": "th",
        "ı": "i",
    }
)


def column_names(originals: Sequence[str]) -> list[str]:
    """Return a distinct name for each original, in `[a-z0-9_]`, at most 63 bytes, never reserved.

    Of several that fold to one name, the one that is spelled so keeps it; the others get a hash of their original.
    """
    folded = [_fit(_not_reserved(_identifier(name, "c")), name, MAX_IDENTIFIER_BYTES) for name in originals]
    return _distinct(folded, originals, MAX_IDENTIFIER_BYTES)


def table_name(prefix: str, stem: str, layer: str | None = None) -> str:
    """Return `<prefix>_<stem>[_<layer>]`, folded, at most 50 bytes.

    Args:
        prefix: what the table belongs to (a collection); may be empty.
        stem: the file's name without its ending.
        layer: what distinguishes the layer from others in the file, or None where the file has one.
    """
    parts = [part for part in (prefix, stem, layer) if part]
    original = "/".join(parts)
    name = re.sub(r"_+", "_", "_".join(filter(None, (_fold(part).strip("_") for part in parts))))
    if _loses_letters(original):
        name = f"{name}_{_hash(original)}".strip("_")
    return _fit(_not_reserved(_identifier(name, "t", original)), original, MAX_TABLE_NAME_BYTES)


def table_names(prefix: str, stem: str, labels: Sequence[str | None]) -> list[str]:
    """Return distinct table names for the layers of one source; a single layer takes the source's name.

    Args:
        prefix: as for `table_name`.
        stem: as for `table_name`.
        labels: `LayerPlan.label` of each layer.
    """
    if len(labels) == 1:
        return [table_name(prefix, stem)]
    originals = [label or "" for label in labels]
    return _distinct([table_name(prefix, stem, label) for label in labels], originals, MAX_TABLE_NAME_BYTES)


def _fold(text: str) -> str:
    """Return ASCII letters, digits and underscores; every run of anything else becomes one underscore, none at the
    ends.
    """
    ascii_text = unicodedata.normalize("NFKD", text.translate(_LETTERS)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", " ", ascii_text).strip().replace(" ", "_")


def _loses_letters(text: str) -> bool:
    """Whether folding drops letters altogether (漢字), so that different names would become one."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return any(ord(char) > 127 and char.isalnum() for char in decomposed)


def _identifier(text: str, letter: str, original: str | None = None) -> str:
    folded = _fold(text)
    if not folded.strip("_"):
        return f"{letter}_{_hash(original or text)}"
    return f"{letter}_{folded}" if folded[0].isdigit() else folded


def _not_reserved(name: str) -> str:
    return f"{name}_" if name in RESERVED else name


def _fit(name: str, original: str, size: int) -> str:
    return name if len(name) <= size else _hashed(name, original, size)


def _hashed(name: str, original: str, size: int) -> str:
    return f"{name[: size - _HASH_LENGTH - 1].rstrip('_')}_{_hash(original)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]


def _distinct(names: list[str], originals: Sequence[str], size: int) -> list[str]:
    shared = Counter(names)
    exact = {original for name, original in zip(names, originals, strict=True) if name == original}
    taken = {name for name, count in shared.items() if count == 1} | exact
    kept: set[str] = set()
    attempts: Counter[tuple[str, str]] = Counter()
    result = []
    for name, original in zip(names, originals, strict=True):
        if shared[name] > 1 and not (name == original and name not in kept):
            name = _free_name(name, original, taken, attempts, size)  # noqa: PLW2901 - the name that it ends up with
        kept.add(name)
        taken.add(name)
        result.append(name)
    return result


def _free_name(name: str, original: str, taken: set[str], attempts: Counter[tuple[str, str]], size: int) -> str:
    """Return the name with a hash of the original; of the original and a number where originals repeat. `attempts`
    counts those of each, which are taken.
    """
    while True:
        attempts[name, original] += 1
        attempt = attempts[name, original]
        candidate = _hashed(name, original if attempt == 1 else f"{original}\0{attempt}", size)
        if candidate not in taken:
            return candidate
