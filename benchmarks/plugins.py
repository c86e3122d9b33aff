"""The contract suites of plugins: over the plugins that are built in, and over the examples of the guides.

The launchers of clusters run on a private Slurm, as in tests/cluster (root).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bench
import pytest

from pilot import registry
from pilot.testing import EngineContract, LauncherContract, PolicyContract, QPUContract

ROOT = Path(__file__).parents[1]
GUIDES = ("launcher", "engine", "qpu", "policy", "kind", "miniapp")
FILES = (
    *(f"tests/contract/test_{name}.py" for name in ("launchers", "engines", "qpus", "policies")),
    "tests/cluster/test_launcher_contract.py",
    "tests/integration/test_plugins.py",
)


class Suites:
    """A plugin of pytest: which plugins of ours passed all tests of their suite, and which guides theirs."""

    def __init__(self) -> None:
        #: By what was tested, as ("launcher", "slurm"): whether its tests passed. Those that are left out do not count.
        self.passed: dict[tuple[str, str], list[bool]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any) -> Iterator[None]:
        report: Any = yield
        if (subject := tested(item)) is not None and not report.skipped and (report.when == "call" or report.failed):
            self.passed.setdefault(subject, []).append(report.passed)
        return report

    def names(self, kind: str) -> list[str]:
        """Those that passed."""
        return sorted(name for (of, name), tests in self.passed.items() if of == kind and all(tests))


def tested(item: Any) -> tuple[str, str] | None:
    """What a test is about."""
    cls = item.cls or object
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if issubclass(cls, LauncherContract):
        return "launcher", cls.resource.partition("://")[0]
    if issubclass(cls, EngineContract):
        return "engine", cls.engine
    if issubclass(cls, QPUContract):
        return "qpu", cls.name.partition(":")[0]
    if issubclass(cls, PolicyContract) and parameters.get("chosen") in registry.names("pilot.policies"):
        return "policy", parameters["chosen"]
    if item.path.name == "test_plugins.py" and "kind" in parameters:
        return "guide", parameters["kind"]
    return None


def main() -> None:
    options = _bench.arguments(__doc__, engines=(), repeat=1).parse_args()
    suites = Suites()
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main(["-q", "-p", "no:cacheprovider", *(str(ROOT / file) for file in FILES)], plugins=[suites])
    bars = {
        "guide": ("guides_passed", len(GUIDES)),
        "launcher": ("launchers_in_suite", 4),
        "policy": ("policies_in_suite", len(registry.names("pilot.policies"))),
        "engine": ("engines_in_suite", len(registry.names("pilot.engines"))),
        "qpu": ("qpus_in_suite", len(registry.names("pilot.qpus"))),
    }
    figures: dict[str, tuple[float | list[float], _bench.Bar | None]] = {
        key: (len(suites.names(kind)), _bench.Bar("==", bar)) for kind, (key, bar) in bars.items()
    }
    rows = [
        {"kind": kind, "name": name, "tests": len(tests), "passed": sum(tests)}
        for (kind, name), tests in sorted(suites.passed.items())
    ]
    _bench.report("plugins", figures, rows=rows, configuration={}, file=options.json)


if __name__ == "__main__":
    main()
