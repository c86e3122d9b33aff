"""The mini-app: loops on a simulator, whose values are exact, and many loops that share one QPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec

from pilot import PilotDescription
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run
from pilot_miniapps.frame.qpus import Needed, check_room, check_there

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Drawing

    from pilot_miniapps.variational.coordinates import State
    from pilot_miniapps.variational.loops import Loop
    from pilot_miniapps.variational.problems import Problem

#: Hartree: what chemists ask of an energy, 1 kcal/mol.
CHEMICAL_ACCURACY = 1.6e-3
#: So many loops and more are expected to keep a QPU busy.
BUSY_LOOPS = 8
#: Å: the bond of H2 in equilibrium (in STO-3G), and of LiH.
H2_LENGTH, LIH_LENGTH = 0.735, 1.595
#: Qubits of the circuits on the QPU.
H2_QUBITS = 2

Length = Annotated[float, msgspec.Meta(ge=0.3, le=4.0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    qpu: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            description="the QPU that the loops share, one of the pilots'; of a snapshot each shot takes shot_time "
            "seconds",
        ),
    ] = "fake:manila?shot_time=2e-5"
    lengths: Annotated[
        tuple[Length, ...],
        msgspec.Meta(
            min_length=1, max_length=64, description="of the bond of H2 in Å: a loop on the QPU for each; 0.735 first"
        ),
    ] = (0.735, 0.5, 0.6, 0.9, 1.1, 1.4, 1.8, 2.3)
    shots: Annotated[int, msgspec.Meta(ge=16, le=1_000_000, description="of each circuit on the QPU")] = 1000
    mitigation: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="stages against the QPU's errors, such as readout; with stages the seeds of circuits depend on "
            "which share a job, so two runs differ within the errors"
        ),
    ] = ()
    qpu_steps: Annotated[int, msgspec.Meta(ge=1, le=1000, description="steps of each loop on the QPU")] = 8
    h2_steps: Annotated[int, msgspec.Meta(ge=1, le=1000, description="steps of the exact loop for H2")] = 2
    lih_steps: Annotated[int, msgspec.Meta(ge=1, le=1000, description="steps of the exact loop for LiH")] = 16
    maxcut_steps: Annotated[int, msgspec.Meta(ge=1, le=1000, description="steps of the exact loop for max-cut")] = 12
    nodes: Annotated[
        int, msgspec.Meta(ge=4, le=16, multiple_of=2, description="of the graph whose greatest cut is wanted")
    ] = 8
    layers: Annotated[int, msgspec.Meta(ge=1, le=10, description="of QAOA")] = 2
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the graph and the shots")] = 1

    def __post_init__(self) -> None:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"lengths: {list(self.lengths)} is not valid: a value comes twice")


class Variational(MiniApp):
    """Find ground states of H2 and LiH (VQE) and a graph's greatest cut (QAOA), many loops on one QPU.

    Hamiltonians are computed by PennyLane, circuits run through PilotEstimator, and each step of the optimiser is a
    task whose value is its new state. Three loops use exact values: their energies must be those of the Hamiltonian's
    least eigenvalue. Then loops for H2 at several lengths share a QPU, first one alone, then all; the QPU's noise is in
    what they measure, and the states that they find are judged without it.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "small": {
            "lengths": (H2_LENGTH, 1.4),
            "qpu_steps": 2,
            "h2_steps": 1,
            "lih_steps": 5,
            "maxcut_steps": 4,
            "nodes": 6,
            "layers": 1,
        },
        "paper": {"shots": 4096, "lih_steps": 32, "maxcut_steps": 32, "nodes": 12, "layers": 3},
    }
    packages: ClassVar[Sequence[str]] = ("qiskit", "pennylane", "networkx", "qiskit_ibm_runtime")

    settings: Settings

    def pilots(self) -> Sequence[str | PilotDescription]:
        """One pilot of two cores that has the QPU."""
        return [PilotDescription(engine="ray", cores_per_node=2, qpus=[self.settings.qpu], name="loops")]

    def qpus(self) -> Sequence[str]:
        return (self.settings.qpu,)

    def plan(self) -> Mapping[str, Any]:
        """Loops, steps and circuits on the QPU; a step there measures two groups of terms at five points."""
        settings = self.settings
        steps = (len(settings.lengths) + 1) * settings.qpu_steps
        return {
            "loops": 4 + len(settings.lengths),
            "steps": settings.h2_steps + settings.lih_steps + settings.maxcut_steps + steps,
            "circuits_on_the_qpu": 10 * steps,
            "shots_on_the_qpu": 10 * steps * settings.shots,
        }

    def warm_up(self) -> Callable[[], object]:
        """Workers import Qiskit and Aer."""
        from pilot.quantum.aer import warm_up

        return warm_up

    def scaled(self, times: int) -> Settings:
        """`times` as many steps."""
        settings = self.settings
        names = ("qpu_steps", "h2_steps", "lih_steps", "maxcut_steps")
        return msgspec.structs.replace(settings, **{name: getattr(settings, name) * times for name in names})

    def work(self, run: Run) -> Outcome:
        """Hamiltonians, the exact loops side by side, one loop on the QPU, then all of them."""
        from pilot_miniapps.variational.loops import run_all

        with run.part("Hamiltonians"):
            exact, noisy = self._loops(run)
        with run.part("exact loops"):
            exact_states = run_all(run, exact)
        with run.part("one loop on the QPU"):
            alone = msgspec.structs.replace(noisy[0], key="alone", seed=noisy[0].seed + 10**6)
            run_all(run, [alone])
        with run.part("all loops on the QPU"):
            noisy_states = run_all(run, noisy)
        with run.part("last measurements"):
            rows = [
                _row(loop, states, run) for loop, states in zip(exact + noisy, exact_states + noisy_states, strict=True)
            ]
        timeline = self._occupation(run, noisy)
        self._report(run, rows)
        details = {
            "energies": {
                loop.key: [loop.problem.energy(loop.problem.start), *(one.energy for one in states[1:])]
                for loop, states in zip(exact, exact_states, strict=True)
            },
            "ground": {row["loop"]: row["ground_energy"] for row in rows},
            "timeline": timeline,
            "curve": _curve(noisy),
        }
        return Outcome(oracle=_verdict(rows), rows=rows, details=details)

    # ---- what runs ------------------------------------------------------------------------------------------------

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """One of the pilots has the QPU, which has room for H2; there are such stages of mitigation."""
        from pilot.quantum.mitigation import stages

        check_there("qpu", [self.settings.qpu], pilots)
        check_room([Needed("qpu", self.settings.qpu, H2_QUBITS, "H2", "name no snapshot of one qubit")])
        stages(self.settings.mitigation)

    def _loops(self, run: Run) -> tuple[list[Loop], list[Loop]]:
        """Those with exact values, and those that share the QPU; H2 at 0.735 Å is the first of each."""
        from pilot_miniapps.variational import graphs, molecules
        from pilot_miniapps.variational.loops import Loop

        settings = self.settings
        lengths = list(dict.fromkeys([H2_LENGTH, *settings.lengths]))
        hydrogen = [run.submit(f"molecule/h2/{length:g}", molecules.problem, "h2", length) for length in lengths]
        lithium = run.submit(f"molecule/lih/{LIH_LENGTH:g}", molecules.problem, "lih", LIH_LENGTH)
        graph = run.submit("graph", graphs.problem, settings.nodes, settings.layers, settings.seed)
        problems = {length: task.result() for length, task in zip(lengths, hydrogen, strict=True)}
        simulated: dict[str, Any] = {"qpu": "aer", "default_precision": 0.0}
        exact = [
            Loop(key="exact/h2", problem=problems[H2_LENGTH], steps=settings.h2_steps, options=simulated, seed=0),
            Loop(key="exact/lih", problem=lithium.result(), steps=settings.lih_steps, options=simulated, seed=0),
            Loop(key="exact/maxcut", problem=graph.result(), steps=settings.maxcut_steps, options=simulated, seed=0),
        ]
        options = {
            "qpu": settings.qpu,
            "default_precision": settings.shots**-0.5,
            "mitigation": settings.mitigation,
        }
        noisy = [
            Loop(
                key=f"qpu/h2-{length:g}",
                problem=problems[length],
                steps=settings.qpu_steps,
                options=options,
                seed=settings.seed + 1000 * number,
            )
            for number, length in enumerate(settings.lengths)
        ]
        return exact, noisy

    # ---- what comes out -------------------------------------------------------------------------------------------

    def _occupation(self, run: Run, noisy: Sequence[Loop]) -> list[dict[str, Any]]:
        """When the QPU worked for which loop, in seconds since the first; the shares are figures."""
        from pilot_miniapps.variational.loops import busy, busy_share

        every = list(run.manager.tasks.values())
        names = {
            key: [task for task in every if _belongs(task, key)] for key in ("alone", *(loop.key for loop in noisy))
        }
        spans = {key: busy(tasks, self.settings.qpu) for key, tasks in names.items()}
        alone = spans.pop("alone")
        together = [span for its in spans.values() for span in its]
        bar = ">= .9" if len(noisy) >= BUSY_LOOPS else None
        run.figure("qpu_busy", busy_share(together), "ratio", bar, n=len(noisy), timed=True)
        run.figure("qpu_busy_one_loop", busy_share(alone), "ratio", n=1, timed=True)
        begin = min((first for first, _ in together), default=0.0)
        return [
            {"loop": key, "jobs": [(first - begin, last - begin) for first, last in its]} for key, its in spans.items()
        ]

    def _report(self, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
        by_loop = {row["loop"]: row for row in rows}
        run.figure("energy_error", by_loop["exact/h2"]["error"], "Ha", f"<= {CHEMICAL_ACCURACY}")
        run.figure("energy_error_lih", by_loop["exact/lih"]["error"], "Ha", f"<= {CHEMICAL_ACCURACY}")
        cut = by_loop["exact/maxcut"]
        run.figure("approximation_ratio", cut["energy"] / cut["ground_energy"], "ratio")
        found = [row["error"] for row in rows if row["loop"].startswith("qpu/")]
        run.figure("energy_error_of_qpu_states", max(found), "Ha", n=len(found))
        measured = [abs(row["measured"] - row["ground_energy"]) for row in rows if row["loop"].startswith("qpu/")]
        run.figure("energy_error_measured_by_qpu", max(measured), "Ha", n=len(measured))

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        """The energy of H2 by its length, errors by step, and the QPU's time."""
        from pilot_miniapps.variational.plots import overview

        return {"variational": overview(report)}


def _belongs(task: Any, key: str) -> bool:
    """The task, or a part of one, has circuits of the loop's steps."""
    return bool(task.name.startswith(f"{key}/circuits-"))


def _row(loop: Loop, states: Sequence[State], run: Run) -> dict[str, Any]:
    """What a loop found: the state's energy without noise, and as measured where the loop ran."""
    problem: Problem = loop.problem
    measured = loop.measure(run, states[-1])
    energy, ground = problem.energy(states[-1].parameters), problem.ground_energy()
    return {
        "loop": loop.key,
        "problem": problem.name,
        "steps": loop.steps,
        "energy": energy,
        "ground_energy": ground,
        "error": energy - ground,
        "measured": float(measured.values.ravel()[0]),
        "standard_error": float(measured.standard_errors.ravel()[0]),
    }


def _curve(noisy: Sequence[Loop]) -> list[dict[str, float]]:
    """The energies of H2 by its length: exact ones, and those of Hartree-Fock, where the circuit begins."""
    return [
        {
            "length": float(loop.key.rpartition("-")[2]),
            "ground": loop.problem.ground_energy(),
            "hartree_fock": loop.problem.energy(loop.problem.start),
        }
        for loop in noisy
    ]


def _verdict(rows: Sequence[Mapping[str, Any]]) -> Oracle:
    """Energies of exact loops against NumPy's eigenvalues; no state is below them; the cut against all cuts."""
    from pilot_miniapps.variational.graphs import GUARANTEED

    by_loop = {row["loop"]: row for row in rows}
    cut = by_loop["exact/maxcut"]
    error = max(by_loop["exact/h2"]["error"], by_loop["exact/lih"]["error"])
    ratio = cut["energy"] / cut["ground_energy"]
    bounded = all(row["error"] > -1e-9 for row in rows)
    same = all(abs(row["measured"] - row["energy"]) < 1e-8 for row in rows if row["loop"].startswith("exact/"))
    return Oracle(
        passed=error <= CHEMICAL_ACCURACY and ratio >= GUARANTEED and bounded and same,
        deviation=error,
        unit="Ha",
        text=f"the energies of H2 and LiH against the least eigenvalue by NumPy; the cut is {ratio:.3f} of the "
        f"greatest one of all, {GUARANTEED} at least; no energy is below its eigenvalue, and Qiskit's Statevector has "
        "the same ones",
    )
