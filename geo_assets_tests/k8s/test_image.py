"""The image without Docker: its steps are scripts, which are run here as a build would run them; what is installed runs
as in a pod whose profile of seccomp is `RuntimeDefault`, without capabilities, and whose root is read-only.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from geo_assets.home import PACKAGE_ROOT
from geo_assets_tests.k8s import contained

pytestmark = pytest.mark.k8s

CHECKOUT = PACKAGE_ROOT.parent
IMAGE = CHECKOUT / "deploy" / "image"
USER = 10001
ELEVATION = PACKAGE_ROOT / "demo_data" / "jacksboro" / "elevation.tif"


def interpreter() -> str:
    """A Python that every user may run: that of this environment may be in the home of its owner."""
    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    for candidate in (base, Path("/usr/local/bin/python3"), Path("/usr/bin/python3")):
        if candidate.exists() and all(folder.stat().st_mode & 0o001 for folder in candidate.resolve().parents):
            return str(candidate)
    raise AssertionError("no Python that another user may run")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its arguments."""
    text = (CHECKOUT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def image(open_folder):
    """What the image has: the folder with the installation, and the root with user and folders."""
    root = open_folder()
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHON": interpreter()}
    kept = {
        key: value for key, value in os.environ.items() if key.startswith(("PIP_", "UV_INDEX", "SSL_", "HTTP", "http"))
    }
    command = [str(IMAGE / "install"), str(CHECKOUT), str(root / "opt"), "serve k8s"]
    subprocess.run(command, env={**environment, **kept}, check=True)
    subprocess.run([str(IMAGE / "prepare"), str(root)], check=True)
    if os.geteuid() == 0:
        (root / "var" / "lib" / "geo_assets").chmod(0o700)
    (root / "tmp").mkdir(mode=0o777)
    (root / "tmp").chmod(0o777)
    return root


def inside(image: Path, *command: str, profile: str = "default", **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the installation in a container of the image, with the environment of the image alone."""
    home, temporary = image / "var" / "lib" / "geo_assets", image / "tmp"
    environment = {
        "PATH": f"{image / 'opt' / 'bin'}:/usr/bin:/bin",
        "GEO_ASSETS_HOME": str(home),
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    container = [sys.executable, "-S", contained.__file__, profile, str(USER), f"{home}:{temporary}", "--"]
    return subprocess.run(
        [*container, *command], env=environment, cwd=temporary, capture_output=True, text=True, check=False, timeout=120
    )


def sandbox(image: Path, **more: str) -> dict[str, str]:
    """What `doctor` says of the sandbox in a container."""
    findings = json.loads(inside(image, "geo-assets", "doctor", "--json", **more).stdout)
    return next(finding for finding in findings if finding["what"] == "sandbox")


def test_every_step_of_the_image_is_a_script_of_its_folder():
    runs = [rest.split()[0] for word, rest in instructions() if word == "RUN"]
    assert runs == ["/source/deploy/image/install", "/opt/geo_assets/image/prepare"]
    for run in runs:
        assert os.access(IMAGE / Path(run).name, os.X_OK)


def test_the_image_runs_as_a_user_with_a_number_and_checks_its_health():
    said = dict(instructions())
    assert re.fullmatch(r"(\d+):(\d+)", said["USER"])
    assert said["USER"].split(":")[0] == str(USER)
    assert said["HEALTHCHECK"].endswith('CMD ["/opt/geo_assets/image/healthy"]')
    words = [word for word, _ in instructions()]
    assert "USER" not in words[words.index("HEALTHCHECK") :]


def test_the_installation_works_as_that_user_and_writes_nothing_into_itself(image):
    def written() -> set[Path]:
        return {path for path in (image / "opt").rglob("*") if path.stat().st_mtime_ns > before}

    before = max(path.stat().st_mtime_ns for path in (image / "opt").rglob("*"))
    assert inside(image, "geo-assets", "--version").returncode == 0
    (image / "tmp" / "in.tif").write_bytes(ELEVATION.read_bytes())
    done = inside(image, "geo-assets", "cog", "in.tif", "out.tif")
    assert done.returncode == 0, done.stderr
    loaded = inside(
        image,
        "python",
        "-c",
        "import dagster_k8s, geo_assets.definitions",
        GEO_ASSETS_EXECUTOR="k8s",
        DAGSTER_HOME=str(image / "tmp"),
    )
    assert loaded.returncode == 0, loaded.stderr
    assert written() == set()


def test_a_container_has_no_capability_no_namespaces_and_only_two_folders_to_write_to(image):
    said = inside(
        image, "sh", "-c", "cat /proc/self/status; unshare -U true; touch /usr/x; echo $GEO_ASSETS_TESTS_ROOT"
    )
    status = dict(line.split(":\t", 1) for line in said.stdout.splitlines() if ":\t" in line)
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    assert "unshare failed: Operation not permitted" in said.stderr
    if said.stdout.endswith("read-only\n"):  # not if this machine is a container itself
        assert "Read-only file system" in said.stderr


def test_the_sandbox_has_every_wall_in_a_container_but_no_namespaces_and_doctor_says_so(image):
    found = sandbox(image)
    assert found["level"] == "ok", found
    for wall in ("files (Landlock", "sockets, processes and signals (seccomp)", "not root"):
        assert wall in found["found"]
    assert found["found"].endswith("without a namespace of network, IPC, host name")


def test_where_a_container_may_not_use_landlock_no_file_is_opened_unless_that_is_allowed(image):
    allowed = {"GEO_ASSETS_SANDBOX": "permissive"}
    assert sandbox(image, profile="older")["level"] == "failure"
    assert sandbox(image, profile="older", **allowed)["level"] == "warning"
    (image / "tmp" / "walls.tif").write_bytes(ELEVATION.read_bytes())
    refused = inside(image, "geo-assets", "cog", "walls.tif", "walls.cog.tif", profile="older")
    assert refused.returncode != 0
    assert "files (Landlock" in refused.stderr
    assert "GEO_ASSETS_SANDBOX=permissive" in refused.stderr
    assert not (image / "tmp" / "walls.cog.tif").exists()
    done = inside(image, "geo-assets", "cog", "walls.tif", "walls.cog.tif", profile="older", **allowed)
    assert done.returncode == 0, done.stderr


def test_bytecode_is_there_for_every_module(image):
    (packages,) = (image / "opt" / "lib").glob("python3*/site-packages")
    for module in (packages / "geo_assets").rglob("*.py"):
        compiled = list((module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"))
        assert compiled, f"{module} has no bytecode"


def test_no_compiler_is_needed(image):
    assert "CC=/bin/false CXX=/bin/false" in (IMAGE / "install").read_text()  # what would be compiled fails


def test_the_health_of_a_part_is_whether_it_answers(image):
    assert inside(image, str(IMAGE / "healthy"), GEO_ASSETS_HEALTH_PORT="1").returncode != 0
    assert inside(image, str(IMAGE / "healthy"), GEO_ASSETS_HEALTH_PORT="none").returncode == 0
