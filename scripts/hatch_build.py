"""Compiles what of the package is written in C, `SOURCES`, when the package is built, for a wheel or in place.

Here: by what, and what the wheel is called then. The machine's own C compiler is used if there is one, else that of
ziglang, which PyPI has for Linux and which is fetched for the build alone. The result needs no library, not even the C
library, so one wheel serves every Python of a processor. Elsewhere nothing is compiled: the package works without, and
takes longer (`geo-assets doctor` says so). HATCH_BUILD_NO_HOOKS=true, a setting of hatchling's,
builds without any compiler, as where neither one nor ziglang can be had.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Each beside the module of its name, which would be hidden by a library of its name without "lib".
SOURCES = ("geo_assets/raster/tiles.c", "geo_assets/vector/reader/rings.c")

#: The order of operations is that of the source: the proofs in it depend on it. Freestanding: a compiler may be there
#: without the headers of a C library.
FLAGS = ["-O3", "-std=c11", "-ffp-contract=off", "-ffreestanding", "-shared", "-fPIC", "-nostdlib"]

#: For any processor of the kind: zig compiles for the one that it runs on, and the machine's compiler may do so. The
#: kinds are those whose doubles are of IEEE 754 and which compute nothing in more digits.
ANY_PROCESSOR = "-mcpu=baseline"
OWN_FOR_ANY = {"x86_64": "-march=x86-64", "aarch64": "-march=armv8-a"}

ZIG = "ziglang>=0.14,<1"


def is_compiled_here() -> bool:
    """Whether this is a machine for which it is compiled."""
    return sys.platform == "linux" and platform.machine() in OWN_FOR_ANY and sys.maxsize > 2**32


def compiler() -> str | None:
    """The C compiler of this machine."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def compile_one(source: Path, target: Path) -> None:
    """Compile, in a folder beside the target, which it replaces at once: a process may have the one before in use.

    The library says of which source it is, for `geo_assets.compiled`.

    Raises:
        subprocess.CalledProcessError: the compiler failed.
        OSError: it made something that is no library.
    """
    built_from = hashlib.sha256(source.read_bytes()).hexdigest()
    own = compiler()
    command = [own, OWN_FOR_ANY[platform.machine()]] if own else [sys.executable, "-m", "ziglang", "cc", ANY_PROCESSOR]
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, target.name)
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        subprocess.run(
            [*command, *FLAGS, f'-DBUILT_FROM="{built_from}"', "-o", made, source], check=True, env=environment
        )
        ctypes.CDLL(str(made))
        made.replace(target)


class Compiled(BuildHookInterface):
    """What hatchling calls before it packs a wheel, or makes an editable installation."""

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling."""
        return [ZIG] if is_compiled_here() and compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the wheel after the processor. A compiler that fails is no reason not to install."""
        if self.target_name != "wheel" or not is_compiled_here():
            return
        made = [library for source in SOURCES if (library := self._compiled(Path(self.root, source)))]
        if made and version != "editable":
            build_data["artifacts"] += [str(library.relative_to(self.root)) for library in made]
            build_data["pure_python"] = False
            libc = "manylinux_2_17" if platform.libc_ver()[0] == "glibc" else "musllinux_1_1"
            build_data["tag"] = f"py3-none-{libc}_{platform.machine()}"

    def _compiled(self, source: Path) -> Path | None:
        library = source.with_name(f"lib{source.stem}.so")
        try:
            compile_one(source, library)
        except (OSError, subprocess.CalledProcessError) as error:
            library.unlink(missing_ok=True)  # of another source
            self.app.display_warning(f"{source.name} was not compiled, what it does takes longer: {error}")
            return None
        return library
