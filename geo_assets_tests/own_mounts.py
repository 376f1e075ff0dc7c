"""File systems of a test's own: small ones, that it can fill, in a mount namespace that nobody else sees.

Here: making such a namespace, running in it, a stack in it. It needs the right to mount; who has it not skips the test.
What is mounted is gone with the last process in the namespace. Not here: what is tested with it.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from geo_assets_tests.conftest import Cli


class OwnMounts:
    """A mount namespace. A context manager."""

    def __enter__(self):
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo made; exec sleep infinity"]
        if not all(map(shutil.which, ("unshare", "nsenter"))):
            pytest.skip("there is no unshare here")
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self._holder.stdout.readline() != "made\n":
            self._holder.wait()
            pytest.skip("file systems cannot be mounted here")
        return self

    def __exit__(self, *_):
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()

    @property
    def prefix(self) -> list[str]:
        """What is put before a command that is to run in it."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command in it, whatever comes of that."""
        return subprocess.run(
            [*self.prefix, *map(str, command)], capture_output=True, text=True, timeout=120, check=False
        )

    def mount(self, folder: Path, megabytes: int) -> None:
        """Mount an empty file system of this size over a folder."""
        done = self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
        if done.returncode:
            pytest.skip(f"file systems cannot be mounted here: {done.stderr}")

    def fill(self, path: Path) -> None:
        """Write a file until there is no room left."""
        self.run("mkdir", "-p", path.parent)
        done = self.run("dd", "if=/dev/zero", f"of={path}", "bs=4k")
        assert "No space left" in done.stderr, done.stderr


class CliIn(Cli):
    """A stack whose processes see these mounts."""

    def __init__(self, mounts: OwnMounts, home: Path, **environment: str) -> None:
        super().__init__(home, **environment)
        self.mounts = mounts

    def command(self, *args: str) -> list[str]:
        """As the others, in the namespace."""
        return [*self.mounts.prefix, *super().command(*args)]
