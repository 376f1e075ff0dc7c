"""Extras: the packages that some settings need and that not every installation has.

Here: which setting needs which package, and the error where it is missing. Not here: what these packages are used for
(`defs/executors.py`, `local/stack.py`).
"""

from importlib.util import find_spec

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings

#: The name of an executor or launcher, which is the name of its extra -> the module that it needs.
_MODULES = {"celery": "dagster_celery", "k8s": "dagster_k8s"}


def insist_on_extras(settings: Settings) -> None:
    """Raise unless everything that executor and launcher of the settings need is here, and they go together.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED; INVALID_SETTINGS, both are Celery's.
    """
    for field in ("executor", "run_launcher"):
        named = getattr(settings, field)
        module = _MODULES.get(named)
        if module and find_spec(module) is None:
            raise GeoAssetsError(
                "EXTRA_NOT_INSTALLED",
                f"GEO_ASSETS_{field.upper()}={named}: the package {module} is not installed",
                remedy=f"install it: uv sync --extra {named}, or pip install 'geo_assets[{named}]'",
            )
    if settings.executor == settings.run_launcher == "celery":
        raise GeoAssetsError(
            "INVALID_SETTINGS",
            "GEO_ASSETS_EXECUTOR and GEO_ASSETS_RUN_LAUNCHER are both celery: a task of Celery may not wait for others",
            remedy="unset one of the two: without the launcher, steps run on workers; without the executor, whole runs",
        )
