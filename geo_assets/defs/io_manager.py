"""The IO manager: pydantic contracts as JSON files. No pickle: it would let anyone who can write the store run code
here.

Here: writing and reading one contract. Not here: the contracts (`stages/contracts.py`); payloads, which never pass
through.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import BaseModel, TypeAdapter, ValidationError
from upath import UPath

from geo_assets.errors import GeoAssetsError, faults


class JsonContractIOManager(dg.UPathIOManager):
    """Contracts by step (or asset and partition), as `.json` below a base path."""

    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: Any, path: UPath) -> None:
        """Write a contract.

        Raises:
            GeoAssetsError: CONTRACT_VIOLATION, it is not a contract.
        """
        if not isinstance(obj, BaseModel):
            raise GeoAssetsError(
                "CONTRACT_VIOLATION",
                f"{context.get_identifier()}: {type(obj).__name__} is not a contract (got {str(obj)[:80]!r})",
            )
        path.write_text(obj.model_dump_json(), encoding="utf-8")

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Any:
        """Read a contract as the type that its maker declared: a collected input is declared as a list, its files are
        not.

        Raises:
            GeoAssetsError: CONTRACT_VIOLATION naming the stage, the field and the value.
        """
        upstream = context.upstream_output
        expected = upstream.dagster_type.typing_type if upstream is not None else context.dagster_type.typing_type
        try:
            return TypeAdapter(expected).validate_json(path.read_bytes())
        except ValidationError as error:
            stage = upstream.step_key if upstream is not None else context.name
            raise GeoAssetsError("CONTRACT_VIOLATION", f"{stage}: {'; '.join(faults(error))}") from error
