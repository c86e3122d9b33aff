"""The mini-app: the same circuits with each method on each QPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec

from pilot import DescriptionError, PilotDescription, Task, TaskDescription
from pilot_miniapps.error_mitigation.comparison import SIGNIFICANT, Value, gain, mean_deviation, row
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run
from pilot_miniapps.frame.qpus import Needed, check_room, check_there

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: The method without any stage.
NONE = "none"
#: What docs/quantum.md recommends for expectation values: folding does not see errors of the readout.
RECOMMENDED = "readout+zne"
_STAGES = ("readout", "twirling", "dd", "zne")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    qpus: Annotated[
        tuple[str, ...], msgspec.Meta(min_length=1, description="QPUs of the pilots, such as fake:kolkata")
    ] = ("fake:manila", "fake:guadalupe", "fake:kolkata")
    methods: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            min_length=1,
            description=f"stages joined by + in the order {', '.join(_STAGES)}; none and {RECOMMENDED} always run",
        ),
    ] = (
        "none",
        "readout",
        "twirling",
        "dd",
        "zne",
        "readout+dd",
        "readout+twirling",
        "readout+zne",
        "readout+twirling+dd+zne",
    )
    circuits: Annotated[int, msgspec.Meta(ge=2, le=10_000, description="circuits; means are over them")] = 8
    qubits: Annotated[int, msgspec.Meta(ge=2, le=12, description="of each circuit, a chain of spins")] = 4
    steps: Annotated[int, msgspec.Meta(ge=1, le=100, description="Trotter steps of each circuit")] = 3
    shots: Annotated[int, msgspec.Meta(ge=100, le=1_000_000, description="of each circuit that a method runs")] = 4000
    copies: Annotated[int, msgspec.Meta(ge=1, le=1000, description="random copies of a circuit in twirling")] = 8
    extrapolation: Annotated[
        Literal["linear", "exponential", "richardson"], msgspec.Meta(description="to no noise, in zne")
    ] = "linear"
    seed: Annotated[int, msgspec.Meta(ge=0, description="of circuits and shots")] = 1

    def __post_init__(self) -> None:
        for method in self.methods:
            stages = [] if method == NONE else method.split("+")
            if [stage for stage in _STAGES if stage in stages] != stages:
                raise ValueError(
                    f"methods: {method!r} is not valid; expected none, or stages joined by + in the order "
                    f"{', '.join(_STAGES)}, each once"
                )
        for name in ("methods", "qpus"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {list(getattr(self, name))} is not valid: a value comes twice")

    def all_methods(self) -> list[str]:
        """Those that run, the one without stages first."""
        return list(dict.fromkeys([NONE, *self.methods, RECOMMENDED]))


class ErrorMitigation(MiniApp):
    """Compare methods against errors (readout, twirling, DD, ZNE) over several QPUs with the exact values.

    Circuits are the dynamics of short chains of spins with random couplings. Each method's deviation from the value
    without noise is averaged over the circuits; the gain is that against no method, circuit by circuit. The run passes
    when readout correction with zero-noise extrapolation gains more than twice its standard error.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "small": {
            "circuits": 4,
            "qpus": ("fake:manila",),
            "methods": ("none", "readout+zne"),
            "shots": 2000,
        },
        "paper": {"circuits": 64, "qubits": 5, "shots": 8192, "copies": 32},
    }
    packages: ClassVar[Sequence[str]] = ("qiskit", "qiskit_ibm_runtime")

    settings: Settings

    def pilots(self) -> Sequence[str | PilotDescription]:
        """One pilot that has all QPUs; each has a worker of its own."""
        return [PilotDescription(engine="ray", cores_per_node=2, qpus=self.settings.qpus, name="qpus")]

    def qpus(self) -> Sequence[str]:
        return tuple(self.settings.qpus)

    def plan(self) -> Mapping[str, Any]:
        """Tasks, and circuits on each QPU but those that calibrate the readout."""
        settings = self.settings
        methods = settings.all_methods()
        circuits = settings.circuits * sum(self._circuits(method) for method in methods)
        return {
            "tasks": len(methods) * settings.circuits * len(settings.qpus),
            "methods": methods,
            "circuits_on_each_qpu": circuits,
        }

    def scaled(self, times: int) -> Settings:
        """`times` as many circuits."""
        return msgspec.structs.replace(self.settings, circuits=self.settings.circuits * times)

    def work(self, run: Run) -> Outcome:
        """All methods on all QPUs at once, then what they gain."""
        from pilot_miniapps.error_mitigation.chains import chain, exact_value

        settings, methods = self.settings, self.settings.all_methods()
        self._check_pilots(run)
        cases = [chain(settings.qubits, settings.steps, settings.seed, number) for number in range(settings.circuits)]
        with run.part("exact values"):
            exact = [exact_value(*case) for case in cases]
        with run.part("QPUs"):
            tasks = {
                (qpu, method): [self._submit(run, qpu, method, number, *case) for number, case in enumerate(cases)]
                for method in methods
                for qpu in settings.qpus
            }
            with run.progress([task for its in tasks.values() for task in its], "values"):
                values = {place: _values(its, exact) for place, its in tasks.items()}
        rows = [
            {**row(qpu, method, values[qpu, method], values[qpu, NONE]), "runs": self._circuits(method)}
            for qpu in settings.qpus
            for method in methods
        ]
        every = {method: [one for qpu in settings.qpus for one in values[qpu, method]] for method in methods}
        for method in methods:
            mean, error = mean_deviation(every[method])
            key = f"deviation_{method.replace('+', '_')}"
            run.figure(
                key, mean, "", spread=(mean - SIGNIFICANT * error, mean + SIGNIFICANT * error), n=len(every[method])
            )
        details = {
            "recommended": RECOMMENDED,
            "overall": [row("all", method, every[method], every[NONE]) for method in methods],
            "values": [{"qpu": qpu, "method": method, "values": its} for (qpu, method), its in values.items()],
        }
        return Outcome(oracle=_verdict(every), rows=rows, details=details)

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """The pilots have the QPUs, and snapshots have room for the circuits."""
        settings = self.settings
        check_there("qpus", settings.qpus, pilots)
        check_room(Needed("qpus", qpu, settings.qubits, "this run", "make qubits smaller") for qpu in settings.qpus)

    def _check_pilots(self, run: Run) -> None:
        for pilot in run.pilots:
            pilot.wait()
        for qpu in self.settings.qpus:
            info = run.manager.qpus.get(qpu)
            if info is not None and info.problem:
                reason = info.problem
            elif info is not None and info.qubits < self.settings.qubits:
                reason = f"it has {info.qubits} qubits, fewer than the circuits' {self.settings.qubits}: lower qubits"
            else:
                continue
            raise DescriptionError(f"qpus: {qpu}: {reason}", field="qpus", given=qpu)

    def _submit(self, run: Run, qpu: str, method: str, number: int, circuit: Any, observable: Any) -> Task:
        """The task of one value.

        Circuits with different numbers of shots never share a job: each has random copies and a calibration of its own
        then, which depend on its seed alone, and the errors of the circuits are independent.
        """
        wanted = TaskDescription(
            circuit=circuit,
            observables=[observable],
            qpu=qpu,
            shots=self.settings.shots + number,
            mitigation=self._stages(method),
            seed=self.settings.seed + number,
            name=f"{qpu}/{method}/{number}",
        )
        return run.submit_task(f"{qpu}/{method}/{number}", wanted)

    def _stages(self, method: str) -> list[Any]:
        """What ``TaskDescription.mitigation`` takes."""
        from pilot.quantum.mitigation import Readout, Twirling, ZeroNoise

        settings = self.settings
        made = {
            "readout": Readout(),
            "twirling": Twirling(num=settings.copies),
            "dd": "dd",
            "zne": ZeroNoise(extrapolation=settings.extrapolation),
        }
        return [] if method == NONE else [made[stage] for stage in method.split("+")]

    def _circuits(self, method: str) -> int:
        """How many circuits run for one value, the calibration of the readout left out."""
        stages = method.split("+")
        return (self.settings.copies if "twirling" in stages else 1) * (3 if "zne" in stages else 1)

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """The mean deviation by method and QPU."""
        from pilot_miniapps.error_mitigation.plots import bars

        return {"error-mitigation": bars(report)}


def _values(tasks: Sequence[Task], exact: Sequence[float]) -> list[Value]:
    found = []
    for task, expected in zip(tasks, exact, strict=True):
        result = task.result()
        found.append(Value(float(result.values[0]), float(result.standard_errors[0]), expected))
    return found


def _verdict(every: Mapping[str, Sequence[Value]]) -> Oracle:
    """The recommended method against none, over all QPUs and circuits."""
    its = gain(every[NONE], every[RECOMMENDED])
    before, after = mean_deviation(every[NONE])[0], mean_deviation(every[RECOMMENDED])[0]
    return Oracle(
        passed=its.mean > SIGNIFICANT * its.standard_error,
        deviation=after,
        unit="",
        text=f"mean deviation from Qiskit's Statevector over {len(every[NONE])} values: {before:.4f} without a method, "
        f"{after:.4f} with {RECOMMENDED}; the gain is {its.mean:.4f} ± {its.standard_error:.4f}, and must be more than "
        f"{SIGNIFICANT:g} standard errors",
    )
