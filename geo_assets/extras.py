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
        GeoAssetsError: EXTRA_NOT_INSTALLED; INVALID_SETTINGS, both are Celery's, or Celery has no broker.
    """
    for field in ("executor", "run_launcher"):
        named = getattr(settings, field)
        if named in _MODULES:
            _insist_on(named, f"GEO_ASSETS_{field.upper()}={named}: ")
    if settings.executor == settings.run_launcher == "celery":
        raise GeoAssetsError(
            "INVALID_SETTINGS",
            "GEO_ASSETS_EXECUTOR and GEO_ASSETS_RUN_LAUNCHER are both celery: a task of Celery may not wait for others",
            remedy="unset one of the two: without the launcher, steps run on workers; without the executor, whole runs",
        )
    if "celery" in {settings.executor, settings.run_launcher}:
        insist_on_celery(settings)


def insist_on_celery(settings: Settings) -> None:
    """Raise unless Celery is installed and has a broker.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED, INVALID_SETTINGS.
    """
    _insist_on("celery")
    if not settings.celery_urls[0]:
        raise GeoAssetsError(
            "INVALID_SETTINGS",
            "GEO_ASSETS_CELERY_BROKER is not set: Celery needs a broker",
            remedy="set it to the URL of a Redis, redis://:PASSWORD@HOST:PORT/0: deploy/celery/README.md",
        )


def _insist_on(extra: str, whose: str = "") -> None:
    module = _MODULES[extra]
    if find_spec(module) is None:
        raise GeoAssetsError(
            "EXTRA_NOT_INSTALLED",
            f"{whose}the package {module} is not installed",
            remedy=f"install it: uv sync --extra {extra}, or pip install 'geo_assets[{extra}]'",
        )
