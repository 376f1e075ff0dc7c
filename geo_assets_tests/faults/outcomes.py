"""A plug-in of pytest that writes what became of each test to the file named by OUTCOMES, as `matrix.py` reads it."""

import json
import os
from pathlib import Path


class _Outcomes:
    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report) -> None:
        """The worst of a test's phases and of its parameters; a skip counts less than a pass of another one."""
        if report.when != "call" and report.passed:
            return
        name = report.nodeid.removeprefix("geo_assets_tests/").partition("[")[0]
        told = {self.found.get(name, "skipped"), report.outcome}
        self.found[name] = next(each for each in ("failed", "passed", "skipped") if each in told)

    def pytest_sessionfinish(self) -> None:
        """Write them."""
        Path(os.environ["OUTCOMES"]).write_text(json.dumps(self.found))


def pytest_configure(config) -> None:
    """Begin."""
    config.pluginmanager.register(_Outcomes(), "outcomes")
