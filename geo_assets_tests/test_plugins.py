"""What other distributions add by entry points: found, loaded when it is asked for, and left out where it is broken."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GOOD = """
    from typing import ClassVar
    from pydantic import Field
    from geo_assets.errors import ErrorClass, ErrorKind
    from geo_assets.file_stages import Engine, FileStage
    from geo_assets.parameters import PublishContainer

    class Wetness(PublishContainer):
        job_type: ClassVar[str] = "wetness"
        summary: ClassVar[str] = "how wet it is"
        stages: ClassVar[tuple[str, ...]] = ("wetness",)
        depth: float = Field(1.0, description="in metres")

    STAGE = FileStage(Engine.RASTER, made="wetness", work="good.nowhere:make")
    DRY = ErrorKind(ErrorClass.INVALID, "wait for rain")
"""
ENTRIES = {
    "job_types": {"wetness": "good:Wetness"},
    "stages": {"wetness": "good:STAGE"},
    "errors": {"TOO_DRY": "good:DRY"},
}


class Site:
    """A directory in which distributions are as an installer leaves them; `tell` finds them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, code: str, groups: dict[str, dict[str, str]]) -> None:
        (self.folder / f"{name}.py").write_text(textwrap.dedent(code))
        info = self.folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        with (info / "entry_points.txt").open("w") as file:
            for group, entries in groups.items():
                file.write(f"[geo_assets.{group}]\n")
                file.writelines(f"{entry} = {value}\n" for entry, value in entries.items())


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def tell(site, code: str):
    """What a process that sees these distributions prints, as JSON."""
    done = run(site, "-c", textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(site, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site.folder), "GEO_ASSETS_HOME": str(site.folder / "home")}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


REGISTERED = """
    import json
    from geo_assets.errors import ERRORS, GeoAssetsError
    from geo_assets.file_stages import FILE_STAGES
    from geo_assets.parameters import JOB_TYPES, validate_parameters
    def refusal(job_type):
        try:
            validate_parameters(job_type, {"container": "landing"})
        except GeoAssetsError as error:
            return [error.code, error.message]
    print(json.dumps({
        "added": sorted(JOB_TYPES.added), "stages": sorted(FILE_STAGES.added), "codes": sorted(ERRORS.added),
        "broken": {name: str(broken) for name, broken in JOB_TYPES.broken.items()},
        "refused": {name: refusal(name) for name in JOB_TYPES.broken}, "ours": list(JOB_TYPES)[:1],
    }))
"""


def test_what_a_distribution_adds_is_there_beside_ours(site):
    site("good", GOOD, ENTRIES)
    told = tell(site, REGISTERED)
    assert (told["added"], told["stages"], told["codes"]) == (["wetness"], ["wetness"], ["TOO_DRY"])
    assert (told["ours"], told["broken"]) == (["ingest_container"], {})


def test_a_distribution_is_not_imported_by_who_asks_for_ours(site):
    site("good", GOOD, ENTRIES)
    code = """
        import json, sys
        from geo_assets.errors import GeoAssetsError
        from geo_assets.parameters import Job, validate_parameters
        Job.of(validate_parameters("ingest_container", {"container": "landing"}))
        GeoAssetsError("UNREADABLE", "a")
        print(json.dumps("good" in sys.modules))
    """
    assert tell(site, code) is False


BROKEN = {
    "fails as it is imported": ("import a_package_that_is_not_there", "", "ModuleNotFoundError: No module named 'a_pac"),
    "ends the process": ("raise SystemExit('no licence')", "", "SystemExit: no licence"),
    "has not what it names": ("", "", "AttributeError: module 'bad' has no attribute 'Rust'"),
    "is no job type": ("Rust = 7", "", "TypeError: it is no class derived from geo_assets.parameters.PublishContainer"),
    "does not say what a parameter is": (
        GOOD.replace("Wetness", "Rust").replace('"wetness"', '"rust"', 1).replace('description="in metres"', "gt=0"),
        "",
        "ValueError: nothing says what depth is",
    ),
    "is called otherwise": (GOOD.replace("class Wetness", "class Rust"), "", "its job_type is 'wetness'"),
    "has a stage that is not there": (GOOD.replace("Wetness", "Rust").replace('"wetness"', '"rust"'), "", "there is no stage rust"),
    "has a stage that is broken": (
        GOOD.replace("Wetness", "Rust").replace('"wetness"', '"rust"').replace("good.nowhere:make", "nowhere"),
        {"rust": "bad:STAGE"},
        "stage 'rust' of bad 1.0 cannot be loaded: ValueError: its work is no module:function",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "stages", "said"), BROKEN.values(), ids=BROKEN)
def test_a_job_type_that_is_broken_is_one_error_that_names_its_distribution_and_the_others_are_there(
    site, code, stages, said
):
    site("good", GOOD, ENTRIES)
    site("bad", code, {"job_types": {"rust": "bad:Rust"}, "stages": stages or {}})
    told = tell(site, REGISTERED)
    assert told["added"] == ["wetness"]
    assert told["broken"]["rust"].startswith("job type 'rust' of bad 1.0 cannot be loaded: ")
    assert said in told["broken"]["rust"]
    assert told["refused"]["rust"] == ["PLUGIN_BROKEN", told["broken"]["rust"]]


def test_a_name_that_two_distributions_claim_is_nobodys_and_one_of_ours_stays_ours(site):
    site("good", GOOD, ENTRIES)
    site("other", GOOD, {"job_types": {"wetness": "other:Wetness", "ingest_container": "other:Wetness"}})
    told = tell(site, REGISTERED)
    assert (told["added"], told["ours"]) == ([], ["ingest_container"])
    assert "of good 1.0 and other 1.0 cannot be loaded: only one may have that name" in told["broken"]["wetness"]
    assert "of other 1.0 cannot be loaded: geo_assets itself has one of that name" in told["broken"]["ingest_container"]


def test_the_definitions_have_the_assets_of_what_was_added_and_say_what_is_broken(site):
    site("good", GOOD, ENTRIES)
    site("bad", "raise RuntimeError('out of order')", {"job_types": {"rust": "bad:Rust"}})
    code = """
        import json
        from geo_assets.definitions import defs
        graph = defs.get_repository_def().asset_graph
        keys = [key.path for key in graph.get_all_asset_keys() if key.path[0] == "wetness"]
        jobs = [job.name for job in defs.jobs]
        print(json.dumps({"keys": sorted(key[1] for key in keys), "jobs": jobs}))
    """
    done = run(site, "-c", textwrap.dedent(code))
    told = json.loads(done.stdout)
    flow = ["container_inventory", "stac_collection", "stac_items", "submission_report", "wetness"]
    assert told["keys"] == flow
    assert {"wetness", "ingest_container", "hello_world"} <= set(told["jobs"])
    assert "rust" not in told["jobs"]
    assert "job type 'rust' of bad 1.0 cannot be loaded: RuntimeError: out of order" in done.stderr


def test_a_job_type_whose_assets_dagster_refuses_is_left_out_and_the_others_are_there(site):
    kinds = "kinds=('no kind!',), work="
    site("good", GOOD, ENTRIES)
    site(
        "bad",
        GOOD.replace("Wetness", "Rust").replace('"wetness"', '"rust"').replace("work=", kinds),
        {"job_types": {"rust": "bad:Rust"}, "stages": {"rust": "bad:STAGE"}},
    )
    done = run(site, "-c", "from geo_assets.definitions import defs; print([job.name for job in defs.jobs])")
    assert "'wetness'" in done.stdout, done.stderr
    assert "'rust'" not in done.stdout
    assert "job type 'rust' of bad 1.0 cannot be loaded: " in done.stderr


def test_commands_and_reference_tell_of_what_was_added_in_the_words_of_its_model_and_of_what_is_broken(site):
    site("good", GOOD, ENTRIES)
    site("bad", "raise RuntimeError('out of order')", {"job_types": {"rust": "bad:Rust"}})
    offered = run(site, "-m", "geo_assets.cli", "job-types")
    assert "depth" in offered.stdout
    assert "in metres (default 1.0)" in offered.stdout
    assert "left out: job type 'rust' of bad 1.0" in offered.stderr
    assert run(site, "-m", "geo_assets.cli", "reference", "--out", str(site.folder / "pages")).returncode == 0
    pages = {path.name: path.read_text() for path in (site.folder / "pages").iterdir()}
    assert "## wetness\n\nhow wet it is (of good 1.0)" in pages["parameters.md"]
    assert "| `TOO_DRY` | wait for rain |" in pages["errors.md"]
    refused = run(site, "-m", "geo_assets.cli", "submit", "rust", "--param", "container=landing")
    assert refused.returncode == 1
    assert "job type 'rust' of bad 1.0 cannot be loaded: RuntimeError: out of order" in refused.stderr


def test_the_api_offers_what_was_added(site):
    site("good", GOOD, ENTRIES)
    code = """
        import json
        from pathlib import Path
        from fastapi.testclient import TestClient
        from geo_assets.api.app import create_app
        from geo_assets.settings import Settings
        client = TestClient(create_app(Settings(home=Path.home())), base_url="http://127.0.0.1")
        print(json.dumps([client.get(p).json() for p in ("/api/job-types", "/api/errors/TOO_DRY", "/openapi.json")]))
    """
    job_types, error, openapi = tell(site, code)
    assert job_types["wetness"]["properties"]["depth"]["description"] == "in metres"
    assert error["remedy"] == "wait for rain"
    assert openapi["components"]["schemas"]["Wetness"]["title"] == "wetness"


def test_a_reader_may_return_the_codes_of_others_that_blame_the_file_and_no_others(site):
    site("good", GOOD + "    AGAIN = ErrorKind(ErrorClass.TRANSIENT, 'wait')\n", {
        "errors": {"TOO_DRY": "good:DRY", "TRY_AGAIN": "good:AGAIN"}
    })  # fmt: skip
    code = """
        import json
        from geo_assets.errors import GeoAssetsError
        codes = ("TOO_DRY", "TRY_AGAIN", "NO_SUCH", "LEASE_LOST")
        print(json.dumps([GeoAssetsError.from_reader({"code": code, "message": "m"}).code for code in codes]))
    """
    assert tell(site, code) == ["TOO_DRY", "SANDBOX_CRASHED", "SANDBOX_CRASHED", "SANDBOX_CRASHED"]


@pytest.mark.parametrize("name", ["Histogram", "a", "cogs", "ingest_container", "stac_items", "vector", "a-b"])
def test_a_package_is_not_made_under_a_name_that_no_stage_can_have(site, name):
    done = run(site, "-m", "geo_assets.cli", "new", "stage", name, "--out", str(site.folder))
    assert done.returncode == 1
    assert "cannot be the name of a stage" in done.stderr
    assert not list(Path(site.folder).glob("geo-assets-*"))
