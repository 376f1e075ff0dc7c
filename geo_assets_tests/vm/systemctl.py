#!/usr/bin/python3
"""`systemctl` where no systemd runs: starts what units say, as the user and with the walls that they say.

Here: enable, start, stop, restart, is-active and daemon-reload, for the directives of our units and of Debian's PostgreSQL and nginx; one
that it does not know is an error, so that nothing of a unit of ours is passed over. Not here: dependencies, timers (they are read by
`systemd-analyze verify`), logs beyond one file for each unit.
"""

import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDERS = (Path("/etc/systemd/system"), Path("/lib/systemd/system"))
RUNNING = Path("/run/units")
KNOWN = {
    *("Type", "User", "EnvironmentFile", "ExecStart", "Restart", "RestartSec", "KillMode"),
    *("NoNewPrivileges", "ProtectSystem", "ReadWritePaths", "PrivateTmp"),
}
#: Of Debian's own units, where they say how systemd is to wait, stop and reload: nothing of how a program starts.
OF_DEBIAN = {
    "PIDFile",
    "ExecStartPre",
    "ExecReload",
    "ExecStop",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "TimeoutSec",
    "OOMScoreAdjust",
} | {"SyslogIdentifier"}


def service(name):
    """The directives of a unit's [Service]."""
    template, _, instance = name.removesuffix(".service").partition("@")
    file_name = f"{template}@.service" if instance else f"{template}.service"
    file = next((folder / file_name for folder in FOLDERS if (folder / file_name).exists()), None)
    if file is None:
        sys.exit(f"Unit {name} not found.")
    found, section = {}, None
    for line in file.read_text().replace("%i", instance).splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found.setdefault(key, value)
    ours = file.parent == FOLDERS[0]
    if unknown := found.keys() - KNOWN - (set() if ours else OF_DEBIAN):
        sys.exit(f"{file}: the runner does not know {sorted(unknown)}")
    return found


def variables(unit):
    """What EnvironmentFile sets, read as systemd reads it: lines, with quotes around values, and nothing expanded."""
    file = unit.get("EnvironmentFile")
    lines = Path(file).read_text().splitlines() if file else []
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key: value[1:-1] if value[:1] in {"'", '"'} else value for key, _, value in pairs}


def command(unit):
    """ExecStart behind the walls that the unit asks for."""
    walls = []
    if unit.get("ProtectSystem") == "strict":
        for path in unit.get("ReadWritePaths", "").split():
            walls += [f"mount --bind {path} {path}"]
        walls += ["mount -o remount,bind,ro /"]
    if unit.get("PrivateTmp") == "true":
        walls += ["mount -t tmpfs -o mode=1777 tmpfs /tmp", "mount -t tmpfs -o mode=1777 tmpfs /var/tmp"]
    program = shlex.split(unit["ExecStart"].lstrip("-"))
    who = [f"--reuid={unit['User']}", f"--regid={unit['User']}", "--init-groups"] if "User" in unit else []
    if unit.get("NoNewPrivileges") == "true":
        who.append("--no-new-privs")
    if who:
        program = ["setpriv", *who, "--", *program]
    if not walls:
        return program
    return ["unshare", "--mount", "sh", "-euc", "; ".join([*walls, 'cd /; exec "$@"']), "sh", *program]


def start(name):
    unit = service(name)
    log = (RUNNING / f"{name}.log").open("ab")
    home = pwd.getpwnam(unit.get("User", "root")).pw_dir
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": home, **variables(unit)}
    if unit.get("Type") in {"oneshot", "forking"}:
        done = subprocess.run(command(unit), env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            sys.exit(f"Job for {name} failed: {(RUNNING / f'{name}.log').read_text()[-2000:]}")
        return
    if os.fork():
        return
    os.setsid()
    (RUNNING / f"{name}.keeper").write_text(str(os.getpid()))
    keep(name, unit, environment, log)


def keep(name, unit, environment, log):
    """Run it, again and again where the unit says so, until told to stop."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    process = None

    def end(*_):
        if process:
            process.terminate()
            try:
                process.wait(60)
            finally:
                os.killpg(process.pid, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while True:
        process = subprocess.Popen(command(unit), env=environment, stdout=log, stderr=log, start_new_session=True)
        (RUNNING / f"{name}.pid").write_text(str(process.pid))
        process.wait()
        if unit.get("Restart") != "always":
            os._exit(0)
        time.sleep(float(unit.get("RestartSec", "1")))


def stop(name):
    if service(name).get("Type") == "forking":  # nginx: as its own ExecStop does
        subprocess.run(["sh", "-c", 'p=/run/nginx.pid; [ ! -e $p ] || kill -QUIT "$(cat $p)"'], check=True)
        return
    keeper = RUNNING / f"{name}.keeper"
    if keeper.exists():
        os.kill(int(keeper.read_text()), signal.SIGTERM)
        keeper.unlink()


def main():
    RUNNING.mkdir(exist_ok=True)
    verb, *words = sys.argv[1:]
    names = [word for word in words if not word.startswith("-")]
    for name in names:
        if verb in {"stop", "restart"}:
            stop(name)
        if name.endswith(".timer"):
            continue
        if verb in {"start", "restart"} or (verb == "enable" and "--now" in words):
            start(name)
    if verb not in {"daemon-reload", "enable", "start", "stop", "restart"}:
        sys.exit(f"the runner does not know {verb}")


if __name__ == "__main__":
    main()
