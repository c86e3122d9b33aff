"""Random circuits with random observables on simulators and QPUs: how long they take, by width and device.

`app` has the mini-app, `workload` its circuits, `devices` where they run, `oracles` what the values are compared with,
`plots` the figure.
"""

from pilot_miniapps.circuit_execution.app import CircuitExecution

__all__ = ["CircuitExecution"]
