"""Does cutting pay: predicted times of the whole circuit and of its cuts, from a short calibration of the pilots.

    predictor = Predictor().calibrate(manager)                  # some seconds
    planned = predictor.choose(circuit, ["ZZZZ"], [12, 16])     # or not cut: whichever is done first
    print(planned.reason, planned.prediction)

The model and its constants are in `costs`; this measures them, on each pilot for itself.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError
from pilot.quantum import costs as simulation
from pilot.quantum.aer import exact_value, run_circuits, warm_up
from pilot.quantum.cutting import costs
from pilot.quantum.cutting.costs import Costs, Workers, by_method
from pilot.quantum.cutting.cut_plan import CutPlan
from pilot.quantum.cutting.decomposition import Decomposition
from pilot.quantum.cutting.planning import plan
from pilot.quantum.cutting.reconstruction import reconstruct
from pilot.quantum.cutting.results import Prediction
from pilot.quantum.packing import pack
from pilot.quantum.runner import Runner, gather
from pilot.states import is_final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: Small circuits for each slot, whose time is mostly that of their way there and back; their qubits and layers; shots.
_SMALL_CIRCUITS = 40
_SMALL = (4, 3)
_SMALL_SHOTS = 128
#: Qubits and layers of the state vector whose time is measured: 30 to 100 ms.
_VECTOR = (18, 3)
#: Qubits and layers of the matrix product state whose time is measured: bonds of dimension 32.
_PRODUCT_STATE = (24, 5)
#: Terms and values of the reconstruction whose time is measured.
_TERMS, _VALUES = 2048, 64
#: How many sizes are tried when none are given, besides the whole circuit.
_SIZES = 4
#: Narrower pieces than this are not looked for: their simulation costs no more than their way.
_NARROWEST = 4


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one slot measured: see `Costs`."""

    vector_slowness: float
    product_slowness: float
    #: Bytes of the node's main memory.
    memory: int


class Predictor:
    """Predicts what plans take on pilots, and chooses between cutting and not cutting.

    Args:
        workers: pilots as they were measured before; `calibrate` measures them.
    """

    def __init__(self, workers: Iterable[Workers] = ()) -> None:
        self.workers = tuple(workers)

    def calibrate(self, manager: Runner) -> Predictor:
        """Measure every pilot of the manager; blocks until they are active, and then for some seconds.

        Raises:
            DescriptionError: the manager has no pilot.
            Exception: a measurement failed.
        """
        pilots = [pilot for pilot in manager.pilots if not is_final(pilot.state)]
        if not pilots:
            raise DescriptionError("manager: it has no pilot to calibrate; call `submit_pilot` first")
        per_product = _seconds_per_product()
        self.workers = tuple(_measure(manager, pilot, per_product) for pilot in pilots)
        return self

    def predict(self, plan: CutPlan, pilots: Iterable[str] | None = None) -> Prediction:
        """What `plan` takes on the pilots of these names together; on all without names.

        Raises:
            DescriptionError: nothing has been measured yet, or no pilot of that name.
        """
        return costs.predict(plan, self._chosen(pilots))

    def choose(
        self,
        circuit: QuantumCircuit,
        observables: Any = None,
        sizes: Sequence[int] | None = None,
        *,
        pilots: Iterable[str] | None = None,
        **options: Any,
    ) -> CutPlan:
        """The plan that is predicted to be done first: the circuit whole, or cut to one of the sizes.

        `CutPlan.reason` says which and why, `CutPlan.candidates` has the numbers of all.

        Args:
            circuit, observables: as for `plan`.
            sizes: of pieces; running the whole circuit is looked at in any case. Default: four between a
                quarter of the circuit and all but one qubit of it, as far as they fit into memory.
            pilots: names of pilots; all without.
            options: further arguments of `plan`, such as `max_overhead` or `distribution`.

        Raises:
            DescriptionError: as from `plan` and `predict`; or nothing would fit into memory.
        """
        workers = self._chosen(pilots)
        width = circuit.num_qubits
        pieces = _sizes(width, max(each.memory for each in workers)) if sizes is None else list(sizes)
        return plan(
            circuit,
            observables,
            [*pieces, width],
            predict=partial(costs.predict, workers=workers),
            **options,
        )

    def _chosen(self, pilots: Iterable[str] | None) -> tuple[Workers, ...]:
        if not self.workers:
            raise DescriptionError("nothing has been measured yet: call `calibrate(manager)` first")
        if pilots is None:
            return self.workers
        known = {each.name: each for each in self.workers}
        names = list(pilots)
        if missing := [name for name in names if name not in known]:
            raise DescriptionError(f"pilots: {missing} given, {sorted(known)} measured", field="pilots", given=names)
        return tuple(known[name] for name in names)


def probe() -> Probe:
    """Measure this slot; what `calibrate` runs on all slots of a pilot at the same time, as plans do."""
    return Probe(
        vector_slowness=_vector_slowness(),
        product_slowness=_product_slowness(),
        memory=simulation.machine_memory(),
    )


def brickwork(num_qubits: int, layers: int, seed: int = 0) -> QuantumCircuit:
    """Random rotations and controlled NOTs between neighbours: each layer crosses every second bond."""
    rng = np.random.default_rng(seed)
    circuit = QuantumCircuit(num_qubits)
    for layer in range(2 * layers):
        for qubit in range(num_qubits):
            circuit.u(*rng.uniform(0, np.pi, 3), qubit)
        for qubit in range(layer % 2, num_qubits - 1, 2):
            circuit.cx(qubit, qubit + 1)
    return circuit


def _measure(manager: Runner, pilot: Any, per_product: float) -> Workers:
    """One pilot: warm, and then its slots all at work."""
    described = pilot.description
    slots = described.cores * described.number_of_nodes

    def together(work: Any, args: tuple[Any, ...], number: int) -> list[Any]:
        return gather(
            manager.submit_tasks(
                TaskDescription(function=work, args=args, pilot=pilot.name, name="calibration") for _ in range(number)
            )
        )

    together(warm_up, (), slots)
    probes = together(probe, (), slots)
    slowness = statistics.median(each.vector_slowness for each in probes)
    small = brickwork(*_SMALL).measure_all(inplace=False)
    payload = pack(small)
    seconds = []
    for _ in range(2):  # the first round warms up
        began = perf_counter()
        together(run_circuits, (payload, _SMALL_SHOTS, (1,)), _SMALL_CIRCUITS * slots)
        seconds.append((perf_counter() - began) / _SMALL_CIRCUITS)
    start, found = by_method(simulation.facts(small), _SMALL_SHOTS)
    simulated = start + slowness * (found["statevector"].seconds - start)
    return Workers(
        name=pilot.name,
        slots=described.cores,
        nodes=described.number_of_nodes,
        memory=float(described.memory or min(each.memory for each in probes)),
        costs=Costs(
            per_circuit=max(0.0, min(seconds) - simulated),
            vector_slowness=slowness,
            product_slowness=statistics.median(each.product_slowness for each in probes),
            per_product=per_product,
        ),
    )


def _vector_slowness() -> float:
    circuit = brickwork(*_VECTOR).measure_all(inplace=False)
    payload = pack(circuit)
    return _slowness(circuit, 2, "statevector", _least_seconds(lambda: run_circuits(payload, 2, (0,))))


def _product_slowness() -> float:
    circuit = brickwork(*_PRODUCT_STATE)
    observable = "Z" + "I" * (circuit.num_qubits - 1)
    return _slowness(circuit, None, "matrix_product_state", _least_seconds(lambda: exact_value(circuit, observable)))


def _slowness(circuit: QuantumCircuit, shots: int | None, method: str, seconds: float) -> float:
    """How many times longer than on the reference machine `seconds` are, beyond the start."""
    start, found = by_method(simulation.facts(circuit), shots)
    return max(0.0, seconds - start) / (found[method].seconds - start)


def _seconds_per_product() -> float:
    """Of the reconstruction, which happens here."""
    rng = np.random.default_rng(0)
    choices = tuple(rng.integers(0, 25, _TERMS) for _ in range(2))
    decomposition = Decomposition(
        coefficients=rng.normal(size=_TERMS), draws=np.zeros(_TERMS, dtype=np.int64), choices=choices
    )
    means = [rng.uniform(-1, 1, (25, _VALUES)) for _ in choices]
    variances = [0 * mean for mean in means]
    seconds = _least_seconds(lambda: reconstruct(decomposition, means, variances))
    return seconds / (_TERMS * _VALUES * len(choices) ** 2)


def _least_seconds(work: Callable[[], object]) -> float:
    """Of three calls; the first one makes what is made once, and others on the machine only add to it."""
    seconds = []
    for _ in range(3):
        began = perf_counter()
        work()
        seconds.append(perf_counter() - began)
    return min(seconds)


def _sizes(width: int, memory: float) -> list[int]:
    """Sizes of pieces worth a look: between a quarter of the circuit and what fits into memory."""
    fitting = width - 1 if math.isinf(memory) else min(width - 1, int(math.log2(memory / 16)))
    narrowest = max(_NARROWEST, width // 4)
    if fitting < narrowest:
        return []
    return sorted({round(size) for size in np.linspace(narrowest, fitting, _SIZES)})
