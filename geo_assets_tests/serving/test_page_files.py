"""The files of the page: what it takes from others is what was recorded, and nothing in it asks another server."""

import hashlib
import json
import re
import runpy
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from geo_assets.home import PACKAGE_ROOT
from geo_assets_tests.serving.asking import ask

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


def test_the_page_comes_with_a_policy_that_allows_this_server_and_no_other():
    static = pytest.importorskip("geo_assets.serving.static")
    answer = ask(static.Page(), "/")
    assert answer.status == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert rules.pop("default-src") == rules.pop("frame-ancestors") == "'none'"
    assert {source for sources in rules.values() for source in sources.split()} == {
        "'self'",
        "'none'",
        "blob:",
        "data:",
    }
    assert rules["script-src"] == rules["worker-src"] == rules["connect-src"] == "'self'"


def test_a_file_that_is_the_same_is_not_sent_again():
    static = pytest.importorskip("geo_assets.serving.static")
    first = ask(static.Page(), "/vendor/maplibre-gl.mjs")
    assert first.headers["content-type"].startswith(("text/javascript", "application/javascript"))
    again = ask(static.Page(), "/vendor/maplibre-gl.mjs", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/stack.env", "GET", 404),
        ("/../app.py", "GET", 404),
        ("/%2e%2e/app.py", "GET", 404),
        ("//etc/passwd", "GET", 404),
        ("/js", "GET", 404),
        ("/a%00b", "GET", 404),
        ("/" + 300 * "a", "GET", 404),
        ("/index.html", "POST", 405),
    ],
)
def test_what_is_no_file_of_the_page_is_said_as_a_problem_and_never_a_fault_of_the_server(path, method, status):
    static = pytest.importorskip("geo_assets.serving.static")
    answer = ask(static.Page(), path, method=method)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert b"/home" not in answer.body
    assert str(PACKAGE_ROOT).encode() not in answer.body


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
    rings = [ring for polygon in land["coordinates"] for ring in polygon]
    assert all(ring[0] == ring[-1] for ring in rings)
    # nothing is drawn across the world: only Antarctica goes from side to side, at its pole
    wide = {y for ring in rings for (x, y), (x1, _) in pairwise(ring) if abs(x - x1) > 90}
    assert wide == {-90}
