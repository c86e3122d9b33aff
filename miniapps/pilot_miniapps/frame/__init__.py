"""What a mini-app is: one frozen configuration, a function that makes tasks, an oracle, and a figure.

A mini-app is a subclass of `MiniApp`, registered as an entry point of the group ``pilot.miniapps``. `execute` runs it
once; `pilot run` does, too, with presets, scaling, and a run that continues after it was killed.
"""

from __future__ import annotations

from pilot_miniapps.frame.execution import execute
from pilot_miniapps.frame.figures import Bar, Figure, Oracle, Outcome, met
from pilot_miniapps.frame.miniapp import MiniApp
from pilot_miniapps.frame.running import Run

__all__ = ["Bar", "Figure", "MiniApp", "Oracle", "Outcome", "Run", "execute", "met"]
