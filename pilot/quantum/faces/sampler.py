"""Qiskit's sampler over a manager."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.primitives import BaseSamplerV2, BitArray, DataBin, SamplerPubLike, SamplerPubResult
from qiskit.primitives.containers.sampler_pub import SamplerPub

from pilot.descriptions import TaskDescription
from pilot.errors import DescriptionError, invalid
from pilot.interfaces.qpus import measures
from pilot.quantum.faces.jobs import PilotPrimitiveJob
from pilot.quantum.faces.option_groups import OptionGroup
from pilot.quantum.faces.options import SAMPLER, Settings, is_count, options_of, settings_of
from pilot.quantum.faces.submission import (
    check_gives_shots,
    coerced,
    shot_order,
    submit_pubs,
    task_fields,
)
from pilot.quantum.outcomes import Outcomes, draw_seeds, registers_of
from pilot.quantum.runner import Runner

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit


class PilotSampler(BaseSamplerV2):  # type: ignore[misc]
    """Samples circuits on a manager's pilots: ``BaseSamplerV2`` for Qiskit's algorithms and add-ons.

    A pub with many sets of parameter values travels as one circuit and one array. All pubs of a run are submitted at
    once and run side by side on all pilots.
    """

    def __init__(
        self,
        manager: Runner,
        *,
        qpu: str | None = None,
        default_shots: int = 1024,
        seed: np.random.Generator | int | None = None,
        options: Any = None,
        **fields: Any,
    ) -> None:
        """Make it.

        Args:
            manager: who submits the tasks.
            qpu: what runs the circuits, as in ``TaskDescription.qpu``: "aer", "fake:kolkata", "*". Default: any device
                that the pilots have, else a simulator.
            default_shots: of pubs and runs without a number of shots.
            seed: an integer gives the same counts at each run (on simulators), a generator goes on from run to run.
            options: those of qiskit-ibm-runtime's sampler by the same names, a dict or its own ``SamplerOptions``. What
                is set there, or later (``sampler.options.default_shots = 100``), counts before the arguments here.
            **fields: more fields of each `TaskDescription`: ``optimization_level``, ``min_fidelity``, ``mitigation``,
                ``pilot``, ``pilots``, ``labels``, ``priority``, ``timeout``, ``expected_duration``, ``retries``,
                ``num_cpus``, ``num_gpus``, ``memory``, ``name``.

        Raises:
            DescriptionError: an option or a field is unknown, or its value is not valid; or it is not carried out.
        """
        self._manager = manager
        self._qpu, self._given = qpu, fields
        self._fields = task_fields(type(self).__name__, qpu, fields)
        check_gives_shots(type(self).__name__, self._fields)
        self._options = options_of(type(self).__name__, SAMPLER, options)
        if not is_count(default_shots):
            raise invalid(f"{type(self).__name__}.default_shots", default_shots, "a whole number of at least 1")
        self._default_shots = default_shots
        self._seed = seed

    @property
    def options(self) -> OptionGroup:
        """What is set under the names of qiskit-ibm-runtime's ``SamplerOptions``; each run takes what is set then."""
        return self._options

    @options.setter
    def options(self, given: Any) -> None:
        self._options = options_of(type(self).__name__, SAMPLER, given)

    @property
    def default_shots(self) -> int:
        """Shots of pubs and runs without a number of shots."""
        return self._settings().shots or self._default_shots

    @property
    def seed(self) -> np.random.Generator | int | None:
        """As it was given, here or in the options."""
        chosen = self._settings().seed
        return self._seed if chosen is None else chosen

    def _settings(self) -> Settings:
        return settings_of(self._options, self._fields.get("mitigation"), self._default_shots)

    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> PilotPrimitiveJob:
        """Submit all pubs; does not block.

        Args:
            pubs: circuits, or tuples of circuit, parameter values and shots.
            shots: of pubs without a number of shots.

        Returns:
            A job. Each of its results has one ``BitArray`` a classical register, of the pub's shape, its shots in the
            same random order in all registers.

        Raises:
            TypeError, ValueError: a pub is not valid; Qiskit's errors.
            DescriptionError: a circuit or an option cannot be run.
        """
        settings = self._settings()
        default = settings.shots or self._default_shots
        checked = [coerced(SamplerPub, pub, default if shots is None else shots) for pub in pubs]
        for number, pub in enumerate(checked):
            _check_names(pub.circuit)
            if not pub.circuit.cregs:
                warnings.warn(
                    f"The {number}-th pub's circuit has no output classical registers and so the result "
                    "will be empty. Did you mean to add measurement instructions?",
                    UserWarning,
                    stacklevel=2,
                )
        fields = self._fields
        if settings.fields:
            fields = task_fields(type(self).__name__, self._qpu, {**self._given, **settings.fields})
        return submit_pubs(self._manager, partial(_plan, fields), checked, self.seed, settings.tags)


def _check_names(circuit: QuantumCircuit) -> None:
    """Refuse registers whose names a ``DataBin`` keeps for itself, before anything runs for them.

    Raises:
        DescriptionError: there is one.
    """
    for register in circuit.cregs:
        try:
            DataBin(**{register.name: None})
        except (TypeError, ValueError) as error:
            raise DescriptionError(
                f"circuit {circuit.name!r} has a classical register of the name {register.name!r}, which is an "
                "attribute of Qiskit's DataBin: rename the register",
                field="pubs",
                given=register.name,
            ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """The tasks of one pub."""

    pub: SamplerPub
    seed: int
    descriptions: tuple[TaskDescription, ...]

    def result(self, results: Sequence[Outcomes | list[Outcomes]]) -> SamplerPubResult:
        """What the pub gives: one task with many sets of values has a list of outcomes."""
        outcomes: list[Outcomes] = []
        for one in results:
            outcomes += one if isinstance(one, list) else [one]
        circuit, shape, shots = self.pub.circuit, self.pub.shape, self.pub.shots
        rng = np.random.default_rng(self.seed)
        shuffled = [one.bits()[shot_order(one, rng)] for one in outcomes]
        data = {}
        for register, places in registers_of(circuit):
            packed = np.zeros((self.pub.size, shots, -(-len(places) // 8)), dtype=np.uint8)
            for index, bits in enumerate(shuffled):
                packed[index] = pack_register(bits[:, list(places)])
            data[register] = BitArray(packed.reshape(*shape, shots, packed.shape[-1]), len(places))
        metadata = {"shots": shots, "circuit_metadata": circuit.metadata}
        return SamplerPubResult(DataBin(**data, shape=shape), metadata=metadata)


def _plan(fields: dict[str, Any], pub: SamplerPub, seed: int) -> _Plan:
    descriptions: list[TaskDescription] = []
    if pub.size and measures(pub.circuit):
        common = {"circuit": pub.circuit, "shots": int(pub.shots), **fields}
        if pub.circuit.parameters:
            values = pub.parameter_values.as_array(pub.circuit.parameters).reshape(pub.size, -1)
            descriptions = [TaskDescription(parameters=values, seed=seed, **common)]
        else:
            descriptions = [TaskDescription(seed=one, **common) for one in draw_seeds(seed, pub.size)]
    return _Plan(pub=pub, seed=seed, descriptions=tuple(descriptions))


def pack_register(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bits `(n, width)`, column `j` bit `j` of a register, as a ``BitArray`` has them: big endian, padded left."""
    width = bits.shape[1]
    padded = np.pad(bits[:, ::-1], ((0, 0), (-width % 8, 0)))
    return np.packbits(padded, axis=1)
