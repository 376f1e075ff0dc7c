"""What `geo-assets doctor` says."""

from pydantic import SecretStr

from geo_assets.api.health import readiness
from geo_assets.database.connections import connect
from geo_assets.ledger.ledger import Ledger
from geo_assets.local import doctor
from geo_assets.raster import tiles
from geo_assets.stac.collection import Described
from geo_assets.stac.pgstac import create_collection
from geo_assets.vector.reader import rings


def test_so_many_collections_that_searches_become_slow_are_a_warning_with_a_remedy(settings, monkeypatch):
    monkeypatch.setattr(doctor, "_MOST_COLLECTIONS", 2)
    for number in range(2):
        create_collection(settings, f"few-{number}", Described())
    assert doctor._catalogue(settings).level == "ok"
    create_collection(settings, "one-too-many", Described())
    found = doctor._catalogue(settings)
    assert (found.level, found.found.partition(";")[0]) == ("warning", "3 collections")
    assert "geo-assets collection list" in found.remedy


def test_alerts_that_nobody_hears_of_are_a_warning_that_does_not_tell_the_address(settings):
    assert doctor._alerts(settings).found.startswith("off: no GEO_ASSETS_ALERT_WEBHOOK")
    told = settings.model_copy(update={"alert_webhook": SecretStr("https://hooks.example.org/services/very-secret")})
    assert (doctor._alerts(told).level, doctor._alerts(told).found) == ("ok", "to hooks.example.org, as json")
    with connect(settings, autocommit=True) as conn:
        conn.execute("insert into geo.alerts (event, kind) values ('a', 'poison'), ('b', 'poison')")
    assert doctor._alerts(told).level == "ok", "they were not tried yet"
    with Ledger(settings) as ledger:
        ledger.alerts.failed(ledger.alerts.take(10), "the webhook of alerts does not answer: ConnectError")
    found = doctor._alerts(told)
    assert (found.level, found.found.partition(" ")[0]) == ("warning", "2")
    assert "does not answer" in found.found
    assert "geo-assets alert --test" in found.remedy
    assert "very-secret" not in str(found)


def test_that_every_migration_is_applied_is_seen_without_the_password_of_the_migrator(settings, submitter):
    without = settings.model_copy(update={"migrator_password": SecretStr("")})
    assert doctor._migrations(without).level == "ok"
    assert readiness(without, submitter)["status"] == "ready"


def test_it_says_where_the_compiled_code_is_missing_and_what_to_do(monkeypatch):
    assert (doctor._compiled().level, doctor._compiled().remedy) == ("ok", "")
    monkeypatch.setattr(tiles, "_library", lambda: None)
    assert "NumPy" in doctor._compiled().found
    monkeypatch.setattr(rings, "_library", lambda: None)
    found = doctor._compiled()
    assert (found.level, "GEOS" in found.found, "NumPy" in found.found) == ("warning", True, True)
    assert "--reinstall-package geo_assets" in found.remedy
