"""The end of a failing command: one line and a hint, or a JSON document, and an exit code.

Here: from an exception to what is printed. Not here: the codes and remedies (`errors.py`), which exceptions are caught
(`cli.main`).
"""

from __future__ import annotations

import shlex
import sys
from typing import Any, NoReturn

from geo_assets.commands.console import err, print_json_error
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import runnable
from geo_assets.text import one_line

#: The exit code that shells give a program that Ctrl-C ends, and that the parser returns then.
INTERRUPTED = 130


def die(error: GeoAssetsError, *, code: int = 1, severity: str = "error") -> NoReturn:
    """Say what is wrong and what to do, and end with an exit code."""
    message, remedy = one_line(error.message), runnable(one_line(error.remedy))
    print_json_error({"code": error.code, "message": message, "remedy": remedy})
    err.print(f"{severity}: {message}", style="red", markup=False, soft_wrap=True)
    err.print(f"{'hint:':<{len(severity) + 1}} {remedy}", markup=False, soft_wrap=True)
    sys.exit(code)


def refuse_usage(error: Any) -> NoReturn:
    """Refuse an option or argument that the command line does not have."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(message)  # the help, unless it has printed itself in making the error
        sys.exit(error.exit_code)
    command = context.command_path if context is not None else "geo-assets"
    die(
        GeoAssetsError(
            "INVALID_PARAMETERS", message, remedy=f"geo-assets {command.partition(' ')[2]} --help".replace("  ", " ")
        ),
        code=error.exit_code,
    )


def as_ours(error: Exception) -> GeoAssetsError:
    """An exception that no command caught, as an error with a code and a remedy."""
    if _is_no_text(error):
        return GeoAssetsError(
            "INVALID_PARAMETERS", "a parameter holds bytes that are no text", remedy="write it in UTF-8, without NUL"
        )
    message = f"{type(error).__name__}: {error}".splitlines()[0]
    if _is_away(error):
        return GeoAssetsError("DATABASE_UNAVAILABLE", f"the database went away: {message}")
    return GeoAssetsError("INTERNAL", message, remedy=f"see where: geo-assets --debug {shlex.join(sys.argv[1:])}")


def _is_no_text(error: Exception) -> bool:
    """Whether the database refuses a value of the command line as text: bytes that are not UTF-8 come from there as
    lone surrogates; the client refuses NUL itself, without a code of the server.
    """
    import psycopg
    from psycopg import errors

    refused = UnicodeEncodeError | errors.CharacterNotInRepertoire | errors.UntranslatableCharacter
    return isinstance(error, refused) or (isinstance(error, psycopg.DataError) and "NUL" in str(error))


def _is_away(error: Exception) -> bool:
    """Whether the database does not answer, or no longer."""
    from geo_assets.database.connections import TRANSIENT

    return isinstance(error, TRANSIENT)
