"""Which QPU for which circuit: what is expected of a circuit on each of them, and policies that choose by it.

Needs the extra ``qos``. Read next: `qernel` (a circuit that is to run), `estimator` (what is expected of it).
"""
