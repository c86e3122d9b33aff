"""Random faults among tasks with known results, on real pilots: is every task still right, once, and all cleaned up?

    python benchmarks/chaos.py --seeds 20261129000-20261129099 --engine process [--json FILE]

A seed stands for a schedule (`_chaos_plan`): a session of 300 to 900 tasks (`_chaos_tasks`) on one or two pilots, and 4
to 10 deeds, each done when so many tasks have begun: processes are killed and stopped, the disk is full for a while (a
small tmpfs, as root), pilots and tasks come, drain and are cancelled, the manager is killed and another one attaches,
the session is closed early. ``--site slurm`` takes pilots of two nodes of a private Slurm, where the second node is cut
off, too. `_chaos_checks` has what must hold then. For each violation the seed, the invariant and the command that runs
the schedule again are printed. What happens between two deeds is up to the machine: a schedule fixes what is done
when, not which task runs then.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bench
import _chaos_checks
import _chaos_plan
import _chaos_run


def seeds(text: str) -> list[int]:
    """The seeds of a text such as "7" or "100-124"."""
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; expected a seed such as 7, or A-B with A <= B")
    return list(range(int(first), int(last or first) + 1))


def count(text: str) -> int:
    """A number of tasks or deeds from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; expected a whole number from 1 on")
    return int(text)


def measured(schedule: _chaos_plan.Schedule, cluster: Any, again: str, logs: Path | None) -> dict[str, Any]:
    """The row of a schedule; says what it violates."""
    evidence = _chaos_run.run(schedule, cluster, logs)
    found = _chaos_checks.violations(evidence)
    for invariant, text in found:
        sys.stdout.write(f"seed {schedule.seed}: {invariant}: {text}\n")
    if found:
        sys.stdout.write(f"  run it again with: {again}\n")
    states = [state for state, _ in evidence.ends.values()]
    row = {
        "seed": schedule.seed,
        "tasks": len(states),
        "done": states.count("done"),
        "failed": states.count("failed"),
        "cancelled": states.count("cancelled"),
        "lost attempts": sum(reason != "it raised" for one in evidence.attempts.values() for reason, _ in one),
        "deeds": len(evidence.done),
        "attaches": len(evidence.attached),
        "memory MiB": round(evidence.memory_growth),
        "threads": evidence.thread_growth,
        "seconds": round(evidence.seconds, 1),
        "violations": [f"{invariant}: {text}" for invariant, text in found],
    }
    sys.stderr.write(f"  {row}\n")
    return row


@contextlib.contextmanager
def clusters(site: str) -> Iterator[Any]:
    """The private Slurm, where one is needed."""
    if site == "local":
        yield None
        return
    import _cluster

    with _cluster.slurm() as cluster:
        yield cluster


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds, required=True, metavar="A-B", help="a seed, or the first and the last")
    parser.add_argument("--engine", choices=["process", "ray", "dask"], default="process")
    parser.add_argument("--site", choices=["local", "slurm"], default="local")
    parser.add_argument("--tasks", type=count, help="of each schedule; default: 300 to 900")
    parser.add_argument("--deeds", type=count, help="of each schedule; default: 4 to 10")
    parser.add_argument("--show", action="store_true", help="print the schedules, and run none")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the logs of managers and agents there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what it has started ends with it
    settings = {"site": options.site, "tasks": options.tasks, "faults": options.deeds}
    schedules = [_chaos_plan.plan(seed, options.engine, **settings) for seed in options.seeds]
    if options.show:
        for schedule in schedules:
            sys.stdout.write(f"seed {schedule.seed}: {schedule}\n")
        return
    given = f"--engine {options.engine} --site {options.site}"
    for name in ("tasks", "deeds"):
        if (value := getattr(options, name)) is not None:
            given += f" --{name} {value}"
    rows = []
    with clusters(options.site) as cluster:
        for schedule in schedules:
            again = f"python benchmarks/chaos.py --seeds {schedule.seed} {given}"
            rows.append(measured(schedule, cluster, again, options.logs))
    _bench.report(
        f"chaos {options.engine} {options.site}",
        {
            "schedules": (len(rows), None),
            "violations": (sum(len(row["violations"]) for row in rows), _bench.Bar("==", 0)),
            "lost_attempts": (sum(row["lost attempts"] for row in rows), None),
            "attaches": (sum(row["attaches"] for row in rows), None),
        },
        rows=rows,
        configuration={"engine": options.engine, "seeds": [options.seeds[0], options.seeds[-1]], **settings},
        file=options.json,
    )


if __name__ == "__main__":
    main()
