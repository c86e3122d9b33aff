"""The options of the sampler and the estimator, under the names that qiskit-ibm-runtime has for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pilot.errors import DescriptionError, invalid
from pilot.quantum.faces.option_groups import Leaf, OptionGroup, Refused, Table, given_options
from pilot.quantum.mitigation import DynamicalDecoupling, Twirling, ZeroNoise
from pilot.quantum.mitigation.decoupling import SEQUENCES


def is_count(value: Any) -> bool:
    """A whole number from 1 on."""
    return _is_natural(value) and bool(value >= 1)


def _is_natural(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(0 < value < math.inf)


def _is_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def _is_numbers(value: Any) -> bool:
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and len(value) > 1
    return several and all(map(_is_positive, value))


def _is_extrapolator(value: Any) -> bool:
    return isinstance(value, str) or (_is_texts(value) and len(value) > 0)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_count_or_auto(value: Any) -> bool:
    return (isinstance(value, str) and value == "auto") or is_count(value)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, str) and value in SEQUENCES


def _is_level(value: Any) -> bool:
    return _is_natural(value) and bool(value <= 2)


def _is_anything(value: Any) -> bool:
    return True  # the task's description checks it


_SWITCH = Leaf(_is_switch, "True or False")
_COUNT = Leaf(is_count, "an integer from 1 on")
_COUNT_OR_AUTO = Leaf(_is_count_or_auto, "an integer from 1 on, or 'auto'")
_SEED = Leaf(_is_natural, "an integer from 0 on")

_COMPILE = "compile the circuit for it first, or take qpu='fake:…'"
_NO_LEARNING = "noise is not learned by layers; take resilience.zne_mitigation or mitigation=[…]"

_SHARED: Table = {
    "default_shots": _COUNT,
    "dynamical_decoupling": {
        "enable": _SWITCH,
        "sequence_type": Leaf(_is_sequence, f"one of {', '.join(SEQUENCES)}"),
        "extra_slack_distribution": Refused("pulses stand evenly spaced: leave it out"),
        "scheduling_method": Refused("circuits are scheduled as late as possible: leave it out", ("alap",)),
        "skip_reset_qubits": Refused("qubits that have not begun are left alone; leave it out", (False,)),
    },
    "twirling": {
        "enable_gates": _SWITCH,
        "enable_measure": Refused("take readout mitigation of an estimator: resilience.measure_mitigation", (False,)),
        "num_randomizations": _COUNT_OR_AUTO,
        "shots_per_randomization": _COUNT_OR_AUTO,
        "strategy": Refused("each two-qubit gate is twirled: leave it out"),
    },
    "max_execution_time": Leaf(_is_positive, "a number of seconds above 0"),
    "environment": {
        "job_tags": Leaf(_is_texts, "a list of texts"),
        "log_level": Refused("set the level of logging.getLogger('pilot')", ("WARNING",)),
        "private": Refused("results stay in the session's folder, which only you can read: leave it out", (False,)),
    },
    "simulator": {
        "noise_model": Leaf(_is_anything, "a NoiseModel"),
        "seed_simulator": _SEED,
        "coupling_map": Refused(_COMPILE),
        "basis_gates": Refused(_COMPILE),
    },
    "experimental": Refused("leave it out", ({},)),
    "optimization_level": Refused("give optimization_level=… to the primitive itself, beside options"),
}

_EXECUTION: Table = {
    "init_qubits": Refused("each shot begins with all qubits in 0: write resets into the circuit", (True,)),
    "rep_delay": Refused("the QPU's own is used: leave it out"),
}

SAMPLER: Table = {
    **_SHARED,
    "execution": {**_EXECUTION, "meas_type": Refused("results are bits: leave it out", ("classified",))},
}

ESTIMATOR: Table = {
    **_SHARED,
    "default_precision": Leaf(_is_positive, "a number above 0; leave it out for exact values"),
    "seed_estimator": _SEED,
    "resilience_level": Leaf(_is_level, "0, 1 or 2"),
    "execution": _EXECUTION,
    "resilience": {
        "measure_mitigation": _SWITCH,
        "measure_noise_learning": {
            "num_randomizations": Refused("give mitigation=[Readout(shots=…)] of pilot.quantum.mitigation"),
            "shots_per_randomization": Refused("give mitigation=[Readout(shots=…)] of pilot.quantum.mitigation"),
        },
        "zne_mitigation": _SWITCH,
        "zne": {
            "amplifier": Refused("two-qubit gates are folded: 'gate_folding', or leave it out", ("gate_folding",)),
            "noise_factors": Leaf(_is_numbers, "two numbers from 1 on or more"),
            "extrapolator": Leaf(_is_extrapolator, "'exponential', 'linear' or 'polynomial_degree_1' to '_7'"),
            "extrapolated_noise_factors": Refused("values are extrapolated to no noise: leave it out"),
        },
        "pec_mitigation": Refused(_NO_LEARNING, (False,)),
        "pec": {"max_overhead": Refused(_NO_LEARNING), "noise_gain": Refused(_NO_LEARNING)},
        "layer_noise_learning": {
            name: Refused(_NO_LEARNING)
            for name in (
                "max_layers_to_learn", "shots_per_randomization", "num_randomizations", "layer_pair_depths",
            )
        },
        "layer_noise_model": Refused(_NO_LEARNING),
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What options ask for. None: nothing."""

    #: Fields of `TaskDescription`.
    fields: dict[str, Any] = field(default_factory=dict)
    shots: int | None = None
    precision: float | None = None
    seed: int | None = None
    #: Tags of the jobs.
    tags: tuple[str, ...] = ()


def options_of(owner: str, table: Table, given: Any) -> OptionGroup:
    """The options of a primitive.

    Args:
        owner: its name.
        table: SAMPLER or ESTIMATOR.
        given: a dict, options, or None.

    Raises:
        DescriptionError: an option is unknown, has a value that is not valid, or is not carried out.
    """
    group = OptionGroup(f"{owner}.options", table)
    if given is not None:
        group.update(given_options(f"{owner}.options", given))
    return group


def settings_of(options: OptionGroup, mitigation: Any, default_shots: int | None) -> Settings:
    """What options ask for.

    Args:
        options: of a sampler or an estimator.
        mitigation: the stages that the primitive has beside them.
        default_shots: of the primitive, by which ``shots_per_randomization`` counts.

    Raises:
        DescriptionError: options contradict each other, or there are stages already.
    """
    given = options.to_dict()
    simulator = given.get("simulator", {})
    shots = given.get("default_shots")
    stages, shots = _stages(given, shots, default_shots)
    fields: dict[str, Any] = {}
    if stages:
        if mitigation:
            raise invalid("mitigation", mitigation, f"nothing beside options that ask for {_named(stages)}")
        fields["mitigation"] = stages
    if "max_execution_time" in given:
        fields["timeout"] = float(given["max_execution_time"])
    if "noise_model" in simulator:
        fields["noise_model"] = simulator["noise_model"]
    precision = given.get("default_precision")
    return Settings(
        fields=fields,
        shots=None if shots is None else int(shots),
        precision=None if precision is None else float(precision),
        seed=given.get("seed_estimator", simulator.get("seed_simulator")),
        tags=tuple(given.get("environment", {}).get("job_tags", ())),
    )


def _named(stages: Sequence[Any]) -> str:
    return ", ".join(repr(stage if isinstance(stage, str) else stage.name) for stage in stages)


def _stages(given: Mapping[str, Any], shots: int | None, default: int | None) -> tuple[list[Any], int | None]:
    """The stages of mitigation, in order, and the shots: those of all randomizations where both numbers are given."""
    level = given.get("resilience_level", 0)
    resilience = given.get("resilience", {})
    decoupling = given.get("dynamical_decoupling", {})
    twirling = given.get("twirling", {})
    stages: list[Any] = []
    if resilience.get("measure_mitigation", level >= 1):
        stages.append("readout")
    if twirling.get("enable_gates", False):
        number, shots = _randomizations(twirling, shots, default)
        stages.append("twirling" if number is None else Twirling(num=number))
    if decoupling.get("enable", False):
        stages.append(DynamicalDecoupling(sequence=decoupling.get("sequence_type", "XX")))
    if resilience.get("zne_mitigation", level >= 2):
        stages.append(_zero_noise(resilience.get("zne", {})))
    return stages, shots


def _randomizations(
    twirling: Mapping[str, Any], shots: int | None, default: int | None
) -> tuple[int | None, int | None]:
    """The number of copies, None: as many as are usual; and the shots."""
    number, each = (
        None if (value := twirling.get(name)) in (None, "auto") else int(value)
        for name in ("num_randomizations", "shots_per_randomization")
    )
    if each is None:
        return number, shots
    if number is None:
        total = default if shots is None else shots
        if total is None:
            raise DescriptionError(
                "twirling.shots_per_randomization: give num_randomizations or default_shots with it, which together "
                "say how many copies there are",
                field="shots_per_randomization",
                given=each,
            )
        return max(1, -(-total // each)), shots
    if shots not in (None, number * each):
        raise DescriptionError(
            f"default_shots: {shots} is not valid; expected num_randomizations times shots_per_randomization "
            f"({number * each}), or only one of these with it",
            field="default_shots",
            given=shots,
        )
    return number, number * each


def _zero_noise(zne: Mapping[str, Any]) -> ZeroNoise:
    factors = tuple(float(one) for one in zne.get("noise_factors", (1, 3, 5)))
    wanted = zne.get("extrapolator", ("exponential", "linear"))
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if len(names) > 1 and names[1:] in (["linear"], ["polynomial_degree_1"]):
        names = names[:1]  # a fit that fails is replaced by a line anyway
    if len(names) == 1:
        if names[0] == "exponential":
            return ZeroNoise(factors=factors, extrapolation="exponential")
        if names[0] in ("linear", "polynomial_degree_1"):
            return ZeroNoise(factors=factors, extrapolation="linear")
        if names[0] == f"polynomial_degree_{len(factors) - 1}":
            return ZeroNoise(factors=factors, extrapolation="richardson")
    raise invalid(
        "resilience.zne.extrapolator",
        wanted,
        "'exponential', 'linear', ('exponential', 'linear'), or the polynomial through all points "
        f"('polynomial_degree_{len(factors) - 1}' with {len(factors)} noise factors)",
    )


def shots_of(precision: float | None) -> int | None:
    """The shots of each group of terms that reach a precision; None where it is 0: exact.

    Raises:
        DescriptionError: it is not a number from 2**-31 to 1e100, or 0.
    """
    if precision is None or (_is_real(precision) and precision == 0):
        return None
    if not _is_real(precision) or not 2**-31 <= precision <= 1e100:
        raise invalid("precision", precision, "0 for exact values, or a number from 2**-31 on: 1/sqrt(shots)")
    return math.ceil(1 / float(precision) ** 2)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | np.number)


def precision_of(shots: int) -> float:
    """The precision that takes so many shots of each group of terms: ``ceil(1 / precision**2)``."""
    precision = 1 / math.sqrt(shots)
    while math.ceil(1 / precision**2) > shots:
        precision = math.nextafter(precision, math.inf)
    return precision
