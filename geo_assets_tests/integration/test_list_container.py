import pytest


@pytest.fixture
def container(cli, tmp_path):
    for name in ("a.tif", "a.tfw", "b.csv", "notes.txt", ".DS_Store", "deep/c.SHP", "deep/c.dbf", "deep/c.shx"):
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert cli.run("upload", str(tmp_path / "files"), "default/listing").returncode == 0
    return "listing"


def test_a_container_is_listed_and_a_second_request_lists_it_again(cli, container):
    first = cli.json("submit", "list_container", "--param", f"container={container}", "--wait")
    assert first["status"] == "completed"
    again = cli.json("submit", "list_container", "--param", f"container={container}", "--wait")
    assert again["status"] == "completed"
    assert again["job_id"] == first["job_id"]
    assert again["run_id"] != first["run_id"]


def test_an_empty_container_is_a_clean_success(cli):
    (cli.home / "containers" / "empty").mkdir(parents=True, exist_ok=True)
    assert cli.json("submit", "list_container", "--param", "container=empty", "--wait")["status"] == "completed"
