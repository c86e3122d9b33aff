"""Variational algorithms: molecules (VQE) and cuts of graphs (QAOA), each step of the optimiser a task.

`app` has the mini-app, `problems` what a loop minimises, `molecules` and `graphs` the Hamiltonians and circuits,
`coordinates` the optimiser, `loops` how circuits and steps become tasks, `plots` the figure.
"""

from pilot_miniapps.variational.app import Variational

__all__ = ["Variational"]
