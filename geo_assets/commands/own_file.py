"""Remedies for who names a file of their own: nothing was uploaded, and there is no submission to repeat.

Here: from the words of jobs, which most remedies are written for, to those of a command. Not here: the remedies
(`errors.py`, and wherever a fault is found).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geo_assets.errors import GeoAssetsError

#: What a job calls its parameters, and these commands their options.
_PARAMETER = re.compile(
    r"(?:--param )?\b((?:source|target|override)_crs|(?:resolution|columns)(?==)|web_tiles)\b(?:=(\S+))?"
)

#: Words of jobs -> those of a command, in this order.
_WORDS = tuple(
    (re.compile(words), instead)
    for words, instead in (
        (r"check that the upload is complete, upload it again, then submit again", "check that the file is complete"),
        (r"upload it again, whole", "get it again, whole"),
        (r"(?:,|;)? (?:and|then) upload (?:that|it|them|the file|the GeoPackage|what is in it)(?: again)?", ""),
        (r",? then submit again", ""),
        (r", in a job of its own for this file alone: --param include=NAME", ":"),
        (r", or --param schema_drift=allow", ""),
        (r"upload a (?:file|format)", "use one"),
        (r"\bupload all its parts again, together", "put all its parts together"),
        (r"\bupload\b", "put"),
        (r"\bsubmit (with|without)\b", r"run it \1"),
    )
)

#: Codes of a file that another command may read.
_NOT_OURS = frozenset({"UNREADABLE", "UNSUPPORTED_FORMAT", "RASTER_UNSUPPORTED", "VECTOR_UNSUPPORTED"})


def in_words_of_commands(said: str) -> str:
    """A remedy or warning that names the options of a command, and nothing that only a job has."""
    for words, instead in _WORDS:
        said = words.sub(instead, said)
    return _PARAMETER.sub(lambda found: _option(found[1], found[2]), said)


def _option(name: str, value: str | None) -> str:
    return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")


@contextmanager
def own_file(source: Path, *, raster: bool) -> Iterator[None]:
    """While a command works on a file: remedies in its words, and the other command for a file of the other kind.

    Args:
        source: the file.
        raster: whether the command reads rasters; otherwise it reads vectors.
    """
    try:
        yield
    except GeoAssetsError as error:
        error.remedy = _other_command(source, error, raster=raster) or in_words_of_commands(error.remedy)
        raise


def _other_command(source: Path, error: GeoAssetsError, *, raster: bool) -> str:
    from geo_assets.storage.kinds import Kind, kind_of

    if error.code not in _NOT_OURS or kind_of(source.name) is not (Kind.VECTOR if raster else Kind.RASTER):
        return ""
    file = shlex.quote(str(source))
    if raster:
        return f"if it holds vectors: geo-assets load {file} --table vector.NAME"
    return f"if it is a raster: geo-assets cog {file} OTHER.tif"
