"""What the metadata files of a product say of all its rasters: when it was taken.

Here: finding and reading them. Not here: what their words mean (`capture.py`), files beside one raster (`beside.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from geo_assets.capture import METADATA_FILES, of_metadata
from geo_assets.raster.beside import LONGEST
from geo_assets.raster.variables_models import ProductReport, ProductRequest


def product_datetime(folder: Path, names: Iterable[str]) -> str | None:
    """Return the time that the product's metadata states, as `ConvertRequest.datetime`; the first of several files that
    states one.

    Args:
        folder: where they are.
        names: of files below it, metadata or not.
    """
    for name in names:
        if any(ending.search(name) for ending, _ in METADATA_FILES):
            with (folder / name).open("rb") as file:
                found = of_metadata(name, file.read(LONGEST).decode("utf-8", "replace"))
            if found:
                return "/".join(filter(None, (found.start, found.end)))
    return None


def product(request: ProductRequest) -> ProductReport:
    """Return what the product metadata in a directory say; it runs in the sandboxed child."""
    folder = Path(request.folder)
    return ProductReport(datetime=product_datetime(folder, sorted(path.name for path in folder.iterdir())))
