"""What `geo-assets doctor` says of the database."""

from pydantic import SecretStr

from geo_assets.api.health import readiness
from geo_assets.local import doctor
from geo_assets.stac.collection import Described
from geo_assets.stac.pgstac import create_collection


def test_so_many_collections_that_searches_become_slow_are_a_warning_with_a_remedy(settings, monkeypatch):
    monkeypatch.setattr(doctor, "_MOST_COLLECTIONS", 2)
    for number in range(2):
        create_collection(settings, f"few-{number}", Described())
    assert doctor._catalogue(settings).level == "ok"
    create_collection(settings, "one-too-many", Described())
    found = doctor._catalogue(settings)
    assert (found.level, found.found.partition(";")[0]) == ("warning", "3 collections")
    assert "geo-assets collection list" in found.remedy


def test_that_every_migration_is_applied_is_seen_without_the_password_of_the_migrator(settings, submitter):
    without = settings.model_copy(update={"migrator_password": SecretStr("")})
    assert doctor._migrations(without).level == "ok"
    assert readiness(without, submitter)["status"] == "ready"
