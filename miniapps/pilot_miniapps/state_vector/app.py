"""State vectors of strongly entangling layers, with and without gradient: figure 4 of the Pilot-Quantum paper."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
import numpy as np

from pilot import DescriptionError, PilotDescription, TaskDescription
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run
from pilot_miniapps.state_vector import drawing, memory
from pilot_miniapps.state_vector.devices import (
    KERNEL,
    PACKAGES,
    WITH_MPI,
    Circuits,
    Measured,
    has_mpi,
    measure,
    missing,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

#: The independent simulator that all others are compared with.
ORACLE = "lightning.qubit"
#: How far values and derivatives may be from the oracle's.
TOLERANCE = 1e-10
#: Sizes from which on times say something about the kernel, not about how a call is prepared.
RATIO_QUBITS = 20
#: Qubits of the model of ranks and memory.
MODEL_QUBITS = range(34, 45)

Size = Annotated[int, msgspec.Meta(ge=2, le=48)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be chosen."""

    qubits: Annotated[
        tuple[Size, ...], msgspec.Meta(min_length=1, description="sizes of the circuit, one after another")
    ] = (16, 18, 20, 22, 24)
    ranks: Annotated[
        int, msgspec.Meta(ge=1, le=4096, description="MPI ranks of the distributed state vector: a power of two")
    ] = 2
    layers: Annotated[int, msgspec.Meta(ge=1, le=5, description="strongly entangling layers")] = 2
    gradient_qubits: Annotated[
        int, msgspec.Meta(ge=0, le=48, description="the gradient is computed up to this size; 0: not at all")
    ] = 20
    oracle_qubits: Annotated[
        int,
        msgspec.Meta(ge=2, le=34, description=f"what is not distributed runs up to this size; {ORACLE} is the oracle"),
    ] = 24
    device: Annotated[
        tuple[str, ...],
        msgspec.Meta(description=f"one more device beside {KERNEL} and {ORACLE}: {', '.join(list(PACKAGES)[1:])}"),
    ] = ()
    mpi_device: Annotated[
        tuple[str, ...],
        msgspec.Meta(description=f"a device that is built with MPI, on all ranks: {', '.join(WITH_MPI)}"),
    ] = ()
    batch: Annotated[
        int, msgspec.Meta(ge=1, le=48, description="state vectors that the gradient takes back at a time")
    ] = 4
    repeat: Annotated[
        int, msgspec.Meta(ge=1, le=100, description="rounds of all devices in turn; medians are reported")
    ] = 2
    seed: Annotated[int, msgspec.Meta(ge=0, description="of the angles")] = 7

    def __post_init__(self) -> None:
        bits = self.ranks.bit_length() - 1
        if self.ranks != 1 << bits:
            raise DescriptionError(f"ranks: {self.ranks} is not valid; expected a power of two", field="ranks")
        least = 2 * bits + 6 if bits else 2
        if min(self.qubits) < least:
            raise DescriptionError(
                f"qubits: {min(self.qubits)} is not valid; {self.ranks} ranks leave too few local qubits; "
                f"expected at least {least}, or fewer ranks",
                field="qubits",
            )
        if min(self.qubits) > self.oracle_qubits:
            raise DescriptionError(
                f"oracle_qubits: {self.oracle_qubits} is not valid; expected at least the smallest of qubits, "
                f"{min(self.qubits)}, so that a size is compared with the oracle",
                field="oracle_qubits",
            )
        for field, allowed in (("device", list(PACKAGES)[1:]), ("mpi_device", WITH_MPI)):
            for device in getattr(self, field):
                _check_device(field, device, allowed)
        for device in self.mpi_device:
            if not has_mpi(device):
                raise DescriptionError(
                    f"mpi_device: {device} is not valid; the installed {PACKAGES[device][0]} is built without MPI, as "
                    f"wheels of it are; build it from source with MPI, or leave it out: {KERNEL} needs no such build",
                    field="mpi_device",
                )

    def circuits(self, distributed: bool) -> Circuits:
        """What runs on all ranks, and what in one process."""
        sizes = [size for size in sorted(set(self.qubits)) if distributed or size <= self.oracle_qubits]
        return Circuits(tuple(sizes), self.gradient_qubits, self.layers, self.seed, self.batch)


def _check_device(field: str, device: str, allowed: Sequence[str]) -> None:
    if device not in allowed:
        raise DescriptionError(f"{field}: {device!r} is not valid; expected one of {', '.join(allowed)}", field=field)
    package = missing(device)
    if package:
        raise DescriptionError(
            f"{field}: {device} is not valid; it is not installed: pip install {package}", field=field
        )


class Series(msgspec.Struct, frozen=True):
    """A device on so many ranks; without MPI, on as many cores of one process."""

    device: str
    cores: int
    mpi: bool

    def __str__(self) -> str:
        return f"{self.device}, {self.cores} {'rank' if self.mpi else 'thread'}{'s' if self.cores > 1 else ''}"


class StateVector(MiniApp):
    """State vectors of strongly entangling layers, over MPI ranks, with and without gradient.

    By default two layers on 16 to 24 qubits, and Z on each: values, and up to 20 qubits their adjoint gradient, by a
    state vector that is distributed over --ranks MPI ranks, and by lightning.qubit on as many cores, which is the
    oracle. Beside the measured times stands a model of ranks, memory and traffic for 34 to 44 qubits, with the 41
    qubits on 256 GPUs of the Pilot-Quantum paper.
    """

    Settings = Settings
    packages = ("mpi4py", "numpy", "pennylane", "pennylane_lightning")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "paper": {
            "qubits": (24, *range(31, 42)),
            "ranks": memory.PAPER_GPUS,
            "gradient_qubits": memory.PAPER_GRADIENT_QUBITS,
            "repeat": 3,
        },
        "small": {"qubits": (8, 10), "gradient_qubits": 8, "repeat": 1},
    }

    def pilots(self) -> Sequence[str]:
        return (f"process:{self.settings.ranks}",)

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        most, wanted = max(one.cores * one.number_of_nodes for one in pilots), self.settings.ranks
        if wanted > most:
            raise DescriptionError(
                f"ranks: {wanted} are wanted, and the largest pilot has {most} cores; give a larger one or fewer ranks",
                field="ranks",
                given=wanted,
            )

    def memory(self) -> int:
        settings = self.settings
        of_kernel = memory.states(None) * memory.state_bytes(max(settings.qubits))
        gradient = [size for size in settings.qubits if size <= settings.gradient_qubits]
        of_gradient = memory.states(settings.batch) * memory.state_bytes(max(gradient, default=0))
        # lightning's Jacobian holds a state vector for each observable, the state, and a spare one
        of_oracle = max(
            (size + 2) * memory.state_bytes(size) for size in [0, *gradient] if size <= settings.oracle_qubits
        )
        return int(max(of_kernel, of_gradient, of_oracle))

    def plan(self) -> Mapping[str, Any]:
        settings = self.settings
        largest = max(settings.qubits)
        return {
            "tasks": settings.repeat * len(self._series(settings.ranks)),
            "devices": "; ".join(map(str, self._series(settings.ranks))),
            "bytes between ranks, largest circuit": memory.bytes_predicted(settings.layers, largest, settings.ranks),
        }

    def work(self, run: Run) -> Outcome:
        threads = min(self.settings.ranks, max(pilot.description.cores for pilot in run.pilots))
        series, found = self._series(threads), {}
        for number in range(self.settings.repeat):
            for one in series:  # one after the other: each has all cores to itself
                task = run.submit_task(f"{number}/{one}", self._task(one))
                with run.progress([task], f"round {number + 1}: {one}"):
                    result = task.result()
                found[number, one] = result[0] if one.mpi else result
        rounds = {one: [found[number, one] for number in range(self.settings.repeat)] for one in series}
        by_size = [(one, measured) for one in series for measured in zip(*rounds[one], strict=True)]
        kernel, oracle = rounds[series[0]], rounds[series[1]]
        deviation, compared = _deviation(rounds, oracle[0])
        run.figure("deviation", deviation, "", f"<= {TOLERANCE}")
        self._report_bytes(run, kernel)
        self._report_ratios(run, kernel, oracle)
        return Outcome(
            oracle=Oracle(
                deviation <= TOLERANCE,
                deviation,
                "",
                f"{compared:,} values and derivatives of all devices were compared with those of {ORACLE}",
            ),
            rows=[self._row(one, measured) for one, measured in by_size],
            details={
                "spreads": [[_spread(its) for its in _seconds(measured)] for _, measured in by_size],
                "model": memory.model(MODEL_QUBITS, self.settings.layers, self.settings.batch),
                "model_memory": memory.A100,
                "ratios": _ratios(kernel, oracle),
            },
            results={
                "values": {str(one.qubits): np.round(one.values, 9).tolist() for one in kernel[0]},
                "bytes_sent": {str(one.qubits): [one.bytes_sent, one.gradient_bytes_sent] for one in kernel[0]},
            },
        )

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        return {"state-vector": drawing.times(report), "memory": drawing.model(report)}

    # ---- tasks ----------------------------------------------------------------------------------------------

    def _series(self, threads: int) -> list[Series]:
        """What runs in a round: the distributed kernel, the oracle, then all others."""
        settings = self.settings
        others = [Series(device, threads, False) for device in dict.fromkeys((ORACLE, *settings.device))]
        spread = [Series(device, settings.ranks, True) for device in dict.fromkeys(settings.mpi_device)]
        alone = [Series(KERNEL, 1, True)] if settings.ranks > 1 else []
        return [Series(KERNEL, settings.ranks, True), *others, *spread, *alone]

    def _task(self, one: Series) -> TaskDescription:
        circuits = self.settings.circuits(one.mpi and one.cores == self.settings.ranks)
        return TaskDescription(
            function=measure,
            args=(one.device, circuits, one.mpi),
            name=str(one),
            ranks=one.cores if one.mpi else None,
            num_cpus=1 if one.mpi else one.cores,
            num_gpus=1 if one.device == "lightning.gpu" else 0,
        )

    # ---- what came out --------------------------------------------------------------------------------------

    def _row(self, one: Series, measured: Sequence[Measured]) -> dict[str, Any]:
        seconds, gradient = _seconds(measured)
        first = measured[0]
        return {
            "device": one.device,
            "ranks": one.cores if one.mpi else 1,
            "threads": first.threads,
            "qubits": first.qubits,
            "seconds": statistics.median(seconds),
            "gradient_seconds": statistics.median(gradient) if gradient else None,
            "bytes_sent": first.bytes_sent,
            "gradient_bytes_sent": first.gradient_bytes_sent,
        }

    def _report_bytes(self, run: Run, kernel: Sequence[Sequence[Measured]]) -> None:
        settings = self.settings
        sent = sum(one.bytes_sent + one.gradient_bytes_sent for one in kernel[0])
        predicted = sum(
            memory.bytes_predicted(settings.layers, one.qubits, settings.ranks, batch)
            for one in kernel[0]
            for batch in ([None] if one.gradient is None else [None, settings.batch])
        )
        run.figure("bytes_sent", sent, "bytes", f"== {predicted}")
        run.figure("bytes_predicted", predicted, "bytes")

    def _report_ratios(
        self, run: Run, kernel: Sequence[Sequence[Measured]], oracle: Sequence[Sequence[Measured]]
    ) -> None:
        """The kernel's time over the oracle's, at the size where this is greatest; the bars are for two ranks."""
        judged = self.settings.ranks == 2
        for key, which, limit in (("ratio_lightning", "values", 1.5), ("gradient_ratio_lightning", "gradient", 2)):
            its = [one for one in _ratios(kernel, oracle) if one["of"] == which]
            large = [one for one in its if one["qubits"] >= RATIO_QUBITS]
            if not its:
                continue
            worst = max(large or its, key=lambda one: one["ratio"])
            bar = f"<= {limit}" if judged and large else None
            spread = (worst["least"], worst["greatest"])
            run.figure(key, worst["ratio"], "ratio", bar, spread, self.settings.repeat, timed=True)


def _deviation(rounds: Mapping[Series, Sequence[Sequence[Measured]]], oracle: Sequence[Measured]) -> tuple[float, int]:
    """The greatest difference of any device from the oracle, and how many numbers were compared."""
    truth = {one.qubits: one for one in oracle}
    differences = [
        np.abs(np.subtract(getattr(one, what), getattr(truth[one.qubits], what))).reshape(-1)
        for series, its in rounds.items()
        if series.device != ORACLE
        for measured in its
        for one in measured
        if one.qubits in truth
        for what in ("values", "gradient")
        if getattr(one, what) is not None
    ]
    every = np.concatenate(differences)
    return float(np.max(every)), len(every)


def _seconds(measured: Sequence[Measured]) -> tuple[list[float], list[float]]:
    """The times of all rounds: for values, and with the gradient, if it was computed."""
    gradient = [one.gradient_seconds for one in measured if one.gradient_seconds is not None]
    return [one.seconds for one in measured], gradient


def _spread(seconds: list[float]) -> tuple[float, float] | None:
    return (min(seconds), max(seconds)) if seconds else None


def _ratios(kernel: Sequence[Sequence[Measured]], oracle: Sequence[Sequence[Measured]]) -> list[dict[str, Any]]:
    """The kernel's time over the oracle's in the same round, by size: median, least and greatest."""
    found = []
    for which, field in (("values", "seconds"), ("gradient", "gradient_seconds")):
        for at, one in enumerate(oracle[0]):
            ours = [getattr(measured[at], field) for measured in kernel]
            theirs = [getattr(measured[at], field) for measured in oracle]
            if None in ours or None in theirs:
                continue
            its = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            found.append(
                {
                    "of": which,
                    "qubits": one.qubits,
                    "ratio": statistics.median(its),
                    "least": min(its),
                    "greatest": max(its),
                }
            )
    return found
