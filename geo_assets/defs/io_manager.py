"""The IO manager: pydantic contracts as JSON in the ledger, which every step can read, wherever it runs. No pickle: it
would let anyone who can write there run code here.

Here: which contract is whose, and what it is read as. Not here: the contracts (`stages/contracts.py`), their rows
(`ledger/contracts.py`); payloads, which never pass through.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, TypeAdapter, ValidationError

from geo_assets.defs.resources import Stages
from geo_assets.errors import GeoAssetsError
from geo_assets.faults import faults


class ContractIOManager(dg.IOManager):
    """Contracts by run and step, or by asset and partition."""

    def __init__(self, stages: Stages) -> None:
        """Nothing is asked yet: the connections are those of the stages."""
        self._stages = stages

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write a contract.

        Raises:
            GeoAssetsError: CONTRACT_VIOLATION, it is not a contract.
        """
        place = _place(context)
        if not isinstance(obj, BaseModel):
            raise GeoAssetsError(
                "CONTRACT_VIOLATION", f"{place}: {type(obj).__name__} is not a contract (got {str(obj)[:80]!r})"
            )
        run_id = None if context.has_asset_key else context.run_id
        self._stages.get().ledger.contracts.write(place, obj.model_dump_json(), run_id=run_id)

    def load_input(self, context: dg.InputContext) -> Any:
        """Read a contract as the type that its maker declared: a collected input is declared as a list, its contracts
        are read one by one.

        Raises:
            GeoAssetsError: CONTRACT_VIOLATION, there is none, or naming the stage, the field and the value.
        """
        place = _place(context)
        contract = self._stages.get().ledger.contracts.read(place)
        if contract is None:
            raise GeoAssetsError(
                "CONTRACT_VIOLATION",
                f"nothing is recorded of {place}",
                remedy="materialize it first, or launch the whole job: another release may have made it",
            )
        try:
            return TypeAdapter(_declared(context)).validate_json(contract)
        except ValidationError as error:
            raise GeoAssetsError("CONTRACT_VIOLATION", f"{place}: {'; '.join(faults(error))}") from error


def _place(context: dg.OutputContext | dg.InputContext) -> str:
    """Where the contract of an output is; an input is the output that it was."""
    return "/".join(context.get_asset_identifier() if context.has_asset_key else context.get_identifier())


def _declared(context: dg.InputContext) -> Any:
    """The type of a contract: as its maker declared it, or, where an earlier run made it, as its reader does."""
    try:
        if context.upstream_output is not None:
            return context.upstream_output.dagster_type.typing_type
    except dg.DagsterInvariantViolationError:
        pass  # Dagster says nothing of the type of an asset of an earlier run
    expected = context.dagster_type.typing_type
    return get_args(expected)[0] if get_origin(expected) is list else expected


@dg.io_manager(required_resource_keys={"stages"}, description="contracts between steps, in the ledger")
def contract_io_manager(context: dg.InitResourceContext) -> ContractIOManager:
    """The IO manager of all assets and ops."""
    return ContractIOManager(context.resources.stages)
