"""The description of a circuit's task, read and checked: the circuit, its values, and where it may run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from pilot import registry
from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.interfaces import Offer
from pilot.quantum.bundles import Bundler
from pilot.quantum.mitigation import listed, stages
from pilot.quantum.noise import packed_model
from pilot.quantum.observables import are_given
from pilot.quantum.programs.gate_names import truly_named
from pilot.quantum.simulator_instructions import refuse_simulator_instructions
from pilot.resources import ANY_QPU

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: Fields of a description that are compared with estimates.
DEMANDS = ("min_fidelity", "deadline", "max_cost")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a description asks for."""

    description: TaskDescription
    circuit: QuantumCircuit
    #: ``(n_sets, n_parameters)``; None: the circuit has no free parameters.
    values: NDArray[np.float64] | None
    #: One result, not a list of them.
    single: bool
    #: Devices of these names, "*" for any; none: simulated.
    devices: tuple[str, ...] = ()
    #: A simulator among the pilots' ``qpus``; "": this library's choice.
    simulator: str = ""
    #: A noise model, pickled, that circuits are simulated with; empty: none.
    noise: bytes = b""
    #: What devices are expected to give is estimated first.
    is_estimated: bool = False
    #: What may put it on a device together with others; None: nothing may.
    bundler: Bundler | None = None

    @classmethod
    def of(cls, description: TaskDescription, offer: Offer) -> Request:
        """Read the circuit, and check what goes together.

        Raises:
            DescriptionError: the circuit cannot be read, or fields do not go together.
        """
        circuit = _circuit(description)
        if not isinstance(description.observables, Sized):
            raise description.wrong("observables", "a list of Pauli strings such as 'ZZI', or of Qiskit's operators")
        if description.tomography is not False and are_given(description.observables):
            raise description.wrong("tomography", "nothing with observables: give one of the two")
        values, single = _values(description, circuit)
        refuse_simulator_instructions(circuit)
        noise = b"" if description.noise_model is None else packed_model(description)
        devices, simulator = ((), "") if noise else _where(description, offer)
        if not devices:
            _check_no_demands(description)
        return cls(
            description=description,
            circuit=circuit,
            values=values,
            single=single,
            devices=devices,
            simulator=simulator,
            noise=noise,
            bundler=_bundler(description, devices),
            is_estimated=bool(devices)
            and (offer.estimated or any(getattr(description, field) is not None for field in DEMANDS)),
        )

    def qubits(self) -> list[int] | None:
        """The qubits whose state is the result; None: all."""
        given = self.description.tomography
        if given is True:
            return None
        qubits = list(given) if isinstance(given, Iterable) else None
        if qubits is None or not all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in qubits):
            raise self.description.wrong("tomography", "True, or a list of the circuit's qubits by number")
        return [int(one) for one in qubits]


def _circuit(description: TaskDescription) -> QuantumCircuit:
    circuit = description.circuit
    if not isinstance(circuit, QuantumCircuit):
        from pilot.quantum.programs import load, pennylane_tapes  # and its parsers

        asks_state = description.tomography is not False or (
            isinstance(description.observables, Sized) and are_given(description.observables)
        )
        if asks_state and pennylane_tapes.is_pennylane(circuit):
            circuit = pennylane_tapes.state_circuit(circuit)
        else:
            circuit = load(circuit).to_qiskit()
    else:
        circuit = truly_named(circuit)
    _check(circuit)
    return circuit


def _check(circuit: QuantumCircuit) -> None:
    """That it has qubits, a name that is text, and angles that are numbers."""
    name = circuit.name
    if not circuit.num_qubits:
        raise DescriptionError(f"TaskDescription.circuit: circuit {name!r} has no qubits", field="circuit")
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        raise DescriptionError(f"TaskDescription.circuit: its name {name!r} is not Unicode text", field="circuit")
    for entry in circuit.data:
        for angle in entry.params:
            if isinstance(angle, float) and not isfinite(angle):
                raise DescriptionError(
                    f"TaskDescription.circuit: circuit {name!r} has the gate {entry.name!r} with the angle {angle}; "
                    "expected a finite number",
                    field="circuit",
                )


def _values(description: TaskDescription, circuit: QuantumCircuit) -> tuple[NDArray[np.float64] | None, bool]:
    """The sets of values, and whether it is one that stands for itself."""
    names = [parameter.name for parameter in circuit.parameters]
    given = description.parameters
    if given is None or (not names and isinstance(given, Sized) and not len(given)):
        if names:
            shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise description.wrong(
                "parameters", f"values for the {len(names)} free parameters of the circuit ({shown})"
            )
        return None, True
    if isinstance(given, Mapping):
        known = _by_name(description, given)
        if set(known) != set(names):
            raise description.wrong("parameters", f"values for exactly the circuit's parameters: {', '.join(names)}")
        try:
            columns = [_real(known[name]) for name in names]
            given = np.stack(np.broadcast_arrays(*columns), axis=-1)
        except (TypeError, ValueError):
            raise description.wrong(
                "parameters", "for each name a real number, or as many numbers as the others"
            ) from None
    try:
        array = _real(given)
    except (TypeError, ValueError):
        raise description.wrong("parameters", "real numbers: (n_parameters,) or (n_sets, n_parameters)") from None
    fits = array.ndim in (1, 2) and array.shape[-1] == len(names) and array.size and np.isfinite(array).all()
    if not names or not fits:
        expected = (
            f"finite numbers of shape ({len(names)},) or (n_sets, {len(names)}), n_sets at least 1"
            if names
            else "nothing: the circuit has no free parameters"
        )
        raise description.wrong("parameters", expected)
    return np.atleast_2d(array), array.ndim == 1


def _by_name(description: TaskDescription, given: Mapping[Any, Any]) -> dict[str, Any]:
    """The values by the parameters' names; a `ParameterVector` stands for its elements, the last axis of its values."""
    known: dict[str, Any] = {}
    for key, values in given.items():
        if not isinstance(key, ParameterVector):
            known[str(getattr(key, "name", key))] = values
            continue
        try:
            columns = np.moveaxis(_real(values), -1, 0)
            known.update((one.name, column) for one, column in zip(key, columns, strict=True))
        except (TypeError, ValueError):
            expected = f"for the vector {key.name} real numbers: ({len(key)},) or (n_sets, {len(key)})"
            raise description.wrong("parameters", expected) from None
    return known


def _real(values: Any) -> NDArray[np.float64]:
    """An array of numbers; where one has an imaginary part, a ValueError: a conversion would leave it out."""
    array = np.asarray(values)
    if array.dtype == object:  # such as Qiskit's own numbers
        array = np.vectorize(complex, otypes=[np.complex128])(array)
    if np.iscomplexobj(array) and np.any(array.imag):
        raise ValueError("an imaginary part")
    return np.asarray(array.real, dtype=np.float64)


def _bundler(description: TaskDescription, devices: tuple[str, ...]) -> Bundler | None:
    given = description.share_qpu
    if given is False:
        return None
    if given is not True and not isinstance(given, Bundler):
        raise description.wrong("share_qpu", "True, False, or a Bundler such as MultiProgrammer(max_loss=0.05)")
    if not devices:
        raise description.wrong("share_qpu", "False for a simulator: it is not shared; name a device as qpu")
    if stages(listed(description.mitigation)).zero_noise is not None:
        raise description.wrong(
            "share_qpu", "False with 'zne': the noise of a circuit that shares is not made stronger evenly"
        )
    made: Bundler = registry.load("pilot.bundlers", "circuit")() if given is True else given
    return made


def _check_no_demands(description: TaskDescription) -> None:
    """Refuse what is compared with estimates of devices alone, where it is simulated."""
    for field in ("deadline", "max_cost", "fallback"):
        if getattr(description, field) is not None:
            raise description.wrong(
                field, "nothing for a simulator, which is not chosen by estimates; name devices as qpu, or '*' for any"
            )


def _where(description: TaskDescription, offer: Offer) -> tuple[tuple[str, ...], str]:
    """Names of devices, or none and the name of a simulator."""
    exact, names = description.shots is None, description.qpu
    if names is None:
        asks = description.min_fidelity is not None or bool(description.mitigation)
        found: tuple[str, ...] = (ANY_QPU,) if (offer.devices and not exact) or asks else ()
    else:
        found = (names,) if isinstance(names, str) else tuple(names)
        try:
            simulators = [name for name in found if name != ANY_QPU and (name == "aer" or not registry.is_device(name))]
        except DescriptionError as error:
            raise DescriptionError(f"TaskDescription.qpu: {error}", field="qpu", given=names) from error
        if simulators and len(found) > 1:
            raise description.wrong("qpu", "one simulator, or devices, but not both")
        if simulators:
            found = ()
            names = simulators[0]
    if found and exact:
        raise description.wrong("shots", "a number: a device cannot give exact results (qpu='aer' can)")
    if not found and (description.mitigation or description.min_fidelity is not None):
        field = "mitigation" if description.mitigation else "min_fidelity"
        raise description.wrong(field, "nothing for a simulator: without noise it has no errors")
    if found or names is None or names == "aer":
        return found, ""
    assert isinstance(names, str)
    return (), names
