"""Qiskit's backend over a manager."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ForLoopOp, IfElseOp, SwitchCaseOp, WhileLoopOp
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.providers import BackendV2, Options
from qiskit.result import Result
from qiskit.result.models import ExperimentResult, ExperimentResultData
from qiskit.transpiler import CouplingMap, Target

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, QPUUnavailable
from pilot.interfaces import QPUInfo
from pilot.quantum.primitives.jobs import PilotJob
from pilot.quantum.primitives.submission import Manager, check_gives_shots, measures, shot_order, task_fields
from pilot.quantum.seeds import draw_seeds

if TYPE_CHECKING:
    from pilot.quantum.outcomes import Outcomes

#: What every target has, whether it is told or not.
_ALWAYS = ("measure", "reset", "delay")
_CONTROL_FLOW = {"if_else": IfElseOp, "for_loop": ForLoopOp, "while_loop": WhileLoopOp, "switch_case": SwitchCaseOp}


class PilotBackend(BackendV2):  # type: ignore[misc]
    """A manager's pilots as one Qiskit backend: circuits written for its target run as they are.

    Its target is that of a QPU (gates and coupling, without calibration), or all gates between all qubits where
    simulators run the circuits.
    """

    def __init__(
        self, manager: Manager, qpu: str | None = None, *, shots: int = 1024, name: str | None = None, **options: Any
    ) -> None:
        """Make it; the QPU is looked up when its target is first asked for.

        Args:
            manager: who submits the tasks.
            qpu: as in ``TaskDescription.qpu``: "aer", "fake:kolkata". Default: simulators.
            shots: of runs that do not say.
            name: what the backend is called. Default: the QPU's name, or "pilot".
            **options: more fields of each `TaskDescription`, as for `PilotSampler`. ``optimization_level`` is 0 unless
                given: circuits stay on the qubits that they were written for.

        Raises:
            DescriptionError: an option is unknown, or its value is not allowed.
        """
        super().__init__(name=name or qpu or "pilot", description=f"circuits on {qpu or 'simulators'} through pilots")
        self._manager = manager
        self._qpu = qpu or "aer"
        self._fields = task_fields(type(self).__name__, self._qpu, {"optimization_level": 0, **options})
        check_gives_shots(type(self).__name__, self._fields)
        self._target: Target | None = None
        self.set_options(shots=shots)

    @classmethod
    def _default_options(cls) -> Options:
        return Options(shots=1024, memory=False, seed_simulator=None)

    @property
    def target(self) -> Target:
        """What circuits are written for. Does not block.

        Raises:
            QPUUnavailable: the QPU has not told yet; a pilot that has it must be active (``pilot.wait()``).
        """
        if self._target is None:
            self._target = _target_of(self._info())
        return self._target

    @property
    def max_circuits(self) -> None:
        """None: as many as wanted; tasks are split where a QPU has a limit."""
        return

    def run(self, run_input: QuantumCircuit | Sequence[QuantumCircuit], **options: Any) -> PilotJob:
        """Submit circuits; does not block.

        Args:
            run_input: one circuit or many, written for `target`, their parameters bound.
            **options: ``shots``, ``memory`` (the outcome of each shot, in random order) and ``seed_simulator``. Others
                are warned of and not used.

        Raises:
            DescriptionError: something that is no circuit, or a circuit with free parameters.
        """
        circuits = [run_input] if isinstance(run_input, QuantumCircuit) else list(run_input)
        settings = {**dict(self.options), **{key: value for key, value in options.items() if value is not None}}
        for key in set(settings) - {"shots", "memory", "seed_simulator"}:
            warnings.warn(f"Option {key} is not used by this backend", UserWarning, stacklevel=2)
        shots, seed = settings["shots"], settings["seed_simulator"]
        drawn = draw_seeds(seed, len(circuits))
        descriptions = [
            TaskDescription(circuit=circuit, shots=shots, seed=one, **self._fields)
            for circuit, one in zip(circuits, drawn, strict=True)
            if _checked(circuit)
        ]
        tasks = self._manager.submit_tasks(descriptions)
        finish = functools.partial(_result, self.name, circuits, shots, drawn, settings["memory"])
        return PilotJob(self, tasks, finish)

    def _info(self) -> QPUInfo:
        if self._qpu == "aer":
            return QPUInfo(name="aer", qubits=0, simulator=True)
        known: Mapping[str, QPUInfo] = getattr(self._manager, "qpus", {})
        if self._qpu not in known:
            raise QPUUnavailable(
                f"nothing is known of {self._qpu} yet: the manager's pilots have {', '.join(known) or 'no QPU'}; "
                "submit a pilot with it among its qpus, and wait until that is active: pilot.wait()",
                qpu=self._qpu,
            )
        return known[self._qpu]


def _checked(circuit: Any) -> bool:
    """Whether there is something to run.

    Raises:
        DescriptionError: it is no circuit, or has free parameters.
    """
    if not isinstance(circuit, QuantumCircuit):
        raise DescriptionError(f"PilotBackend.run takes circuits; {type(circuit).__name__} was given", given=circuit)
    if circuit.parameters:
        names = ", ".join(parameter.name for parameter in circuit.parameters)
        raise DescriptionError(
            f"circuit {circuit.name!r} has free parameters ({names}): bind them, circuit.assign_parameters(…), "
            "or use PilotSampler, which takes arrays of values",
            given=circuit,
        )
    return measures(circuit)


def _target_of(info: QPUInfo) -> Target:
    """Gates that Qiskit knows by name, on the QPU's qubits; on any number of qubits where it has none of its own."""
    known = {**get_standard_gate_name_mapping(), **_CONTROL_FLOW}
    wanted = [*_ALWAYS, *(info.gates or known)]
    gates = [name for name in dict.fromkeys(wanted) if name in known]
    if info.coupling is None:
        return Target.from_configuration(gates, info.qubits or None, custom_name_mapping=_CONTROL_FLOW)
    gates = [name for name in gates if name in _CONTROL_FLOW or known[name].num_qubits <= 2]
    coupling = CouplingMap(info.coupling)
    return Target.from_configuration(gates, info.qubits, coupling, custom_name_mapping=_CONTROL_FLOW)


def _result(
    name: str,
    circuits: Sequence[QuantumCircuit],
    shots: int,
    drawn: Sequence[int],
    memory: bool,
    job: str,
    results: list[Outcomes],
) -> Result:
    left = iter(results)
    parts = []
    for circuit, seed in zip(circuits, drawn, strict=True):
        data = _data(next(left), seed if memory else None) if measures(circuit) else ExperimentResultData()
        header = {
            "name": circuit.name,
            "creg_sizes": [[register.name, register.size] for register in circuit.cregs],
            "qreg_sizes": [[register.name, register.size] for register in circuit.qregs],
            "memory_slots": circuit.num_clbits,
            "n_qubits": circuit.num_qubits,
            "global_phase": float(circuit.global_phase),
            "metadata": circuit.metadata,
        }
        parts.append(
            ExperimentResult(shots=shots, success=True, data=data, header=header, status="DONE", seed_simulator=seed)
        )
    return Result(backend_name=name, backend_version="2", job_id=job, success=True, status="COMPLETED", results=parts)


def _data(outcomes: Outcomes, seed: int | None) -> ExperimentResultData:
    """Counts by hexadecimal number, classical bit 0 lowest; with a seed also the outcome of each shot, shuffled."""
    words = [hex(int.from_bytes(row.tobytes(), "little")) for row in outcomes.packed]
    counts = dict(zip(words, outcomes.weights.tolist(), strict=True))
    if seed is None:
        return ExperimentResultData(counts=counts)
    order = shot_order(outcomes, np.random.default_rng(seed))
    return ExperimentResultData(counts=counts, memory=[words[index] for index in order])
