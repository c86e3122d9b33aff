"""`Mitigator`: the way to run a circuit that is predicted to give the best result, among those that stages offer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pilot import registry
from pilot.descriptions.qos import QosOptions
from pilot.errors import DescriptionError, PilotError, PluginError, QPUError, invalid
from pilot.qos.mitigator.forecasts import Forecaster
from pilot.qos.mitigator.goals import Goal
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Variant

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.resources import QPUInfo

#: The group of entry points, and the stages that are tried unless others are named. What twirling and decoupling gain,
#: no calibration says, so they are left to the user.
GROUP = "pilot.qos_stages"
STAGES = ("freezing", "cutting", "reuse", "readout", "zne")
#: So many variants go from one stage to the next, besides the circuit as it is.
KEPT = 3
#: Variants are better by so many standard errors of the prediction, and by so much, or they are not taken.
CERTAIN, LEAST_GAIN = 1.0, 0.02
#: The same for values: their mean square error is predicted less well than a fidelity.
LEAST_GAIN_OF_VALUES = 0.2


@dataclass(frozen=True, kw_only=True)
class Considered:
    """A variant that was looked at."""

    name: str
    circuits: int
    overhead: float
    #: Predicted, as `Goal.loss`; None: it could not be predicted.
    loss: float | None
    #: Why it was not taken; "" for the one that was.
    rejected: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """The variant that is taken, and what it was chosen from."""

    goal: Goal
    variant: Variant
    #: Of all circuits together.
    shots: int
    considered: tuple[Considered, ...]
    #: The same with the variants themselves, the circuit as it is first. They do not travel.
    ranked: tuple[Ranked, ...] = ()
    #: Seconds that the decision took.
    seconds: float = 0.0
    #: By stage, seconds of its part of the decision.
    seconds_of: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    #: Predicted of the variant, as `Goal.loss`; None: it could not be predicted.
    loss: float | None = None


@dataclass(frozen=True, eq=False)
class Ranked:
    """A variant with what is predicted of it."""

    variant: Variant
    #: As `Goal.loss`; None: it could not be predicted.
    loss: float | None
    spread: float = 0.0
    #: Which limit it breaks, or why the device cannot run it; "" if neither.
    rejected: str = ""


class Mitigator:
    """Chooses stages for circuits on one device.

    Args:
        info: of the device, with its calibration.
        options: limits and stages.
        level: Qiskit's optimization level.
        kept: so many variants go from one stage to the next, besides the circuit as it is.

    Raises:
        DescriptionError: the stages of the options are not valid.
        PluginError: a stage of that name is not installed, or cannot be loaded.
    """

    def __init__(self, info: QPUInfo, options: QosOptions | None = None, level: int = 2, kept: int = KEPT) -> None:
        self.options = QosOptions() if options is None else options
        self.stages = stages_of(self.options.stages)
        self.info, self._kept = info, kept
        self.forecaster = Forecaster(info, level)

    def choose(self, circuit: QuantumCircuit, shots: int, observables: Any = ()) -> Choice:
        """The best way to run a circuit. Takes some tenths of a second, in this thread.

        Args:
            circuit: without free parameters, with its measurements; with observables without.
            shots: of all circuits that run for it together.
            observables: as in `TaskDescription`.

        Raises:
            DescriptionError: the objective or the observables are not valid for the circuit, or a required stage cannot
                be done.
            QPUError: the device cannot run the circuit, nor any variant of it.
            PluginError: a stage raised.
        """
        begun = time.perf_counter()
        self.forecaster.begin()
        goal = Goal.of(circuit, observables, self.options)
        context = Context(goal=goal, options=self.options, info=self.info, shots=shots)
        base = goal.base()
        search = _Search(self.forecaster, context, self._kept)
        search.add([base])
        able, reason = self.forecaster.is_able, ""
        if not able:
            reason = f"{self.info.name} reports no errors: nothing can be predicted, so only required stages are taken"
        for stage in self.stages:
            if able or stage.required:
                search.extend(stage)
        if able:
            search.refine()
        chosen = search.best()
        return Choice(
            goal=goal,
            variant=chosen.variant,
            shots=shots,
            considered=tuple(_told(one, chosen) for one in search.every),
            ranked=tuple(search.every),
            seconds=time.perf_counter() - begun,
            seconds_of=search.seconds,
            reason=reason,
            loss=chosen.loss,
        )


class _Search:
    """Variants as they come from the stages, and which of them go on."""

    def __init__(self, forecaster: Forecaster, context: Context, kept: int) -> None:
        self._forecaster, self._context, self._kept = forecaster, context, kept
        self._going: list[Ranked] = []
        self.every: list[Ranked] = []
        self._problem: PilotError | None = None
        self.seconds: dict[str, float] = {}

    def extend(self, stage: QosStage) -> None:
        """The variants that a stage makes of those that have come so far."""
        begun = time.perf_counter()
        made = [one for ranked in self._going for one in self._variants(stage, ranked.variant)]
        found = self.add(made)
        if stage.required:
            self._going = found or self._impossible(stage, made)
        self.seconds[stage.name] = time.perf_counter() - begun

    def refine(self) -> None:
        """Predict again what the formula predicted, with what has been computed of pieces of the circuit."""
        renewed = {
            id(one): self._ranked(one.variant)
            for one in self.every
            if one.loss is not None and self._forecaster.is_rough(one.variant)
        }
        self.every = [renewed.get(id(one), one) for one in self.every]
        self._going = [renewed.get(id(one), one) for one in self._going]

    def add(self, variants: Iterable[Variant]) -> list[Ranked]:
        """Predict variants; those that are possible. The first goes on in any case: stages may make it possible."""
        found = [self._ranked(variant) for variant in variants]
        self.every += found
        possible = [one for one in found if not one.rejected]
        ranked = sorted([*self._going[1:], *possible], key=_by_loss)[: self._kept]
        self._going = [*self._going[:1], *ranked] if self._going else found
        return possible

    def best(self) -> Ranked:
        """The best variant; the first, unless another one is certainly better.

        Raises:
            PilotError: no variant is possible.
        """
        possible = [one for one in self._going if not one.rejected]
        if not possible:
            raise QPUError(self.every[0].rejected, qpu=self._context.info.name) from self._problem
        first, best = possible[0], min(possible, key=_by_loss)
        if first.loss is None or best.loss is None or first is not self.every[0]:
            return best
        least = LEAST_GAIN if self._context.goal.observables is None else LEAST_GAIN_OF_VALUES
        margin = max(CERTAIN * (first.spread + best.spread), least * first.loss)
        return best if best.loss < first.loss - margin else first

    def _impossible(self, stage: QosStage, made: Sequence[Variant]) -> list[Ranked]:
        why = self.every[-1].rejected if made else "it has no variants for it"
        raise DescriptionError(
            f"QosOptions.stages: {stage.name!r} is required, but cannot be done for circuit "
            f"{self._context.goal.circuit.name!r}: {why}; leave the stage out, or what is required of it",
            field="stages",
        )

    def _variants(self, stage: QosStage, variant: Variant) -> list[Variant]:
        try:
            found = list(stage.variants(variant, self._context))
            if wrong := [one for one in found if not isinstance(one, Variant)]:
                raise TypeError(f"it gave {wrong[0]!r}, which is no Variant")
            return found
        except DescriptionError:
            raise
        except Exception as error:
            raise self._failed(stage.name, error) from error

    def _failed(self, stage: str, error: Exception) -> PluginError:
        return PluginError(
            f"the stage {stage!r} failed for circuit {self._context.goal.circuit.name!r}: {type(error).__name__}: "
            f"{error}; leave it out of QosOptions.stages, or repair it",
            group=GROUP,
            name=stage,
        )

    def _ranked(self, variant: Variant) -> Ranked:
        if beyond := self._beyond(variant):
            return Ranked(variant, None, rejected=beyond)
        if not self._forecaster.is_able:
            return Ranked(variant, None)
        try:
            found = self._forecaster.forecast(variant, self._context.goal, self._context.shots)
            if found is None:  # of a wide circuit all variants are compared by the formula, else this one is the last
                goal = self._context.goal
                return Ranked(variant, None if goal.is_known else self._forecaster.rough(variant, self._context.shots))
        except (QPUError, DescriptionError) as error:
            self._problem = self._problem or error
            return Ranked(variant, None, rejected=str(error))
        except Exception as error:
            if not variant.steps:
                raise
            raise self._failed(variant.steps[-1].stage, error) from error
        return Ranked(variant, *found)

    def _beyond(self, variant: Variant) -> str:
        options = self._context.options
        if variant.spent > options.budget:
            return f"{variant.spent} cuts and frozen qubits, the budget is {options.budget}"
        if variant.overhead > options.max_overhead * (1 + 1e-9):
            return f"an overhead of {variant.overhead:.4g}, max_overhead is {options.max_overhead:g}"
        if len(variant.circuits) > options.max_circuits:
            return f"{len(variant.circuits)} circuits, max_circuits is {options.max_circuits}"
        needed = variant.least * len(variant.circuits) * len(variant.factors)
        if needed > (there := variant.spare(self._context.shots)):
            each = f"{variant.least} for each circuit that runs"
            return f"it takes {needed} shots, {each}, and there are {there}"
        return ""


def stages_of(given: Any) -> tuple[QosStage, ...]:
    """The stages that options name.

    Args:
        given: names and stages; None: `STAGES`.

    Raises:
        DescriptionError: it is something else, or names a stage twice.
        PluginError: no stage of that name is installed, or it cannot be made.
    """
    expected = "a list of names of stages, and of QosStage objects, each at most once"
    entries: Sequence[Any] = STAGES if given is None else given
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise invalid("QosOptions.stages", given, expected)
    found = tuple(_stage(one, given, expected) for one in entries)
    if len({one.name for one in found}) < len(found):
        raise invalid("QosOptions.stages", given, expected)
    return found


def _stage(one: Any, given: Any, expected: str) -> QosStage:
    if isinstance(one, QosStage):
        return one
    if not isinstance(one, str):
        raise invalid("QosOptions.stages", given, expected)
    made = registry.load(GROUP, one)
    try:
        stage = made()
    except Exception as error:
        raise PluginError(
            f"the stage {one!r} cannot be made: {type(error).__name__}: {error}", group=GROUP, name=one
        ) from error
    if not isinstance(stage, QosStage):
        raise PluginError(
            f"the stage {one!r} is not a pilot.qos.mitigator.QosStage: it is {stage!r}", group=GROUP, name=one
        )
    return stage


def _told(one: Ranked, chosen: Ranked) -> Considered:
    return Considered(
        name=one.variant.name,
        circuits=len(one.variant.circuits),
        overhead=one.variant.overhead,
        loss=one.loss,
        rejected=one.rejected or ("" if one is chosen else "not predicted to be better"),
    )


def _by_loss(one: Ranked) -> float:
    return float("inf") if one.loss is None else one.loss
