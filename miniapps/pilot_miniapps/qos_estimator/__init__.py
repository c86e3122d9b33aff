"""How well `pilot.qos` estimates circuits, and what that costs.

`app` has the mini-app; `accuracy`, `ladder`, `cost`, `drift` and `run_times` its studies; `ranking` says how good an
order of QPUs is, `devices` what a study needs of them, `plots` has the figure.
"""

from pilot_miniapps.qos_estimator.app import QosEstimator

__all__ = ["QosEstimator"]
