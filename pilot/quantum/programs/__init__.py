"""Circuits in every common form: `load` reads them, `Program.dumps` writes them.

Read `program` first, then `parsing`, then one of the formats: `openqasm2`, `openqasm3`, `originir`, `qir`,
`pennylane_tapes`. `sandbox` parses untrusted texts in another process, whose side is `child`. `definitions` and
`conditions` are what the formats share, `problems` their errors.
"""

from pilot.quantum.programs.program import Program, load

__all__ = ["Program", "load"]
