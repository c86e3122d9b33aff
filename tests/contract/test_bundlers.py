"""What every bundler promises (`BundlerContract`)."""

from __future__ import annotations

from pilot import registry
from pilot.qos.families import circuit
from pilot.qos.multiprogramming import MultiProgrammer
from pilot.testing import BundlerContract


class TestRegistered(BundlerContract):
    bundler = registry.load("pilot.bundlers", "circuit")()
    circuits = (circuit("ghz", 3), circuit("w", 3), circuit("bv", 3))


class TestByScore(BundlerContract):
    bundler = MultiProgrammer(buffer=0, max_loss=1.0, rank="score")
    circuits = (circuit("ghz", 3), circuit("bv", 3), circuit("w", 4))
