"""A Prometheus on a free port of loopback, for tests, with the rules of deploy/monitoring.

Here: bringing it and promtool (the machine's, or Debian's package unpacked into the checkout's home, which needs no
root), starting, asking for alerts. Not here: what is tested with it.
"""

import fcntl
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import yaml

from geo_assets.home import default_home
from geo_assets.local.debian_packages import unpack
from geo_assets.local.postgresql import free_port

#: Below the home.
UNPACKED = "prometheus-dist"

SECONDS = 5


def find_prometheus() -> str:
    """The program."""
    if found := shutil.which("prometheus"):
        return found
    root = default_home() / UNPACKED
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name("prometheus.lock").open("w") as lock:  # sessions that run side by side unpack it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            unpack(root, lambda _: ["prometheus"], print)
    return str(root / "usr" / "bin" / "prometheus")


def find_promtool() -> str | None:
    """The program that checks rules, where it is already."""
    return shutil.which("promtool", path=default_home() / UNPACKED / "usr" / "bin") or shutil.which("promtool")


class Prometheus:
    """One server that scrapes one target and evaluates rules every five seconds."""

    def __init__(self, folder: Path, rules: str, target: str) -> None:
        """Nothing is started.

        Args:
            folder: for its files.
            rules: the content of a file of rules.
            target: HOST:PORT.
        """
        self._folder, self.url = folder, f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "rules.yaml").write_text(rules, encoding="utf-8")
        job = {"job_name": "geo_assets", "static_configs": [{"targets": [target]}]}
        every = {"scrape_interval": f"{SECONDS}s", "scrape_timeout": f"{SECONDS}s"}
        settings = {
            "global": {**every, "evaluation_interval": f"{SECONDS}s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [job],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def start(self) -> None:
        """Start it and wait until it has scraped."""
        address = self.url.removeprefix("http://")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    find_prometheus(),
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self.value("geo_assets_scrape_ok"):
            said = (self._folder / "log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)

    def value(self, expression: str) -> float | None:
        """The value of an expression now, of its first series; None where there is none."""
        found = self._asked("query", query=expression).get("result", [])
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> dict[str, dict]:
        """Alert -> the alert, of those that fire now."""
        return {alert["labels"]["alertname"]: alert for alert in self._alerts() if alert["state"] == "firing"}

    def pending(self) -> set[str]:
        """The alerts whose time has begun and is not over."""
        return {alert["labels"]["alertname"] for alert in self._alerts() if alert["state"] == "pending"}

    def _alerts(self) -> list[dict]:
        return self._asked("alerts").get("alerts", [])

    def _asked(self, what: str, **parameters: str) -> dict:
        try:
            answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=10, trust_env=False)
        except httpx.TransportError:  # it has not begun to listen
            return {}
        return answer.json().get("data", {})
