"""`pilot submit --server URL` and `pilot task`: circuits and tasks of a service."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilot.cli import streams
from pilot.cli.output_files import write
from pilot.errors import DescriptionError, PilotError, PluginError, file_error

if TYPE_CHECKING:
    from pilot.service.client import RemoteTask, ServiceClient

#: Seconds for which a service that is being started again is waited for.
_RETRY_SECONDS = 30.0


def add_server_flags(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """The flags that say which service, and who asks."""
    parser.add_argument("--server", metavar="URL", required=required, help="the service, such as http://127.0.0.1:8470")
    parser.add_argument(
        "--token-file", metavar="FILE", help="file with the token (default: the variable QUANTUM_PILOT_TOKEN)"
    )
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust (PEM)")


def check_no_server(options: argparse.Namespace) -> None:
    """Raise DescriptionError where a flag is given that goes with ``--server`` alone, and that is not."""
    for flag, given in (("--token-file", options.token_file), ("--ca", options.ca)):
        if given is not None:
            raise DescriptionError(f"submit: {flag} {given}: it needs --server URL", field=flag, given=given)


def add_task_flags(parser: argparse.ArgumentParser) -> None:
    """The commands of `pilot task`."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, call, text in (
        ("status", status, "show the state of tasks, and the steps that they have taken"),
        ("result", result, "wait for results, and print them as JSON"),
        ("cancel", cancel, "end tasks"),
        ("explain", explain, "say why tasks went where they went, or why they wait"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("ids", nargs="+", metavar="ID")
        add_server_flags(one, required=True)
        if name == "result":
            one.add_argument("--timeout", type=float, help="seconds to wait at most (default: for ever)")
        one.set_defaults(call=call)


def client(options: argparse.Namespace) -> ServiceClient:
    """The service that was named.

    Raises:
        DescriptionError: there is no token.
        PluginError: httpx is not installed.
    """
    if importlib.util.find_spec("httpx") is None:
        raise PluginError("--server needs more packages: pip install 'quantum-pilot[service]'")
    from pilot.service.client import ServiceClient

    token = None
    if options.token_file:
        try:
            token = Path(options.token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DescriptionError(f"--token-file {options.token_file} cannot be read: {file_error(error)}") from None
        if not token:
            raise DescriptionError(f"--token-file {options.token_file} is empty; expected a token", field="token")
    return ServiceClient(options.server, token, verify=options.ca or True, retry_seconds=_RETRY_SECONDS)


def submit(options: argparse.Namespace, texts: list[str]) -> int:
    """Send circuits, one a text, and print their tasks' ids: `pilot task result` waits for the results.

    Raises:
        DescriptionError: the service says that a value is not valid.
        SessionError: it cannot be reached.
    """
    if options.pilot:
        raise DescriptionError("submit: --pilot: a service has pilots of its own; leave it out with --server")
    given = {
        "format": options.format,
        "shots": options.shots,
        "qpu": options.qpu,
        "observables": options.observable,
        "tomography": options.tomography,
        "mitigation": options.mitigation.split(",") if options.mitigation else [],
        "share_qpu": options.share_qpu,
        "optimization_level": options.optimization_level,
        "seed": options.seed,
    }
    with client(options) as service:
        names = [name[-200:] for name in options.files]
        works = [{**given, "program": text, "name": name} for text, name in zip(texts, names, strict=True)]
        tasks = service.submit_tasks(works)
        lines = [f"{task.id}  {name}" for task, name in zip(tasks, options.files, strict=True)]
        if options.json is None:
            print(*lines, sep="\n")
            return 0
        for line in lines:  # who ends the waiting finds the tasks by these
            streams.say(line)
        records = [{"file": name, **_record(task, None)} for task, name in zip(tasks, options.files, strict=True)]
    text = json.dumps(records, indent=2) + "\n"
    written = options.json != "-" and write(Path(options.json), text, "submit: --json")
    if not written:
        sys.stdout.write(text)
    return int((options.json != "-" and not written) or any("error" in record for record in records))


def _record(task: RemoteTask, timeout: float | None) -> dict[str, Any]:
    """What became of a task: its results, or its error."""
    try:
        error = task.exception(timeout)
    except TimeoutError as late:
        error = late
    record: dict[str, Any] = {"id": task.id, "state": task.state, "qpu": task.info["qpu"]}
    if error is not None:
        return record | {"error": f"{type(error).__name__}: {error}"}
    return record | {"results": task.service_results()}


def status(options: argparse.Namespace) -> int:
    """`pilot task status`: prints states and steps."""
    with client(options) as service:
        for id in options.ids:
            info = service.task(id).info
            where = f" on {info['qpu']}" if info["qpu"] else ""
            print(f"{id}  {info['state']}{where}")
            if info["error"]:
                print(f"  {info['error']['message']}")
            print("  " + " → ".join(step["step"] for step in info["steps"]))
    return 0


def result(options: argparse.Namespace) -> int:
    """`pilot task result`: waits, and prints results as JSON; 1 when a task has none."""
    with client(options) as service:
        records = [_record(service.task(id), options.timeout) for id in options.ids]
    print(json.dumps(records, indent=2))
    return int(any("error" in record for record in records))


def cancel(options: argparse.Namespace) -> int:
    """`pilot task cancel`: ends tasks; 1 when one cannot be ended."""
    code = 0
    with client(options) as service:
        for id in options.ids:
            try:
                is_cancelled = service.task(id).cancel()
            except PilotError as error:
                streams.say(f"{id}: {error}")
                code = 1
                continue
            print(f"{id}  {'cancelled' if is_cancelled else service.task(id).state}")
    return code


def explain(options: argparse.Namespace) -> int:
    """`pilot task explain`: prints why tasks went where they went, or why they wait."""
    with client(options) as service:
        for id in options.ids:
            print(f"{id}  {service.explain(id)}")
    return 0
