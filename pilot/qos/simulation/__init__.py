"""A virtual clock around the controller: what a policy does to waits, use and fidelity, without QPUs and without time.

It runs the same `Controller`, policies and estimates as a manager does; only pilots are simulated. Read next:
`simulator` (the clock), `sites` (what pilots do), `jobs` (what arrives), `log` (what came of it).
"""
