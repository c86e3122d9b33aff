"""`pilot qpus`: the properties and the status of QPUs, asked from this machine."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import msgspec

from pilot import registry
from pilot.cli import estimates, streams, tables
from pilot.errors import PluginError, error_text
from pilot.qos.asking import ask
from pilot.registry import GROUP
from pilot.resources import QPUInfo

#: What may follow the colon of each scheme, with examples.
_ADDRESSES = {
    "aer": "a simulation method, or nothing: aer, aer:matrix_product_state",
    "fake": "a simulated copy of an IBM QPU: fake:kolkata, fake:manila?queue=2",
    "ibm": "a QPU in IBM's cloud: ibm:ibm_fez",
    "qrmi": "a QPU that Slurm allocates: qrmi:ibm_fez",
    "qiskit": "a Qiskit backend, or a provider and a backend: qiskit:module:object",
    "pennylane": "a PennyLane device: pennylane:lightning.qubit",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pilot qpus`."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="address of a QPU, such as fake:kolkata (default: list the kinds of addresses)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    estimates.add_flags(parser)
    parser.set_defaults(
        call=lambda options: (
            estimates.show(options) if estimates.is_wanted(options) else show(options.names, options.json)
        )
    )


def show(names: Sequence[str], as_json: bool) -> int:
    """Show the properties and the status of each of these QPUs; without names, list the kinds of addresses.

    Returns:
        0, or 1 when one cannot be opened.
    """
    if not names:
        return _show_kinds()
    infos: list[QPUInfo] = []
    problems: dict[str, str] = {}
    for name in names:
        try:
            infos.append(msgspec.structs.replace(ask(name), calibration=None))  # thousands of numbers
        except Exception as error:  # of its vendor's packages
            problems[name] = error_text(error)
    if as_json:
        print(json.dumps(msgspec.to_builtins({"qpus": infos, "problems": problems}), indent=2))
    else:
        _show_table(infos)
        for name, problem in problems.items():
            streams.say(problem if name in problem else f"{name}: {problem}")
    return int(bool(problems))


def _show_kinds() -> int:
    for scheme in registry.names(GROUP):
        try:
            registry.check(GROUP, scheme)
            state = ""
        except PluginError as error:
            state = f" ({error})"
        print(f"{scheme:<10} {_ADDRESSES.get(scheme, '')}{state}")
    print("`pilot qpus NAME ...` shows the properties and the status of QPUs.")
    return 0


def _show_table(infos: Sequence[QPUInfo]) -> None:
    from rich.table import Table

    table = Table("QPU", "qubits", "error 1q", "error 2q", "readout", "T1", "T2", "calibrated", "takes jobs", "wait")
    for info in infos:
        table.add_row(
            info.name,
            str(info.qubits),
            *(_rate(rate) for rate in (info.error_1q, info.error_2q, info.error_readout)),
            *("" if time is None else f"{time * 1e6:.0f} µs" for time in (info.t1, info.t2)),
            "" if info.calibrated is None else f"{age(time.time() - info.calibrated)} ago",
            {True: "yes", False: "no", None: "unknown"}[info.accepts_jobs],
            "unknown" if info.expected_wait is None else f"{info.expected_wait:.0f} s",
        )
    if infos:
        tables.show(table, 140)


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.2e}"


def age(seconds: float) -> str:
    """A time span in a unit that fits it."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} seconds"
