"""Random circuits with random observables on simulators and QPUs: how long they take, by width and device.

`app` has the mini-app, `settings` what can be chosen, `workload` its circuits, `devices` where they run, `measured`
what comes out, `oracles` what that is compared with, `plots` the figure.
"""

from pilot_miniapps.circuit_execution.app import CircuitExecution

__all__ = ["CircuitExecution"]
