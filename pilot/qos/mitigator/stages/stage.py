"""The contract of stages (entry points ``pilot.qos_stages``), and what a stage can know: `QosStage`, `Context`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pilot.descriptions.qos import QosOptions
    from pilot.qos.mitigator.goals import Goal
    from pilot.qos.mitigator.variants import Variant
    from pilot.resources import QPUInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What a stage can know."""

    goal: Goal
    options: QosOptions
    #: The device that variants are compared for.
    info: QPUInfo
    #: Of all circuits together.
    shots: int

    def left(self, variant: Variant) -> int:
        """What is left of the budget."""
        return self.options.budget - variant.spent


class QosStage(ABC):
    """A way to lessen errors by running other circuits.

    A stage is a value: it holds settings. What it returns is pickled, so what merges outcomes is a function of a
    module, or a partial of one. For example a stage that runs each circuit twice::

        class Twice(QosStage):
            name = "twice"

            def variants(self, variant, context):
                parts = [Replacement(circuits=[c, c], shares=[0.5, 0.5], groups=[0, 0], merge=added)
                         for c in variant.circuits]
                yield variant.replaced(parts, Step(stage=self.name, text="each circuit twice"))
    """

    #: As in ``QosOptions.stages``, and in the record.
    name: ClassVar[str]
    #: Where it gives variants within the limits, one of them is taken, whatever is predicted.
    required: bool = False

    @abstractmethod
    def variants(self, variant: Variant, context: Context) -> Iterable[Variant]:
        """Other ways to run what a variant runs. The mitigator adds the variant itself, leaves out what is beyond the
        limits of the options, and takes what is predicted to be best.

        Args:
            variant: from the stages before.
            context: what is wanted, for which device, with how many shots.

        Raises:
            DescriptionError: what the user asks for cannot be done. A stage that is only not fit for a circuit gives no
                variants.
        """
