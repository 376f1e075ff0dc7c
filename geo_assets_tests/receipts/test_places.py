"""Items of a moved account say everywhere where their files are now."""

import pytest

from geo_assets.accounts import AzureAccount, LocalAccount
from geo_assets.outcomes import CogOutputs
from geo_assets.receipts.places import in_its_place
from geo_assets.settings import Settings
from geo_assets.stac.places import with_places
from geo_assets.stac.validation import validated
from geo_assets.storage.azure import place
from geo_assets_tests.stac.test_retries import item

BLOB = "default/cogs/x/a b.tif"
PARAMETERS = {"account": "default", "container": "landing"}


def azure(name):
    return AzureAccount(kind="azure", account_name=name, account_key="a2V5")


def settings_with(account):
    return Settings(accounts={"default": account}, pipeline_password="x", migrator_password="x", reader_password="x")


def made_at(account):
    """An item as a job makes it."""
    made = {**item("a", "x"), "stac_extensions": []}
    if isinstance(account, LocalAccount):
        made["assets"] = {"data": {"href": f"file://{account.root}/cogs/x/a b.tif"}}
        source = f"file://{account.root}/landing/a%20b.tif"
        places = {}
    else:
        href = f"https://{account.account_name}.blob.core.windows.net/cogs/x/a%20b.tif"
        made["assets"] = {"data": {"href": href}}
        source = f"https://{account.account_name}.blob.core.windows.net/landing/a%20b.tif"
        places = {href: place(account, "cogs", "x/a b.tif")}
    made["links"] = [{"rel": "derived_from", "href": source, "title": "a b.tif"}]
    return validated(with_places(made, places))


@pytest.fixture
def accounts(tmp_path):
    return {
        "old": azure("oldaccount"),
        "new": azure("newaccount"),
        "here": LocalAccount(kind="local", root=tmp_path / "here"),
        "there": LocalAccount(kind="local", root=tmp_path / "there"),
    }


@pytest.mark.parametrize("now", ["old", "new", "here", "there"])
@pytest.mark.parametrize("before", ["old", "new", "here", "there"])
def test_an_item_is_restored_as_a_job_would_make_it_where_its_files_are_now(accounts, before, now):
    outputs = CogOutputs(cog=BLOB, sha256="0" * 64)
    settings = settings_with(accounts[now])
    assert in_its_place(settings, made_at(accounts[before]), outputs, PARAMETERS) == made_at(accounts[now])
