"""What `pilot.qos.mitigator` is worth: structure, choice, fidelity, harm, wide circuits, frozen problems, cost.

`app` has the mini-app, `report` puts its figures together, each other file one study; `machine` runs variants on a
snapshot, `cases` has their circuits, `plots` the figures.
"""

from pilot_miniapps.qos_mitigator.app import QosMitigator

__all__ = ["QosMitigator"]
