"""Circuit cutting: figure 5 of the Pilot-Quantum paper.

`problem`: which circuit and which value. `runs`: the cut circuit on pilots, and the work in it. `whole`: the circuit
without cuts. `app`: the mini-app. `drawing`: its plot.
"""

from pilot_miniapps.circuit_cutting.app import CircuitCutting, Settings

__all__ = ["CircuitCutting", "Settings"]
