"""The files of the project agree with one another and with the tree."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from geo_assets import __version__

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"])
def test_every_path_that_a_guide_names_is_there(name):
    named = re.findall(
        r"`((?:geo_assets|geo_assets_tests|sql|docs|scripts)/[\w./-]*)`", (ROOT / name).read_text("utf-8")
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_index_of_decisions_has_each_with_the_date_and_the_status_of_its_page():
    rows = re.findall(
        r"^\| (\d+) \| \[.+\]\((\S+)\) \| .+ \| (\S+) \| (.+) \|$", (DECISIONS / "README.md").read_text(), re.MULTILINE
    )
    pages = sorted(page.name for page in DECISIONS.glob("0*.md"))
    assert [name for _, name, _, _ in rows] == pages
    for number, name, date, status in rows:
        title, _, stands = (DECISIONS / name).read_text(encoding="utf-8").splitlines()[:3]
        assert title.startswith(f"# {number}. ")
        assert stands == f"*{date} · {status}*"


def test_there_is_one_version_and_the_changelog_has_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert version("geo_assets") == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_says_that_it_has_types():
    assert (ROOT / "geo_assets" / "py.typed").exists()
