"""`pilot simulate`: what a policy does to waits, use and fidelity, on a virtual clock."""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pilot import registry
from pilot.cli import streams, tables
from pilot.cli.flags import flag, not_valid
from pilot.cli.output_files import check_file, check_folder, write
from pilot.errors import DescriptionError, invalid

if TYPE_CHECKING:
    from pilot.qos.simulation.log import Log
    from pilot.qos.simulation.scenarios import Settings

_NOTE = "simulated: fidelities are estimates, and other people's jobs are those of the trace where one is given"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The arguments of `pilot simulate`."""
    load = parser.add_argument_group("what comes").add_mutually_exclusive_group()
    load.add_argument("--poisson", action="store_true", help="jobs at independent times (default)")
    load.add_argument("--bursty", action="store_true", help="jobs in bursts, as scripts submit them")
    load.add_argument("--trace", metavar="FILE", help="queues of QPUs: CSV with qpu,time_utc,pending_jobs,active")
    load.add_argument("--swf", metavar="FILE", help="jobs of a cluster: a log in the Standard Workload Format")
    load.add_argument("--journal", metavar="DIR", help="own runs: the tasks of the session in this folder")
    parser.add_argument("--jobs", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--kinds", type=int, default=45, help="of circuits (default: %(default)s)")
    parser.add_argument("--load", type=float, default=0.85, help="part of the QPUs' time that jobs take (default: .85)")
    parser.add_argument("--interval", type=float, default=30.0, help="with --trace: seconds between two jobs")
    parser.add_argument("--qpus", type=int, default=8, help="how many (default: %(default)s)")
    parser.add_argument(
        "--policy", default="balanced", help="its name, or a TOML file with the tables [cores] and [qpus]"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the policy; again for another"
    )
    parser.add_argument("--share", type=float, default=0.0, help="part of the kinds of circuits that may share a QPU")
    parser.add_argument("--outages", metavar="UP,DOWN", help="QPUs fail: mean seconds between failures, and of one")
    parser.add_argument("--drift", type=float, metavar="SECONDS", help="between two calibrations, which change errors")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there; - writes them to standard output")
    parser.add_argument("--plots", metavar="DIR", help="also draw waits, use and fidelity there")
    _add_pilot_flags(parser)
    parser.set_defaults(call=lambda options: simulate(options))


def _add_pilot_flags(parser: argparse.ArgumentParser) -> None:
    pilots = parser.add_argument_group("pilots of nodes, with --swf and --journal")
    pilots.add_argument("--nodes", type=int, help="of a pilot (default: 120; with --journal the session's pilots)")
    pilots.add_argument("--cores", type=int, help="of a node (default: 2)")
    pilots.add_argument("--walltime", type=float, metavar="SECONDS", help="a pilot lasts so long (default: for ever)")
    pilots.add_argument("--renewals", type=int, default=0, help="successors of a pilot (default: 0)")
    pilots.add_argument("--queue-wait", type=float, default=0.0, metavar="SECONDS", help="before a pilot is active")
    pilots.add_argument("--autoscale", metavar="MIN,MAX", help="as many pilots as the queued tasks are worth")
    pilots.add_argument("--idle", type=float, default=60.0, metavar="SECONDS", help="until an idle one is given back")


def simulate(options: argparse.Namespace) -> int:
    """Run the simulation and show its figures."""
    from pilot.qos.simulation import scenarios

    settings = _settings(options)
    _check_outputs(options)
    cores, qpus = registry.policies(options.policy, **_policy_settings(options.set))
    began = time.process_time()
    log = scenarios.simulate(settings, cores, qpus, _say)
    seconds = time.process_time() - began
    figures = {
        **log.summary(),
        "us_per_job": 1e6 * seconds / max(1, len(log.submitted_at)),
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "sha256": log.sha256(),
    }
    drawn = []
    if options.plots is not None:
        from pilot.qos.simulation.drawing import draw

        drawn = draw(log, Path(options.plots))
    text = _json(settings, options, figures, log)
    written = options.json in (None, "-") or write(Path(options.json), text, "simulate: --json")
    if options.json == "-" or not written:
        sys.stdout.write(text)
    else:
        _show(options.policy, log, figures)
        print(*drawn, sep="\n", end="\n" * bool(drawn))
    for remark in log.remarks():
        _say(remark)
    return int(not written)


def _say(sentence: str) -> None:
    streams.say(f"pilot: simulate: {sentence}")


def _check_outputs(options: argparse.Namespace) -> None:
    if options.json is not None and streams.is_output(options.json):
        options.json = "-"  # the table would go over it
    if options.json not in (None, "-"):
        Path(options.json).absolute().parent.mkdir(parents=True, exist_ok=True)
        check_file("simulate: --json", options.json)
    if options.plots is not None:
        check_folder("simulate: --plots", options.plots)


def _settings(options: argparse.Namespace) -> Settings:
    from pilot.qos.simulation.scenarios import Settings

    given = {
        "arrivals": "bursty" if options.bursty else "poisson",
        "outages": _pair("outages", options.outages),
        "autoscale": _pair("autoscale", options.autoscale, int),
    }
    names = [field.name for field in msgspec.structs.fields(Settings) if field.name not in given]
    given |= {name: getattr(options, name) for name in names}
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        name = str(error).partition(" - at `$.")[2].partition("`")[0].partition("[")[0]
        text = getattr(options, name)
        reason = not_valid(Settings, name, text, f"simulate: {flag(name)}")
        raise DescriptionError(reason, field=name, given=text) from None


def _pair(name: str, text: str | None, kind: type = float) -> list[Any] | None:
    if text is None:
        return None
    try:
        first, second = map(kind, text.split(","))
    except ValueError:
        raise invalid(f"simulate: --{name}", text, "two numbers, such as 1,2") from None
    return [first, second]


def _policy_settings(words: list[str]) -> dict[str, Any]:
    """Settings as TOML values; what is no TOML value is a text."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise invalid("simulate: --set", word, "NAME=VALUE, such as c=0.9")
        try:
            found |= tomllib.loads(f"{name} = {value}")
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def _show(policy: str, log: Log, figures: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("figure", "value", title=f"{policy}: {len(log.places)} places", title_justify="left", caption=_NOTE)
    for key, value in figures.items():
        table.add_row(
            key, f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        )
    tables.show(table, 100)


def _json(settings: Settings, options: argparse.Namespace, figures: dict[str, Any], log: Log) -> str:
    import platform

    from pilot.version import versions

    busy = log.busy()
    content = {
        "name": "simulate",
        "configuration": msgspec.to_builtins(settings) | {"policy": options.policy, "set": options.set},
        "versions": versions(),
        "host": {"python": platform.python_version()},
        "note": _NOTE,
        "remarks": log.remarks(),
        "figures": {key: {"value": _finite(value)} for key, value in figures.items()},
        "rows": [
            {"place": place, "busy_seconds": float(seconds)} for place, seconds in zip(log.places, busy, strict=True)
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def _finite(value: Any) -> Any:
    """What JSON has no number for is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
