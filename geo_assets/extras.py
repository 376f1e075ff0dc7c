"""Extras: the packages that not every installation has.

Here: which extra brings which package, which setting needs which, and the error where it is missing. Not here: what
these packages are used for (`defs/executors.py`, `local/stack.py`, `storage/s3.py`, `spans.py`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from geo_assets.errors import GeoAssetsError

if TYPE_CHECKING:
    from geo_assets.settings import Settings

#: The name of an extra -> the module that it brings. Those of executors, launchers and kinds of accounts have their
#: names.
_MODULES = {
    "celery": "dagster_celery",
    "k8s": "dagster_k8s",
    "otel": "opentelemetry.exporter.otlp.proto.http",
    "s3": "boto3",
}


def insist_on_extras(settings: Settings) -> None:
    """Raise unless everything that executor, launcher and tracing of the settings need is here, and they go together.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED; INVALID_SETTINGS, both are Celery's, or Celery has no broker.
    """
    for field in ("executor", "run_launcher"):
        named = getattr(settings, field)
        if named in _MODULES:
            insist_on(named, f"GEO_ASSETS_{field.upper()}={named}: ")
    if settings.otlp_endpoint:
        insist_on("otel", "GEO_ASSETS_OTLP_ENDPOINT: ")
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
    insist_on("celery")
    if not settings.celery_urls[0]:
        raise GeoAssetsError(
            "INVALID_SETTINGS",
            "GEO_ASSETS_CELERY_BROKER is not set: Celery needs a broker",
            remedy="set it to the URL of a Redis, redis://:PASSWORD@HOST:PORT/0: deploy/celery/README.md",
        )


def insist_on(extra: str, whose: str = "") -> None:
    """Raise unless the package of an extra is installed.

    Args:
        extra: its name.
        whose: what needs it, before the sentence.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED.
    """
    module = _MODULES[extra]
    if not _is_here(module):
        raise GeoAssetsError(
            "EXTRA_NOT_INSTALLED",
            f"{whose}the package {module} is not installed",
            remedy=f"install it: uv sync --extra {extra}, or pip install 'geo_assets[{extra}]'",
        )


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False
