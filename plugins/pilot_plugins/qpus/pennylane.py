"""``pennylane``: any device of PennyLane's, by its name; circuits are rewritten for it gate by gate."""

from __future__ import annotations

import ast
import math
import time
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import numpy as np

from pilot.errors import QPUError
from pilot.interfaces import QPU, Run
from pilot.resources import QPUInfo
from pilot_plugins.qpus._addresses import refuse
from pilot_plugins.qpus._jobs import kept
from pilot_plugins.qpus._qiskit import one_by_one

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.quantum.outcomes import Outcomes

#: Devices that compute: exact probabilities, and as many wires as memory holds.
_SIMULATORS = ("default.", "lightning.", "null.qubit", "reference.qubit")
#: Probabilities of all outcomes are listed up to here; counts are drawn from them up to the second.
_LISTED, _DRAWN = 26, 14


class PennylaneQPU(QPU):
    """``pennylane:lightning.qubit``, ``pennylane:lightning.gpu``; options are those of ``qml.device``: ``?c_dtype=…``.

    Measurements in the middle move to the end (one wire more each); circuits that act on outcomes are refused. The
    device's own plugin must be installed where the pilot runs. `cancel` ends a job between two circuits.
    """

    exclusive = False

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self.device_name, _, query = address.partition("?")
        if not self.device_name:
            refuse(name, "which device? Write pennylane:lightning.qubit, or another name that qml.device knows")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError:
            refuse(name, "options are written ?option=value&option=value, and are those of qml.device")
        self.options = {key: _literal(value) for key, value in pairs}
        wires = self.options.pop("wires", None)
        if not (wires is None or (type(wires) is int and wires > 0)):
            refuse(name, f"the option wires={wires!r} is not valid; expected a whole number, at least 1")
        self.wires: int | None = wires
        self._devices: dict[int, Any] = {}
        self._compile: Any = None
        self._cancelled = Event()

    def open(self) -> None:
        try:
            import pennylane  # noqa: F401 - seconds, here rather than in the first job
        except ImportError as error:
            raise QPUError(
                f"{self.name}: PennyLane is not installed: pip install 'quantum-pilot[pennylane]'", qpu=self.name
            ) from error
        self._device(self.wires or 1)

    def info(self) -> QPUInfo:
        simulator = self.device_name.startswith(_SIMULATORS)
        return QPUInfo(
            name=self.name,
            qubits=self.wires or (_affordable() if simulator else len(self._device(1).wires or (0,))),
            simulator=simulator,
            accepts_jobs=True if simulator else None,
            expected_wait=0.0 if simulator else None,
            asked=time.time(),
        )

    def target(self) -> Target | None:
        return None

    def run(self, run: Run) -> list[Outcomes]:
        self._cancelled.clear()
        run.check(self.info())

        def each(circuit: QuantumCircuit, seed: int) -> Outcomes:
            try:
                return self._run(circuit, run.shots, seed)
            except Exception as error:
                raise kept(self.name, error, f"running circuit {circuit.name!r}") from error

        return one_by_one(self.name, run, each, self._cancelled)

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        self._devices.clear()

    def _run(self, circuit: QuantumCircuit, shots: int | None, seed: int) -> Outcomes:
        import pennylane as qml

        from pilot.quantum.deferral import defer_measurements
        from pilot.quantum.outcomes import Outcomes, registers_of

        deferred = defer_measurements(circuit)
        if deferred is None:
            raise QPUError(
                f"{self.name}: circuit {circuit.name!r} acts on measured bits, which it cannot", qpu=self.name
            )
        gates, holder = deferred.gates, deferred.holder
        if gates.num_qubits > self.info().qubits:
            raise QPUError(
                f"{self.name} has {self.info().qubits} wires; with its measurements at its end circuit "
                f"{circuit.name!r} needs {gates.num_qubits}",
                qpu=self.name,
            )
        simulator, bits = self.info().simulator, len(holder)
        if shots is None and bits > _LISTED:
            raise QPUError(f"{self.name}: {2**bits} probabilities are too many: give a number of shots", qpu=self.name)
        where = {qubit: index for index, qubit in enumerate(gates.qubits)}
        wires = [where[qubit] for qubit in holder.values()]
        listed = shots is None or (simulator and bits <= _DRAWN)
        measured = qml.probs(wires=wires[::-1]) if listed else qml.sample(wires=wires)
        tape = qml.tape.QuantumScript(self._operations(gates), [measured], shots=None if listed else shots)
        device = self._device(max(gates.num_qubits, 1), None if listed else seed)
        (answer,) = qml.execute([tape], device, diff_method=None)
        weights: Any
        if listed:
            probabilities = np.asarray(answer, dtype=np.float64).clip(min=0)
            weights = probabilities = probabilities / probabilities.sum()
            if shots is not None:
                weights = np.random.default_rng(seed).multinomial(shots, probabilities)
            seen = np.flatnonzero(weights)
            rows, weights = (seen[:, None] >> np.arange(bits)) & 1, weights[seen]
        else:
            samples = np.asarray(answer).reshape(-1, bits)
            rows, weights = np.unique(samples, axis=0, return_counts=True)
        place = {clbit: index for index, clbit in enumerate(circuit.clbits)}
        full = np.zeros((len(rows), circuit.num_clbits), dtype=bool)
        full[:, [place[clbit] for clbit in holder]] = rows
        return Outcomes.from_bits(full, weights, registers=registers_of(circuit), shots=shots)

    def _operations(self, gates: QuantumCircuit) -> list[Any]:
        """The circuit as PennyLane's operations on wires 0, 1, …: qubit numbers."""
        import pennylane as qml
        from qiskit import generate_preset_pass_manager

        from pilot.quantum.programs.pennylane_gates import NAMES

        if not NAMES.keys() >= gates.count_ops().keys():
            self._compile = self._compile or generate_preset_pass_manager(0, basis_gates=list(NAMES))
            gates = self._compile.run(gates)
        where = {qubit: index for index, qubit in enumerate(gates.qubits)}
        made = []
        for instruction in gates.data:
            wires = [where[qubit] for qubit in instruction.qubits]
            if instruction.name == "barrier":
                continue
            operation = getattr(qml, NAMES[instruction.name])
            made.append(operation(*(float(value) for value in instruction.params), wires=wires))
        return made

    def _device(self, wires: int, seed: int | None = None) -> Any:
        """The device with so many wires; one that samples is made anew for its seed where it takes one."""
        import pennylane as qml

        count = self.wires or wires
        if seed is None and count in self._devices:
            return self._devices[count]
        options = dict(self.options)
        if seed is not None and self.device_name.startswith(_SIMULATORS):
            options["seed"] = seed
        try:
            device = qml.device(self.device_name, wires=count, **options)
        except TypeError as error:
            refuse(self.name, f"an option is not valid: {error}")
        except Exception as error:
            known = "" if "does not exist" not in str(error) else "; install its plugin where the pilot runs"
            raise QPUError(f"{self.name}: {error}{known}", qpu=self.name) from error
        if seed is None:
            self._devices[count] = device
        return device


def _literal(text: str) -> Any:
    """A number, True, False or None where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _affordable() -> int:
    """Qubits whose amplitudes fill a quarter of the machine's memory at most."""
    from pilot.quantum.costs import machine_memory

    return int(math.log2(machine_memory() / 4 / 16))
