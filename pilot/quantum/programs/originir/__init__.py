"""OriginIR, the language of Origin Quantum's machines: in by `loads`, out by `dumps`.

Three dialects are in use: those of QPanda 2, of pyqpanda3 and of QPanda-lite. `loads` takes what any of them
takes, and the functional notation of the cloud's documentation (``RY(q[0], 0.1)``); `dumps` writes what the
first two read alike. Read `gates` (the matrices), `syntax` (text to statements), `building` (statements to a
circuit), `writing`, `words` (conditions).
"""

from pilot.quantum.programs.originir.building import loads
from pilot.quantum.programs.originir.writing import dumps

__all__ = ["dumps", "loads"]
