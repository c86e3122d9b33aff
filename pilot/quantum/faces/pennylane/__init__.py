"""PennyLane over a manager: the device ``pilot.qubit``.

Read `device` first; `simulators` is what its tapes run on where no QPU is named, `circuits` how they become circuit
tasks where one is.
"""

from pilot.quantum.faces.pennylane.device import PilotQubit

__all__ = ["PilotQubit"]
