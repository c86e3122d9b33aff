"""`pilot submit`: runs circuit files from the command line or a batch script, on pilots of its own.

A pilot is described as for the mini-apps (`PilotDescription.from_text`). The default is this machine, or inside a batch
job the whole of its allocation.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pilot import registry
from pilot.cli import remote, streams
from pilot.cli.output_files import check_file, write
from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import DescriptionError, PluginError, file_error, text_of
from pilot.manager.manager import PilotManager

if TYPE_CHECKING:
    import argparse

    from pilot.cli.interruption import Interruption
    from pilot.manager.handles import Task

#: How many outcomes of each circuit are shown.
SHOWN = 12
#: How often to check for a signal, in seconds.
LOOK_SECONDS = 0.1


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `pilot submit`."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="circuits in OpenQASM 2, OpenQASM 3, OriginIR or QIR; - reads one from standard input",
    )
    parser.add_argument(
        "--format", help="format of the files: openqasm2, openqasm3, originir or qir (default: detected for each file)"
    )
    parser.add_argument(
        "--shots", type=int, help="number of samples of each circuit (default: exact results, from a simulator)"
    )
    parser.add_argument(
        "--qpu", help="QPU that runs the circuits, such as fake:kolkata or ibm:ibm_fez (default: aer, a simulator)"
    )
    parser.add_argument(
        "--observable",
        action="append",
        default=[],
        metavar="PAULIS",
        help="compute the expectation value of this Pauli string, such as ZZI (the last letter is for qubit 0); may be "
        "repeated",
    )
    parser.add_argument("--tomography", action="store_true", help="reconstruct the state that each circuit prepares")
    parser.add_argument(
        "--mitigation",
        metavar="NAMES",
        help="error mitigation: names out of readout, twirling, dd and zne, separated by commas, in this order",
    )
    parser.add_argument(
        "--share-qpu", action="store_true", help="circuits of several tasks may run side by side on the QPU"
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        default=2,
        metavar="LEVEL",
        help="how much the compiler optimizes the circuits, 0 to 3 (default: 2)",
    )
    parser.add_argument("--seed", type=int, help="seed of the random samples of simulators")
    parser.add_argument(
        "--pilot",
        action="append",
        default=[],
        help="pilot that runs the circuits, such as ray:4, slurm://ray:4:2 or site.toml:cpu; may be repeated (default: "
        "all cores of this machine; inside a batch job, all of the job)",
    )
    remote.add_server_flags(parser)
    parser.add_argument("--json", metavar="FILE", help="write all results to FILE; - writes them to standard output")


def submit(options: argparse.Namespace, interruption: Interruption) -> int:
    """Run the circuits, write the file that was asked for, and show what came out.

    A signal that tells this process to end cancels what is not done; what is done is written and shown all the same.

    Returns:
        0, or 1 when a circuit failed or the file cannot be written.

    Raises:
        DescriptionError: a flag is wrong, or a file cannot be read.
        Interrupted: a signal came before all was done.
        OSError: standard output takes nothing, and nothing else was asked for.
    """
    if options.json is not None and streams.is_output(options.json):
        options.json = "-"  # the table would go over it
    _check(options)
    texts = [_text(name) for name in options.files]
    if options.server:
        return remote.submit(options, texts)
    remote.check_no_server(options)
    pilots = [_pilot(text, options.qpu) for text in options.pilot] or [_pilot(_usual(), options.qpu)]
    _check_devices(options, pilots)
    wanted = [_task(name, text, options) for name, text in zip(options.files, texts, strict=True)]
    file = None if options.json in (None, "-") else Path(options.json)
    plain = file is not None and (file.is_file() or not file.exists())
    written = False
    interruption.check()
    with (
        interruption.put_off(),
        contextlib.closing(PilotManager(progress=sys.stderr.isatty(), wait_for_pilot=0)) as manager,
    ):
        records = _run(manager, pilots, wanted, options.files, interruption)
        text = json.dumps(records, indent=2) + "\n"
        if file is not None and plain:
            written = write(file, text, "submit: --json")
    stopped = interruption.number is not None
    if file is not None and not plain:  # a pipe or a device may take for ever: here a signal ends that
        written = write(file, text, "submit: --json")
    if options.json is not None and not written:
        sys.stdout.write(text)
    else:
        _show_all(records, written)
    if stopped:
        interruption.check()
    return int((file is not None and not written) or any("error" in record for record in records))


def _run(
    manager: PilotManager,
    pilots: list[PilotDescription],
    wanted: list[TaskDescription],
    names: list[str],
    interruption: Interruption,
) -> list[dict[str, Any]]:
    """A record of each circuit, when all have run or a signal has come."""
    for pilot in pilots:
        manager.submit_pilot(pilot)
    tasks: list[Task] = []
    for one in wanted:
        if interruption.number is None:  # no shots are bought any more then
            tasks.append(manager.submit_task(one))
    while interruption.number is None and manager.wait_tasks(tasks, LOOK_SECONDS)[1]:
        pass
    return [_record(name, task) for name, task in zip_longest(names, tasks)]


def _show_all(records: list[dict[str, Any]], written: bool) -> None:
    """The table; the reader of the file may stop reading it."""
    try:
        for record in records:
            _show(record)
        sys.stdout.flush()
    except BrokenPipeError:
        if not written:
            raise
        streams.give_up_output()


def _check(options: argparse.Namespace) -> None:
    """What would else be found out when all has run."""
    if options.files.count("-") > 1:
        raise DescriptionError("submit: - stands for standard input, which can be read once", field="files")
    if options.json == "-" and not streams.has_output():
        raise DescriptionError("submit: --json -: standard output is closed; name a file", field="json")
    if options.json not in (None, "-"):
        file = Path(options.json).absolute()
        check_file("submit: --json", options.json)
        if any(file.exists() and Path(name).exists() and file.samefile(name) for name in options.files):
            raise DescriptionError(f"submit: --json {options.json}: this is a file to read", field="json")


def _check_devices(options: argparse.Namespace, pilots: list[PilotDescription]) -> None:
    """What only devices do, and what they do not, in the words of the flags."""
    try:
        devices = {name for pilot in pilots for name in registry.devices(pilot)}
    except PluginError as error:
        raise DescriptionError(f"submit: {error}", field="qpu") from error
    if options.mitigation and not devices:
        raise DescriptionError("submit: --mitigation needs a QPU: add --qpu fake:kolkata, or another one", field="qpu")
    if options.share_qpu and options.qpu in (None, "aer"):
        raise DescriptionError("submit: --share-qpu needs a QPU: add --qpu fake:kolkata, or another one", field="qpu")
    if options.shots is None and (options.qpu == "*" or options.qpu in devices):
        raise DescriptionError("submit: a device has no exact results: add --shots 1000", field="shots")


def _task(name: str, text: str, options: argparse.Namespace) -> TaskDescription:
    from pilot.interfaces.qpus import measures
    from pilot.quantum.programs import load  # brings Qiskit

    try:
        program = load(text, format=options.format)
    except DescriptionError as error:
        raise DescriptionError(f"submit: {name}: {error}", **error.data) from error
    circuit = program.to_qiskit()
    if not options.observable and not options.tomography and not measures(circuit):
        raise DescriptionError(f"submit: {name} measures nothing: measure in the file, or add --observable ZZ")
    circuit.name = shown = os.fsencode(name).decode("utf-8", "backslashreplace")  # errors name it
    qpu = options.qpu or (None if options.mitigation else "aer")
    return TaskDescription(
        circuit=circuit,
        shots=options.shots,
        observables=options.observable,
        tomography=options.tomography,
        qpu=qpu,
        mitigation=tuple(options.mitigation.split(",")) if options.mitigation else (),
        share_qpu=options.share_qpu,
        optimization_level=options.optimization_level,
        seed=options.seed,
        name=shown,
    )


def _text(name: str) -> str:
    try:
        return streams.read_input() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = file_error(error)
        raise DescriptionError(f"submit: {name} cannot be read: {reason}", field="files", given=name) from None


def _usual() -> str:
    """Inside a job its whole allocation; else this machine."""
    return registry.job_environment().whole_allocation() or f"process:{len(os.sched_getaffinity(0))}"


def _pilot(text: str, qpu: str | None) -> PilotDescription:
    """The pilot; the QPU is its own where it has none."""
    described = PilotDescription.from_text(text)
    if qpu in (None, "aer", "*") or described.qpus:
        return described
    return msgspec.structs.replace(described, qpus=(qpu,))


def _record(name: str, task: Task | None) -> dict[str, Any]:
    record: dict[str, Any] = {"file": name, "pilot": None, "qpu": None, "seconds": None}
    if task is not None:
        info = task.info
        record |= {"pilot": info.pilot, "qpu": info.qpu, "seconds": info.seconds}
    if task is None or not task.done():
        return record | {"error": "cancelled"}
    try:
        result = task.result()
    except Exception as error:
        return record | {"error": f"{type(error).__name__}: {text_of(error)}"}
    if hasattr(result, "get_counts"):
        return record | {"shots": result.shots, "counts": result.get_counts()}
    if hasattr(result, "density_matrix"):
        matrix = result.density_matrix
        parts = {"real": matrix.real.tolist(), "imaginary": matrix.imag.tolist()}
        return record | {"density_matrix": parts, "purity": result.purity}
    return record | {"values": result.values.tolist(), "standard_errors": result.standard_errors.tolist()}


def _show(record: dict[str, Any]) -> None:
    where = record["qpu"] or record["pilot"]
    print(f"{record['file']} on {where}" if where else record["file"])
    if "error" in record:
        print(f"  {record['error']}")
    elif "counts" in record:
        counts = sorted(record["counts"].items(), key=lambda item: (-item[1], item[0]))
        for outcome, count in counts[:SHOWN]:
            print(f"  {outcome}  {count:g}")
        if len(counts) > SHOWN:
            print(f"  … and {len(counts) - SHOWN} more outcomes")
    elif "values" in record:
        for value, error in zip(record["values"], record["standard_errors"], strict=True):
            print(f"  {value:+.6f} ± {error:.6f}")
    else:
        print(f"  purity {record['purity']:.6f}; the density matrix is in the file of --json")
