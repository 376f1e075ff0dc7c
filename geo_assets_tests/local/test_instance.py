"""The `dagster.yaml` of a home says what executor and launcher of the settings need."""

import pytest
import yaml
from pydantic import SecretStr

from geo_assets.errors import GeoAssetsError
from geo_assets.extras import insist_on_extras
from geo_assets.home import project_file
from geo_assets.local.instance import celery_exports, instance_config
from geo_assets.settings import Settings


def test_by_default_it_is_the_projects():
    assert instance_config(Settings()) == project_file("dagster.yaml").read_text()
    assert celery_exports(Settings()) == {}


def test_with_celerys_launcher_a_run_may_wait_and_the_password_is_in_variables_alone():
    settings = Settings(run_launcher="celery", celery_broker=SecretStr("redis://:parole@broker/0"))
    text = instance_config(settings)
    assert yaml.safe_load(text)["run_launcher"]["class"] == "RecordingCeleryRunLauncher"
    assert yaml.safe_load(text)["run_monitoring"]["start_timeout_seconds"] == 3600
    assert "parole" not in text
    assert set(celery_exports(settings).values()) == {"redis://:parole@broker/0"}


@pytest.mark.parametrize("field", ["executor", "run_launcher"])
def test_celery_without_a_broker_is_one_line(monkeypatch, field):
    monkeypatch.setattr("geo_assets.extras.find_spec", lambda module: True)
    with pytest.raises(GeoAssetsError, match="GEO_ASSETS_CELERY_BROKER is not set") as caught:
        insist_on_extras(Settings(**{field: "celery"}))
    assert caught.value.code == "INVALID_SETTINGS"
