import pytest

from geo_assets_tests.oracle import follow_with_reconcile


@pytest.fixture(autouse=True)
def reconciled(request):
    """Whatever a test did to a job, no part of the system contradicts another afterwards (`oracle.py`)."""
    yield from follow_with_reconcile(request)
