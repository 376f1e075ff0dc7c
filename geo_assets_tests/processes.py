"""Processes that tests look at: what Linux says of them in /proc.

A process may end between the moment its pid is read and the moment it is asked for: it then has no command and no
children, and no test fails for it.
"""

from pathlib import Path


def children(parent: int) -> list[int]:
    """Pids of a process's living children, whichever of its threads started them; zombies are not living."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, its_parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(its_parent) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def command(pid: int) -> str:
    """The command line of a process, its arguments separated by spaces; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def connections(pid: int, port: int) -> set[str]:
    """The sockets by which a process is connected to a TCP port of this machine."""
    found = set()
    try:
        own = {str(name.readlink()) for name in Path(f"/proc/{pid}/fd").iterdir()}
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return found
    for _, _, remote, _, *rest in map(str.split, lines):
        socket = f"socket:[{rest[5]}]"
        if int(remote.rpartition(":")[2], 16) == port and socket in own:
            found.add(socket)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
