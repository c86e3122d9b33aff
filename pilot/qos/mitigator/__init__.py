"""The mitigator: fewer errors by running other circuits than the one that was given.

    mitigator = Mitigator(manager.qpus["fake:kolkata"], QosOptions(budget=3))
    choice = mitigator.choose(circuit, shots=12_288)
    print(choice.variant.name, choice.considered)

or, with everything that follows, ``TaskDescription(circuit=…, shots=12_288, qos=QosOptions())``. Stages offer variants:
other circuits whose outcomes add up to those of the circuit. Each variant is predicted on the device, and the best is
taken; the circuit as it is is one of them. The parts are those of QOS (arXiv 2406.19120, section 5). Unlike there, what
is compared is the predicted result for the shots that there are, not the number of cuts.

Read next: `variants` (what a way to run a circuit is), `stages` (what offers them), `goals` and `forecasts` (how they
are compared), `mitigator` (the search), `running` (how the best runs), `results`.
"""

from pilot.descriptions.qos import QosOptions
from pilot.qos.mitigator.forecasts import Forecast, Forecaster
from pilot.qos.mitigator.goals import Goal
from pilot.qos.mitigator.ising import Ising
from pilot.qos.mitigator.mitigator import Choice, Considered, Mitigator
from pilot.qos.mitigator.results import QosResult, Solution
from pilot.qos.mitigator.stages.stage import Context, QosStage
from pilot.qos.mitigator.variants import Replacement, Step, Variant

__all__ = [
    "Choice",
    "Considered",
    "Context",
    "Forecast",
    "Forecaster",
    "Goal",
    "Ising",
    "Mitigator",
    "QosOptions",
    "QosResult",
    "QosStage",
    "Replacement",
    "Solution",
    "Step",
    "Variant",
]
