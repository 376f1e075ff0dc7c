"""The pages of commands, routes and metrics say what the code says."""

import runpy

import pytest

from geo_assets_tests.pages import ROOT

PAGES = runpy.run_path(str(ROOT / "scripts" / "reference_doors.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_says_what_the_code_says(name):
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == PAGES[name], "renew it with: make renew"
