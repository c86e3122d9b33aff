"""``aer``: Qiskit Aer on the worker's own cores or GPU; the method is chosen by the circuit where none is named."""

from __future__ import annotations

import time
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

from pilot.errors import DescriptionError, PilotError, QPUError, did_you_mean
from pilot.interfaces import QPU, Run
from pilot.resources import QPUInfo
from pilot_plugins.qpus._addresses import Options, at_least_one, one_of, parse, refuse
from pilot_plugins.qpus._qiskit import one_by_one

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.quantum.aer_simulators import Simulator
    from pilot.quantum.outcomes import Outcomes

METHODS = ("statevector", "density_matrix", "matrix_product_state", "stabilizer", "tensor_network")
OPTIONS: Options = {
    "device": one_of("CPU", "GPU"),
    "precision": one_of("double", "single"),
    "threads": (at_least_one, "threads, at least 1"),
}
#: Circuits of up to so many qubits are run by Aer's own choice: looking at them takes longer than running them.
_SMALL = 12
#: Seconds of a state vector from which on it pays to look for something better.
_QUICK = 0.1
#: What a tableau and a matrix product state are made for at most, in qubits.
_WIDEST = {"stabilizer": 10_000, "matrix_product_state": 1_000}


class AerQPU(QPU):
    """``aer``, ``aer:statevector``, ``aer:matrix_product_state?threads=4``, ``aer:statevector?device=GPU``.

    Exact probabilities come from one run, where the circuit has any; counts of few measured bits are drawn from them.
    Aer holds the interpreter's lock while it simulates a circuit: `cancel` ends a job between two circuits; to end a
    long simulation itself, end its process.
    """

    exclusive = False

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self.method, options = parse(name, address, OPTIONS)
        if self.method and self.method not in METHODS:
            refuse(
                name, f"no method {self.method!r}{did_you_mean(self.method, METHODS)}", "one of " + ", ".join(METHODS)
            )
        self.device: str = options.get("device", "CPU")
        if self.device == "GPU" and self.method not in ("", "statevector", "density_matrix", "tensor_network"):
            refuse(name, f"{self.method} does not run on a GPU; expected statevector, density_matrix or tensor_network")
        self.precision: str = options.get("precision", "double")
        self.threads: int = options.get("threads", 1)
        self._cancelled = Event()

    def open(self) -> None:
        try:
            from qiskit_aer import AerSimulator
        except ImportError as error:
            raise QPUError(
                f"{self.name}: Qiskit Aer is not installed: pip install 'quantum-pilot[quantum]'", qpu=self.name
            ) from error
        simulator = AerSimulator()
        if self.method and self.method not in simulator.available_methods():
            raise QPUError(
                f"{self.name}: this Aer has no method {self.method!r} (it has "
                f"{', '.join(simulator.available_methods())}); tensor_network needs qiskit-aer-gpu",
                qpu=self.name,
            )
        if self.device not in simulator.available_devices():
            raise QPUError(
                f"{self.name}: this Aer sees no GPU here (devices: {', '.join(simulator.available_devices())}): "
                "install qiskit-aer-gpu, and check nvidia-smi in the pilot's job",
                qpu=self.name,
            )

    def info(self) -> QPUInfo:
        from qiskit_aer import AerSimulator

        widest = max(_WIDEST.values()) if not self.method else _WIDEST.get(self.method, 0)
        return QPUInfo(
            name=self.name,
            qubits=widest or AerSimulator(method=self.method).num_qubits,
            simulator=True,
            accepts_jobs=True,
            expected_wait=0.0,
            asked=time.time(),
        )

    def target(self) -> Target | None:
        return None

    def run(self, run: Run) -> list[Outcomes]:
        self._cancelled.clear()
        run.check(self.info())
        return one_by_one(self.name, run, partial(self._run, run.shots), self._cancelled)

    def cancel(self) -> None:
        self._cancelled.set()

    def _run(self, shots: int | None, circuit: QuantumCircuit, seed: int) -> Outcomes:
        from pilot.quantum.aer import run_circuit

        try:
            return run_circuit(circuit, shots, seed, self.simulator(circuit, shots))
        except DescriptionError as error:
            raise QPUError(f"{self.name}: {error}", qpu=self.name) from error
        except PilotError:
            raise
        except Exception as error:  # AerError, a memory error, a circuit that its compiler cannot take
            raise QPUError(f"{self.name}: circuit {circuit.name!r}: {error}", qpu=self.name) from error

    def simulator(self, circuit: QuantumCircuit, shots: int | None) -> Simulator:
        """What the circuit is simulated on.

        Raises:
            QPUError: no method has room for it.
        """
        from pilot.quantum.aer_simulators import Simulator
        from pilot.quantum.costs import choose, estimate, facts, machine_memory

        method, device = self.method or "automatic", self.device
        if not self.method and circuit.num_qubits > _SMALL:
            memory, gpus = machine_memory(), int(self.device == "GPU")
            estimates = estimate(facts(circuit, bonds=False), shots, cores=self.threads, gpus=gpus)
            best = choose(estimates, memory)
            if best is None or best.seconds > _QUICK:  # then it pays to look closer
                estimates = estimate(facts(circuit), shots, cores=self.threads, gpus=gpus)
                best = choose(estimates, memory)
            if best is None:
                takes = ", ".join(f"{one.method} {one.bytes / 2**30:.3g} GiB, {one.seconds:.3g} s" for one in estimates)
                raise QPUError(
                    f"{self.name}: circuit {circuit.name!r} fits by no method ({memory / 2**30:.3g} GiB here): {takes}",
                    qpu=self.name,
                )
            method, device = best.method, best.device
        return Simulator(method, device, self.threads, self.precision)
