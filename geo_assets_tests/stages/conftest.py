"""The context of a stage. Its children are the module's: to start them takes longer than what most tests let them do."""

import pytest

from geo_assets.stages.context import StageContext


@pytest.fixture(scope="module")
def children(settings):
    """A pool of sandboxed children that no test ends."""
    with StageContext(settings) as context:
        yield context.sandbox


@pytest.fixture
def context(settings, children):
    with StageContext(settings) as context:
        vars(context)["sandbox"] = children  # where `made_once` would keep its own
        yield context
