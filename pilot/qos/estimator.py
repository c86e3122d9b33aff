"""What is expected of circuits on QPUs and simulators: fidelity, seconds, bytes and cost, each with its spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pilot.qos.predictor import Prediction, Predictor
from pilot.qos.run_times import RunTimes
from pilot.quantum import costs
from pilot.resources import QPUEstimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit

    from pilot.qos.prices import PriceTable
    from pilot.resources import QPUInfo

#: Predicted bytes of simulations scatter by this share of them.
BYTES_SCATTER = 0.2


class Estimator:
    """Estimates circuits, and learns from those that have run.

    Args:
        prices: of the QPUs; None: costs are not known.
    """

    def __init__(self, prices: PriceTable | None = None) -> None:
        self.predictor = Predictor()
        self.run_times = RunTimes()
        self._prices = prices

    def estimate(
        self,
        circuit: QuantumCircuit,
        info: QPUInfo,
        *,
        shots: int | None,
        level: int = 2,
        values: NDArray[np.float64] | None = None,
    ) -> QPUEstimate:
        """What is expected of a circuit on a QPU. Takes tens of milliseconds, or less than one if it is known.

        Args:
            circuit: with its measurements.
            info: of the QPU; of a device with its calibration.
            shots: of the circuit; None: exact, on a simulator.
            level: Qiskit's optimization level.
            values: for its free parameters, in the order of ``circuit.parameters``.

        Raises:
            QPUError: the QPU cannot run the circuit.
            DescriptionError: it has too few qubits.
        """
        if info.simulator:
            return self._simulated(circuit, info, shots)
        return self.of_prediction(self.predictor.predict(circuit, info, level, values), info, shots or 1)

    def of_prediction(self, prediction: Prediction, info: QPUInfo, shots: int) -> QPUEstimate:
        """What a prediction means for this number of shots, with the times and prices of the QPU."""
        self.run_times.expect(info.name, info.rep_delay)
        seconds = None
        if prediction.duration is not None:
            seconds = self.run_times.estimate(info.name, shots, prediction.duration)
        found = QPUEstimate(
            info.name,
            fidelity=None if prediction.fidelity is None else prediction.fidelity.value,
            fidelity_spread=None if prediction.fidelity is None else prediction.fidelity.spread,
            seconds=None if seconds is None else seconds.seconds,
            seconds_spread=None if seconds is None else seconds.spread,
            calibrated=prediction.calibrated,
        )
        return self._priced(found, shots)

    def learn(self, prediction: Prediction, info: QPUInfo, shots: int, seconds: float) -> None:
        """A circuit that was predicted has run: it held the QPU for so many seconds."""
        self.run_times.expect(info.name, info.rep_delay)
        if prediction.duration is not None:
            self.run_times.learn(info.name, shots, prediction.duration, seconds)

    def _simulated(self, circuit: QuantumCircuit, info: QPUInfo, shots: int | None) -> QPUEstimate:
        """Without noise, by the fastest method."""
        best = simulation_of(circuit, shots)
        self.run_times.expect(info.name, simulator=True)
        time = self.run_times.estimate(info.name, 1, best.seconds)
        found = QPUEstimate(
            info.name,
            fidelity=1.0,
            fidelity_spread=0.0,
            seconds=time.seconds,
            seconds_spread=time.spread,
            memory=best.bytes,
            memory_spread=BYTES_SCATTER * best.bytes,
        )
        return self._priced(found, shots or 0)

    def _priced(self, found: QPUEstimate, shots: int) -> QPUEstimate:
        price = None if self._prices is None else self._prices.price_of(found.qpu)
        if price is None:
            return found
        cost, spread = price.cost(shots, found.seconds, found.seconds_spread)
        return msgspec.structs.replace(found, cost=cost, cost_spread=spread)


def simulation_of(circuit: QuantumCircuit, shots: int | None) -> costs.Estimate:
    """The fastest way to simulate a circuit, and what it is predicted to take."""
    options = costs.estimate(costs.facts(circuit), shots)
    return costs.choose(options) or options[0]
