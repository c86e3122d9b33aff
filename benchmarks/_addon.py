"""Circuit cutting as the documentation of qiskit-addon-cutting has it, and the standard error of what that gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.primitives import PrimitiveResult
from qiskit.quantum_info import PauliList
from qiskit_addon_cutting import (
    find_cuts,
    generate_cutting_experiments,
    partition_problem,
    reconstruct_expectation_values,
)
from qiskit_addon_cutting.automated_cut_finding import DeviceConstraints, OptimizationParameters
from qiskit_addon_cutting.qpd import WeightType
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2

#: Aer's options for circuits with measurements in the middle, as its documentation has them; the fastest is taken.
OPTIONS: dict[str, dict[str, Any]] = {
    "shot branching": {"shot_branching_enable": True},
    "shot branching and sampling": {"shot_branching_enable": True, "shot_branching_sampling_enable": True},
    "shot branching, one thread": {"shot_branching_enable": True, "max_parallel_threads": 1},
    "shot branching, two circuits at once": {"shot_branching_enable": True, "max_parallel_experiments": 2},
    "both, two circuits at once": {
        "shot_branching_enable": True,
        "shot_branching_sampling_enable": True,
        "max_parallel_experiments": 2,
    },
}
#: Circuits that the sampler is given at once: more take gigabytes.
AT_ONCE = 64
#: Of our search, too: without a limit the search at 12 qubits takes minutes.
BACKJUMPS = 100


@dataclass(frozen=True)
class Estimate:
    """A value, its standard errors by shots and by drawing terms, and what it took from circuit to value."""

    value: float
    shot_error: float
    sampling_error: float
    seconds: float
    #: Processor time of all processes.
    cpu: float

    @property
    def error(self) -> float:
        """One standard deviation of the value."""
        return math.hypot(self.shot_error, self.sampling_error)


@dataclass
class Addon:
    """The recipe with one simulator, whose pass manager is kept."""

    options: dict[str, Any]
    shots: int
    num_samples: int

    def __post_init__(self) -> None:
        self._simulator = AerSimulator(**self.options)
        self._compiler = generate_preset_pass_manager(optimization_level=1, backend=self._simulator)

    def experiments(self, circuit: QuantumCircuit, observable: str, size: int, seed: int) -> Any:
        """The add-on's subexperiments by piece, coefficients and observables of the pieces."""
        search = OptimizationParameters(seed=seed, wire_lo=False, max_backjumps=BACKJUMPS)
        marked, _ = find_cuts(circuit, search, DeviceConstraints(size))
        problem = partition_problem(marked, observables=PauliList([observable]))
        np.random.seed(seed)  # the add-on draws terms from NumPy's global generator
        made, coefficients = generate_cutting_experiments(problem.subcircuits, problem.subobservables, self.num_samples)
        return made, coefficients, problem.subobservables

    def run(self, experiments: dict[Any, list[QuantumCircuit]], seed: int) -> dict[Any, Any]:
        """Results by piece."""
        sampler = SamplerV2.from_backend(self._simulator, seed=seed)
        compiled = {label: self._compiler.run(its) for label, its in experiments.items()}
        return {label: self._sampled(sampler, its) for label, its in compiled.items()}

    def _sampled(self, sampler: SamplerV2, circuits: list[QuantumCircuit]) -> PrimitiveResult:
        """Some circuits at a time: Aer's sampler holds a text for each shot of all that it is given."""
        found: list[Any] = []
        for start in range(0, len(circuits), AT_ONCE):
            found.extend(sampler.run(circuits[start : start + AT_ONCE], shots=self.shots).result())
        return PrimitiveResult(found)

    def value(self, circuit: QuantumCircuit, observable: str, size: int, seed: int) -> Estimate:
        """The value, and what it takes from circuit to value, without its errors."""
        began, spent = perf_counter(), process_time()
        made, coefficients, observables = self.experiments(circuit, observable, size, seed)
        results = self.run(made, seed)
        (value,) = reconstruct_expectation_values(results, coefficients, observables)
        seconds, cpu = perf_counter() - began, process_time() - spent
        return Estimate(float(value), *errors_of(results, coefficients, observables), seconds, cpu)


def fastest(circuit: QuantumCircuit, observable: str, size: int, shots: int, num_samples: int, some: int) -> str:
    """The name of the options with which the add-on's subexperiments take least, by `some` of each piece."""
    seconds = {}
    for name, options in OPTIONS.items():
        addon = Addon(options, shots, num_samples)
        made, _, _ = addon.experiments(circuit, observable, size, 111)
        part = {label: its[:: max(1, len(its) // some)] for label, its in made.items()}
        began = perf_counter()
        addon.run(part, 1)
        seconds[name] = perf_counter() - began
    return min(seconds, key=lambda name: seconds[name])


def errors_of(results: dict[Any, Any], coefficients: Any, observables: dict[Any, PauliList]) -> tuple[float, float]:
    """Standard errors of a value `Σ_t c_t Π_f m_tf`, where each mean is from shots of its own, and terms were drawn.

    Returns:
        By shots: the root of `Σ_t c_t² (Π (m² + v) - Π m²)` with `v` the variance of a mean. By drawing: that of the
        variance of the mean of the draws, each `W s_t Π m`, with `W` the weight that they share.
    """
    means, variances = zip(*(_signed(results[label], observables[label]) for label in results), strict=True)
    m, v = np.array(means), np.array(variances)  # (n_pieces, n_terms)
    weights = np.array([weight for weight, _ in coefficients])
    drawn = np.array([kind == WeightType.SAMPLED for _, kind in coefficients])
    by_shots = float(np.sum(weights**2 * (np.prod(m**2 + v, axis=0) - np.prod(m**2, axis=0))))
    by_drawing = 0.0
    if drawn.any():
        shares = np.abs(weights[drawn])
        whole = shares.sum()
        draws = round(whole / shares.min())
        products = np.sign(weights[drawn]) * np.prod(m[:, drawn], axis=0)
        squares = np.prod(m[:, drawn] ** 2 - v[:, drawn], axis=0)
        spread = shares @ squares / whole - (shares @ products / whole) ** 2
        by_drawing = float(whole**2 * max(0.0, spread) / (draws - 1))
    return math.sqrt(by_shots), math.sqrt(by_drawing)


def _signed(results: Any, observable: PauliList) -> tuple[Any, Any]:
    """The mean of each result's signs, and its variance."""
    counted = (observable.x | observable.z).any()  # a piece without the observable measures a qubit all the same
    means = []
    for one in results:
        parity = one.data.qpd_measurements.bitcount().astype(int)
        if counted:
            parity = parity + one.data.observable_measurements.bitcount()
        means.append(float(np.mean(1 - 2 * (parity % 2))))
    shots = results[0].data.qpd_measurements.num_shots
    found = np.array(means)
    return found, (1 - found**2) / (shots - 1)
