"""`pilot qpus --estimate FILE`: what is expected of a circuit on each QPU."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilot.cli import streams, tables
from pilot.errors import DescriptionError, error_text, file_error

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from pilot.resources import QPUEstimate, QPUInfo

#: Shots that are estimated for by default.
SHOTS = 4000
#: The compiler's optimization level, where it is not given.
LEVEL = 2


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pilot qpus` that are about estimates."""
    parser.add_argument(
        "--estimate",
        metavar="FILE",
        help="estimate this circuit on each QPU: OpenQASM 2 and 3, OriginIR or QIR; - reads standard input",
    )
    parser.add_argument("--shots", type=int, default=SHOTS, help=f"shots to estimate for (default: {SHOTS})")
    parser.add_argument(
        "--optimization-level", type=int, default=LEVEL, choices=range(4), help=f"of the compiler (default: {LEVEL})"
    )
    parser.add_argument(
        "--prices", metavar="FILE", help="TOML file with the prices of the QPUs (default: $QUANTUM_PILOT_PRICES)"
    )


def is_wanted(options: argparse.Namespace) -> bool:
    """True with ``--estimate``; raises DescriptionError where a flag is given that goes with it alone."""
    usual = {"shots": SHOTS, "optimization_level": LEVEL, "prices": None}
    for name, value in usual.items() if options.estimate is None else ():
        if (given := getattr(options, name)) != value:
            flag = f"--{name.replace('_', '-')}"
            raise DescriptionError(f"qpus: {flag} {given}: it needs --estimate FILE", field=name, given=given)
    return options.estimate is not None


def show(options: argparse.Namespace) -> int:
    """Print a table, or JSON.

    Returns:
        0, or 1 when one of the QPUs cannot be opened, or cannot run the circuit.

    Raises:
        DescriptionError: a file cannot be read, or no QPU is named.
    """
    from pilot.qos.asking import ask
    from pilot.qos.estimator import Estimator
    from pilot.qos.prices import PriceTable

    if not options.names:
        raise DescriptionError("qpus: --estimate needs the names of QPUs, such as fake:kolkata", field="names")
    if options.shots < 1:
        raise DescriptionError(f"qpus: --shots {options.shots} is not valid; expected at least 1", field="shots")
    circuit = _circuit(options.estimate)
    prices = PriceTable.from_toml(options.prices) if options.prices else PriceTable.of_user()
    estimator = Estimator(prices)
    found: list[tuple[QPUInfo, QPUEstimate]] = []
    problems: dict[str, str] = {}
    for name in options.names:
        try:
            info = ask(name)
            its = estimator.estimate(circuit, info, shots=options.shots, level=options.optimization_level)
            found.append((info, its))
        except Exception as error:  # of its vendor's packages
            problems[name] = error_text(error)
    currency = None if prices is None else prices.currency
    if options.json:
        estimates = [msgspec.structs.asdict(one) | {"wait": info.expected_wait} for info, one in found]
        whole = {"estimates": estimates, "problems": problems, "currency": currency, "shots": options.shots}
        print(json.dumps(whole, indent=2))
    else:
        _show_table(found, currency)
        _show_problems(problems)
    return int(bool(problems))


def _show_problems(problems: Mapping[str, str]) -> None:
    for name, problem in problems.items():
        streams.say(f"{name}: {problem}")


def _circuit(name: str) -> QuantumCircuit:
    """All qubits are measured where the file measures none."""
    from pilot.interfaces.qpus import measures
    from pilot.quantum.programs import load  # brings Qiskit

    try:
        text = streams.read_input() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptionError(
            f"qpus: {name} cannot be read: {file_error(error)}", field="estimate", given=name
        ) from None
    try:
        circuit = load(text).to_qiskit()
    except DescriptionError as error:
        raise DescriptionError(f"qpus: {name}: {error}", **error.data) from error
    if names := ", ".join(parameter.name for parameter in circuit.parameters):
        raise DescriptionError(
            f"qpus: {name}: parameters without a value ({names}) cannot be estimated: write numbers for them",
            field="estimate",
            given=name,
        )
    if not measures(circuit):
        circuit.measure_all()
    return circuit


def _show_table(found: Sequence[tuple[QPUInfo, QPUEstimate]], currency: str | None) -> None:
    from rich.table import Table

    table = Table("QPU", "fidelity", "seconds", "wait", "memory", "cost")
    for info, one in sorted(found, key=lambda pair: -(pair[1].fidelity or 0.0)):
        table.add_row(
            one.qpu,
            _with_spread(one.fidelity, one.fidelity_spread, 3),
            _with_spread(one.seconds, one.seconds_spread, 2),
            "unknown" if info.expected_wait is None else f"{info.expected_wait:.0f} s",
            "" if one.memory is None else f"{one.memory / 2**20:.3g} MiB",
            _with_spread(one.cost, one.cost_spread, 2) + (f" {currency}" if one.cost is not None else ""),
        )
    if found:
        tables.show(table, 120)


def _with_spread(value: float | None, spread: float | None, digits: int) -> str:
    if value is None:
        return "unknown"
    return f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
