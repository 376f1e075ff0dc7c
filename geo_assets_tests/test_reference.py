"""What can be set, asked for or go wrong is documented, and the same everywhere: models, pages, command line, API."""

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperOption
from typer.testing import CliRunner

from geo_assets.accounts import AzureAccount, GcsAccount, LocalAccount, S3Account
from geo_assets.commands.reference_pages import pages
from geo_assets.errors import ERRORS
from geo_assets.parameters import JOB_TYPES
from geo_assets.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = pages(added=False)

#: Variables that are no settings: where the tools look first, what the stack tells its processes, what tests take.
NO_SETTINGS = {
    "ADMIN_URL",
    "CRASH",
    "DAGSTER_POSTGRES_URL",
    "API_URL",
    "BLOCKS_SHA256",
    "PIXELS_SHA256",
    "POSTGRES_SETTINGS",
    "PYTHON",
    "SAMPLES",
    "SEAL_SHA256",
    "VERSION",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_says_what_the_code_says(name):
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == PAGES[name], "renew it with: make renew"


@pytest.mark.parametrize("model", [Settings, AzureAccount, GcsAccount, LocalAccount, S3Account, *JOB_TYPES.values()])
def test_every_setting_and_every_parameter_says_what_it_is(model):
    assert [name for name, field in model.model_fields.items() if not field.description and name != "kind"] == []


def test_every_variable_that_the_project_names_is_a_setting():
    known = {name.upper() for name in Settings.model_fields} | NO_SETTINGS
    places = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("geo_assets/**/*.py"), ROOT / "compose.yaml"]
    named = {
        name for place in places for name in re.findall(r"GEO_ASSETS_([A-Z0-9_]*[A-Z0-9])", place.read_text("utf-8"))
    }
    assert named - known == set()


def test_the_command_line_tells_of_every_parameter_in_the_words_of_its_model():
    from geo_assets.cli import app

    told = CliRunner().invoke(app, ["job-types"], catch_exceptions=False).output
    for model in JOB_TYPES.values():
        for name, field in model.model_fields.items():
            assert re.search(rf"^ +{name} .*{re.escape(field.description or '')}", told, re.MULTILINE), name


def test_the_api_tells_of_every_parameter_in_the_words_of_its_model(tmp_path):
    from fastapi.testclient import TestClient

    from geo_assets.api.app import create_app

    told = TestClient(create_app(Settings(home=tmp_path)), base_url="http://127.0.0.1").get("/api/job-types").json()
    assert told.keys() == JOB_TYPES.keys()
    for job_type, model in JOB_TYPES.items():
        said = {name: schema["description"] for name, schema in told[job_type].get("properties", {}).items()}
        assert said == {name: field.description for name, field in model.model_fields.items()}


def test_every_command_and_every_option_has_its_help():
    from geo_assets.cli import app

    def silent(command, path):
        if not command.hidden and not command.help:
            yield path
        for sub in getattr(command, "commands", {}).values():
            yield from silent(sub, f"{path} {sub.name}")
        yield from (
            f"{path} {parameter.opts[0]}"
            for parameter in command.params
            if isinstance(parameter, TyperOption) and not parameter.hidden and not parameter.help
        )

    assert list(silent(typer.main.get_command(app), "geo-assets")) == []


def test_every_code_has_a_remedy_and_is_said_somewhere():
    source = "".join(
        place.read_text("utf-8") for place in ROOT.glob("geo_assets/**/*.py") if place.name != "errors.py"
    ) + "".join(place.read_text("utf-8") for place in ROOT.glob("sql/*.sql"))
    assert [code for code, error in ERRORS.items() if not error.remedy] == []
    assert [code for code in ERRORS if f'"{code}"' not in source and f"'{code}'" not in source] == []
