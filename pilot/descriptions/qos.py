"""What a user wants of the mitigator: `QosOptions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from pilot.errors import PilotError
from pilot.fields import AtLeastOne, Count, Description


class QosOptions(Description, frozen=True, kw_only=True):
    """How the errors of a circuit are mitigated: ``TaskDescription(circuit=…, qos=QosOptions())``.

    The ways to run the circuit are compared by what each is predicted to give for the shots of the task; to run it as
    it is is one of them.

    Raises:
        DescriptionError: a field has a value that is not valid; the message has both.
    """

    _pickled = frozenset({"objective", "stages"})

    #: Frozen qubits and cuts together.
    budget: Count = 3
    #: How many times the shots of the whole circuit cuts may take for the same error.
    max_overhead: Annotated[float, msgspec.Meta(ge=1, description="a number of at least 1 (1: no cuts)")] = 1000.0
    #: Distinct circuits that run.
    max_circuits: AtLeastOne = 1000
    #: Of an optimisation, the energy that is made small: a graph (MaxCut), an operator of Z and ZZ in any form that
    #: ``observables`` takes, or a `pilot.qos.mitigator.Ising`. Only then qubits are frozen.
    objective: Any = None
    #: Stages by name (entry point ``pilot.qos_stages``), or stages themselves, in the order in which they are tried.
    #: Default: freezing, cutting, reuse, readout, zne. An empty list: the circuit runs as it is.
    stages: Any = None


def options_of(given: Any) -> QosOptions | None:
    """Options from options, or from a mapping with their fields; None stays None.

    Raises:
        ValueError: it is neither, or a field is not valid.
    """
    if given is None or isinstance(given, QosOptions):
        return given
    if not isinstance(given, Mapping):
        raise ValueError("a QosOptions, or a mapping with its fields")
    try:
        return QosOptions.build(given)
    except PilotError as error:
        raise ValueError(str(error)) from error
