"""Collections, the feed of changes and unpublishing: the same over HTTP and on the command line."""

import json

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from geo_assets.api.app import create_app
from geo_assets.cli import app as command_line
from geo_assets.errors import GeoAssetsError
from geo_assets.stac.pgstac import load_items, read_items
from geo_assets_tests.stac.test_retries import item

AGENCY = "Example Agency (producer) https://agency.example"


@pytest.fixture(scope="module")
def api(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def cli(settings, monkeypatch):
    """Runs a command in this process; returns what it prints, or raises its error."""
    for name, value in {
        "HOME": settings.home,
        "PG_PORT": settings.pg_port,
        "PG_DATABASE": settings.pg_database,
        "MIGRATOR_PASSWORD": "m",
        "PIPELINE_PASSWORD": "p",
        "READER_PASSWORD": "r",
    }.items():
        monkeypatch.setenv(f"GEO_ASSETS_{name}", str(value))

    def run(*words):
        done = CliRunner().invoke(command_line, words)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def load(settings, collection, *ids):
    items = [item(identity, collection) for identity in ids]
    load_items(settings, collection, items, guard=lambda conn: None, record=lambda conn: None)


def problem(answer, status, code):
    assert (answer.status_code, answer.json()["title"]) == (status, code)
    return answer.json()


def test_a_collection_is_made_read_changed_and_deleted_over_http(api, settings):
    made = api.post(
        "/api/stac/collections",
        json={"id": "over-http", "title": "A", "license": "mit", "providers": [AGENCY], "keywords": ["x"]},
    )
    assert made.status_code == 201
    assert made.json()["providers"] == [
        {"name": "Example Agency", "roles": ["producer"], "url": "https://agency.example"}
    ]
    assert api.get("/api/stac/collections/over-http").json() == made.json()
    problem(api.post("/api/stac/collections", json={"id": "over-http"}), 409, "COLLECTION_EXISTS")
    load(settings, "over-http", "i", "j")
    changed = api.patch("/api/stac/collections/over-http", json={"title": "B"}).json()
    assert (changed["title"], changed["license"]) == ("B", "MIT")
    assert changed["extent"]["spatial"]["bbox"] == [[5.0, 50.0, 5.0, 50.0]]
    listed = api.get("/api/stac/collections").json()
    assert listed["items"]["over-http"] == 2
    assert changed in listed["collections"]
    refused = problem(api.delete("/api/stac/collections/over-http"), 409, "COLLECTION_NOT_EMPTY")
    assert "--cascade" in refused["remedy"]
    assert list(read_items(settings, "over-http")) != []
    deleted = api.delete("/api/stac/collections/over-http", params={"cascade": True}).json()
    assert (deleted["items"], deleted["collections"]) == (2, ["over-http"])
    for ask in (api.get, api.delete):
        problem(ask("/api/stac/collections/over-http"), 404, "COLLECTION_NOT_FOUND")
    problem(api.patch("/api/stac/collections/over-http", json={}), 404, "COLLECTION_NOT_FOUND")


@pytest.mark.parametrize(("query", "status"), [("cascade", 200), ("cascade=1", 200), ("cascade=false", 409), ("", 409)])
def test_a_collection_with_items_is_deleted_only_with_cascade_however_that_is_written(api, settings, query, status):
    load(settings, "cascades", "i")
    assert api.delete(f"/api/stac/collections/cascades?{query}").status_code == status


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"id": "x", "license": "proprietary"}, "no SPDX identifier"),
        ({"id": "No Such Id"}, "id: must be at most 63 of a-z, 0-9, - and _"),
        ({"id": "x", "extent": {}}, "extent: is not a known field"),
        ({"title": "without an id"}, "id: is required"),
        ({"id": "x", "providers": ["A https://user:secret@x.example"]}, "without credentials"),
    ],
)
def test_a_collection_that_cannot_be_is_refused_in_one_line_and_not_made(api, body, named):
    assert named in problem(api.post("/api/stac/collections", json=body), 422, "INVALID_PARAMETERS")["detail"]
    problem(api.get("/api/stac/collections/x"), 404, "COLLECTION_NOT_FOUND")


def test_a_mirror_follows_over_http_page_by_page(api, settings):
    cursor = api.get("/api/stac/changes", params={"since": "now"}).json()["next"]
    load(settings, "followed", "a", "b")
    api.post("/api/stac/unpublish", json={"item": "followed/a"})
    seen = []
    while True:
        page = api.get("/api/stac/changes", params={"since": cursor, "limit": 2}).json()
        if not page["changes"]:
            break
        seen, cursor = seen + page["changes"], page["next"]
    told = [(change["op"], change["type"], change["id"]) for change in seen]
    assert told[0] == ("create", "collection", "followed")
    assert sorted(told[1:3]) == [("create", "item", "a"), ("create", "item", "b")]
    assert ("delete", "item", "a") in told[3:]
    assert all(change["at"] for change in seen)
    assert page["next"] == cursor
    old = problem(api.get("/api/stac/changes", params={"since": "00000000-1"}), 410, "CURSOR_TOO_OLD")
    assert "since=now" in old["remedy"]
    problem(api.get("/api/stac/changes", params={"since": "tomorrow"}), 422, "INVALID_PARAMETERS")


def test_unpublishing_over_http_takes_one_target_and_may_be_repeated(api, settings):
    load(settings, "withdrawn", "a", "b")
    for body in ({}, {"item": "withdrawn/a", "collection": "withdrawn"}, {"item": "withdrawn"}, {"file": "x"}):
        problem(api.post("/api/stac/unpublish", json=body), 422, "INVALID_PARAMETERS")
    for items in (1, 0):
        assert api.post("/api/stac/unpublish", json={"item": "withdrawn/a"}).json()["items"] == items
    problem(api.post("/api/stac/unpublish", json={"item": "withdrawn/c"}), 404, "ITEM_NOT_FOUND")
    problem(api.post("/api/stac/unpublish", json={"job": "0" * 12}), 404, "JOB_NOT_FOUND")
    for items in (1, 0):
        assert api.post("/api/stac/unpublish", json={"collection": "withdrawn"}).json()["items"] == items


def test_who_may_only_read_neither_changes_nor_withdraws(settings, submitter):
    token = submitter.tokens.create("reads", ["read"])
    with TestClient(create_app(settings, require_auth=True), headers={"authorization": f"Bearer {token}"}) as client:
        assert client.get("/api/stac/collections").status_code == 200
        assert client.get("/api/stac/changes").status_code in {200, 410}
        for answer in (
            client.post("/api/stac/collections", json={"id": "x"}),
            client.patch("/api/stac/collections/x", json={}),
            client.delete("/api/stac/collections/x"),
            client.post("/api/stac/unpublish", json={"item": "x/y"}),
        ):
            problem(answer, 403, "FORBIDDEN")


def test_a_collection_is_made_shown_changed_listed_and_deleted_by_command(cli, settings):
    words = ("--title", "A", "--license", "cc0-1.0", "--provider", AGENCY, "--keyword", "x", "--keyword", "y")
    made = json.loads(cli("collection", "create", "by-command", *words).stdout)
    assert (made["license"], made["keywords"]) == ("CC0-1.0", ["x", "y"])
    assert json.loads(cli("collection", "show", "by-command").stdout) == made
    load(settings, "by-command", "i")
    assert json.loads(cli("collection", "update", "by-command", "--title", "B").stdout)["title"] == "B"
    listed = {c["id"]: c for c in json.loads(cli("collection", "list", "--json").stdout)}
    assert (listed["by-command"]["items"], listed["by-command"]["title"]) == (1, "B")
    assert "by-command" in cli("collection", "list").stdout
    with pytest.raises(GeoAssetsError, match="by-command has items"):
        cli("collection", "delete", "by-command")
    assert (
        "withdrawn: 1 item, the collection by-command" in cli("collection", "delete", "by-command", "--cascade").stdout
    )
    with pytest.raises(GeoAssetsError, match="there is no collection by-command"):
        cli("collection", "show", "by-command")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("collection", "create", "Böse Id"), "COLLECTION: must be at most 63 of a-z, 0-9, - and _, a letter or digit"),
        (
            ("collection", "create", "fine", "--license", "proprietary"),
            "--license: 'proprietary' is no SPDX identifier",
        ),
        (("collection", "update", "fine", "--provider", "A (boss)"), "--provider: must be NAME (ROLE, …) URL"),
        (("collection", "update", "never-made"), "there is no collection never-made"),
        (("unpublish",), "takes one of --job, --item and --collection"),
        (("unpublish", "--item", "a/b", "--collection", "a"), "takes one of"),
        (("unpublish", "--item", "never-made/b"), "there is no item never-made/b"),
    ],
)
def test_what_cannot_be_done_to_the_catalogue_is_refused_in_one_line(cli, words, reason):
    with pytest.raises(GeoAssetsError) as refused:
        cli(*words)
    assert reason in refused.value.message
    assert "\n" not in refused.value.message
    if words[0] == "collection" and refused.value.code == "INVALID_PARAMETERS":
        assert refused.value.remedy == f"geo-assets collection {words[1]} --help"


def test_unpublishing_by_command_says_what_was_withdrawn(cli, settings):
    load(settings, "said-so", "a", "b")
    assert json.loads(cli("unpublish", "--item", "said-so/a", "--json").stdout)["items"] == 1
    assert "withdrawn: 0 items" in cli("unpublish", "--item", "said-so/a").stdout
    assert "withdrawn: 1 item, the collection said-so" in cli("unpublish", "--collection", "said-so").stdout


def test_an_exported_collection_holds_every_item_and_twice_the_same_bytes(cli, settings, tmp_path):
    load(settings, "taken", "b", "a")
    cli("collection", "update", "taken", "--title", "Taken")
    load(settings, "taken", "c")
    for name, words in (("one", ["collection", "export"]), ("two", ["export"])):
        told = json.loads(cli(*words, "taken", str(tmp_path / name), "--json").stdout)
        assert (told["items"], told["collections"]) == (3, {"taken": 3})
    stored = {item["id"]: item for item in read_items(settings, "taken")}
    for identity, whole in stored.items():
        exported = json.loads((tmp_path / "one" / "taken" / identity / f"{identity}.json").read_text())
        assert {**exported, "links": whole["links"]} == whole
    assert json.loads((tmp_path / "one" / "taken" / "collection.json").read_text())["title"] == "Taken"
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert {path.name for path in files} >= {"items.parquet", "footprints.pmtiles", "catalog.json"}
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    for words, said in (
        (["taken", str(tmp_path / "one")], "is no empty folder"),
        (["never-made", str(tmp_path / "three")], "there is no collection"),
        (["taken", str(tmp_path / "three"), "--copy", "--link"], "exclude each other"),
    ):
        with pytest.raises(GeoAssetsError, match=said):
            cli("export", *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"], "nothing half made"
    assert "3 items of taken" in cli("export", "taken", "default/taken-along").stdout
