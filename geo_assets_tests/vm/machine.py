"""A copy of this machine's system that is thrown away: its root below a layer of ours, with processes, mounts and, once
all is installed, a network of its own.

Here: the copy, and running scripts in it. Not here: what the scripts do.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

#: Nothing of the environment in which the tests run but how registries are reached.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_THE_TESTS = (
    "GEO_ASSETS_",
    "PYTHON",
    "PYENV",
    "UV_PROJECT",
    "UV_PYTHON",
    "UV_RUN",
    "VIRTUAL_ENV",
    "DAGSTER",
    "PG",
    "COV_",
)

ENTER = """
mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
for folder in proc sys dev run tmp; do mkdir -p "$1/root/$folder"; done
mount -t proc proc "$1/root/proc"
mount --rbind /sys "$1/root/sys"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mkdir -p "$1/root/run/lock"
mount -t tmpfs -o mode=1777 tmpfs "$1/root/tmp"
[ "$2" = network ] || "$4" -c "$5"
exec chroot "$1/root" bash -eu -o pipefail -c "cd /root; $3"
"""

#: `ip link set lo up`, on a system that has no `ip`.
LOOPBACK = """
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))  # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
"""


class Machine:
    """Its files outlive a script; its processes do not."""

    def __init__(self) -> None:
        # not in /tmp, which may be a layer itself or memory
        self.folder = Path(tempfile.mkdtemp(prefix="geo_assets_vm_", dir="/var/tmp"))
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir()
        self._write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)  # a package starts nothing
        self._write("usr/local/bin/systemctl", (HERE / "systemctl.py").read_text(encoding="utf-8"), mode=0o755)
        self._copy_the_checkout()

    def run(self, script: str, *, network: bool = False, timeout: float = 900) -> str:
        """What a script prints; it fails as soon as a command does.

        Args:
            script: for bash, as root.
            network: the machine's own; else there is loopback alone, where nobody else has a port.
            timeout: in seconds.
        """
        spaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(OF_THE_TESTS)}
        done = subprocess.run(
            [
                "unshare",
                *spaces,
                "bash",
                "-eu",
                "-c",
                ENTER,
                "enter",
                str(self.folder),
                "network" if network else "",
                script,
                sys.executable,
                LOOPBACK,
            ],
            env={**environment, "PATH": PATH, "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n--- stderr\n{done.stderr[-6000:]}"
        return done.stdout

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _write(self, path: str, text: str, *, mode: int) -> None:
        file = self.folder / "upper" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)

    def _copy_the_checkout(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        target = self.folder / "upper/usr/local/src/geo_assets"
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target / name)
