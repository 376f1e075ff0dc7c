"""The files of the page: what it takes from others is what was recorded, and nothing in it asks another server."""

import hashlib
import json
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from geo_assets.settings import PACKAGE_ROOT

ROOT = Path(__file__).parents[2]
PAGE = PACKAGE_ROOT / "serving" / "page"
VENDOR = PAGE / "vendor"
OURS = sorted([*PAGE.glob("*.*"), *PAGE.glob("js/*.js")])


def test_what_is_taken_from_others_is_what_was_recorded():
    recorded = json.loads((VENDOR / "manifest.json").read_text())
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "manifest.json"
    }
    assert found == recorded["sha256"]
    assert {"LICENSE-maplibre-gl", "LICENSE-world-atlas"} <= found.keys()
    for package in recorded["packages"]:
        assert package["license"]
        assert package["integrity"].startswith("sha512-")


def test_the_script_that_fetched_it_names_the_same_packages():
    script = runpy.run_path(str(ROOT / "scripts" / "vendor-page"))
    recorded = json.loads((VENDOR / "manifest.json").read_text())
    assert recorded["packages"] == [script["MAPLIBRE"], script["ATLAS"]]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_text_becomes_html_or_a_program(path):
    refused = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|\beval\(|new Function|srcdoc"
    assert re.findall(refused, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere_and_nothing_is_inline(path):
    text = path.read_text(encoding="utf-8")
    loads = re.findall(
        r"""(?:src=|@import |import\s*\(|from |url\(|<link[^>]*href=)["'(]*((?:https?:)?//[^"')\s]+)""", text
    )
    assert loads == []
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", text)


def test_the_policy_of_the_page_allows_this_server_and_no_other():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text())[1]
    rules = {name: allowed for name, *allowed in (rule.split() for rule in policy.split(";"))}
    assert rules.pop("default-src") == ["'none'"]
    assert rules.keys() == {
        "script-src",
        "worker-src",
        "style-src",
        "img-src",
        "connect-src",
        "base-uri",
        "form-action",
    }
    allowed = {source for sources in rules.values() for source in sources}
    assert allowed == {"'self'", "'none'", "blob:", "data:"}
    assert rules["script-src"] == rules["worker-src"] == rules["connect-src"] == ["'self'"]


def test_every_file_that_a_module_imports_is_there():
    for path in PAGE.glob("js/*.js"):
        for named in re.findall(r"""(?:from|import\()\s*["'](\.[^"']+)["']""", path.read_text(encoding="utf-8")):
            assert (path.parent / named).exists(), f"{path.name}: {named}"


def test_git_knows_every_file_of_the_page():
    ignored = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", str(PAGE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.stdout == ""


def test_outlines_are_light_and_within_the_world():
    land = json.loads((VENDOR / "land.json").read_text())
    points = [point for polygon in land["coordinates"] for ring in polygon for point in ring]
    assert min(x for x, _ in points) >= -180 <= max(x for x, _ in points) <= 180
    assert 10_000 < len(points) < 100_000
    assert all(ring[0] == ring[-1] for polygon in land["coordinates"] for ring in polygon)
