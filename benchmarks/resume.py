"""Mini-apps that are killed with -9 at random moments and resumed: what ran twice, and whether the results are equal.

    python benchmarks/resume.py [--apps NAME ...] [--moments 3] [--seed 1] [--json FILE]

Each mini-app runs with its preset "small" ("laptop" where it has none): once undisturbed, then once for each moment.
There the process of the command, and nothing else, gets SIGKILL; its pilots go on. Then the same command runs again
with ``--resume``.

`ran_twice` counts what ran to its end in a worker more often than it should, by a count that the workers write
themselves (``_executions/sitecustomize.py``): a task of the session that ended twice, or work (function and arguments)
that ended more often than in the undisturbed run. What only warms workers up does not count. `results_equal` compares
`results` in ``report.json`` with the undisturbed run's.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _bench

EXECUTIONS = Path(__file__).resolve().parent / "_executions"
#: Seconds that one run may take.
MOST_SECONDS = 900.0


@dataclasses.dataclass
class Attempt:
    """One mini-app, killed once."""

    name: str
    moment: float
    killed: bool
    code: int
    twice: int
    equal: bool


class Case:
    """One mini-app, and the folder for its runs."""

    def __init__(self, name: str, folder: Path) -> None:
        from pilot import registry

        self.name, self.folder = name, folder
        self._class = registry.load("pilot.miniapps", name)
        self.preset = "small" if "small" in self._class.presets else "laptop"

    def command(self, run: str) -> list[str]:
        return [
            *(sys.executable, "-m", "pilot.cli", "run", self.name),
            *("--preset", self.preset, "--output", str(self.folder / run)),
        ]

    def start(self, run: str, *more: str) -> subprocess.Popen[bytes]:
        """The command, in a process of its own; what it says goes to a file beside its folder."""
        path = os.pathsep.join(filter(None, [str(EXECUTIONS), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "PILOT_EXECUTIONS": str(self.folder / f"{run}.executions")}
        with (self.folder / f"{run}.out").open("ab") as output:
            return subprocess.Popen(
                [*self.command(run), *more], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def finish(self, run: str, process: subprocess.Popen[bytes]) -> int:
        """Its exit status; 1 (a bar that was missed) is no failure here, as long as there is a report."""
        code = process.wait(MOST_SECONDS)
        if not (self.folder / run / "report.json").exists():
            raise SystemExit(f"{self.name}: no report; exit status {code}\n{self.said(run)}")
        return code

    def said(self, run: str) -> str:
        return (self.folder / f"{run}.out").read_text(errors="replace")[-3000:]

    def results(self, run: str) -> Any:
        return json.loads((self.folder / run / "report.json").read_text())["results"]

    def executions(self, run: str) -> list[tuple[str, str, str]]:
        """Task, function and arguments of what ran to its end, without what warms workers up."""
        path = self.folder / f"{run}.executions"
        lines = [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []
        warm = self.warm_up(run)
        return [line for line in lines if line[1] not in warm]  # type: ignore[misc]

    def warm_up(self, run: str) -> set[str]:
        """Digests of the functions of tasks that only warm workers up, from the journal."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.folder / run / "session/journal.sqlite")) as db:
            found = db.execute(
                "SELECT digest FROM functions JOIN tasks ON function = functions.id WHERE tasks.name = 'warm-up'"
            ).fetchall()
        return {digest for (digest,) in found}


def ran_twice(undisturbed: list[tuple[str, str, str]], resumed: list[tuple[str, str, str]]) -> int:
    """How many executions there were too many: of a task, or of work that several tasks may have in common."""
    by_task = collections.Counter(resumed)
    expected = collections.Counter(line[1:] for line in undisturbed)
    by_work = collections.Counter(line[1:] for line in resumed)
    known = {work: number for work, number in by_work.items() if work in expected}
    again = sum(number - 1 for number in by_task.values() if number > 1)
    return max(again, sum(max(0, number - expected[work]) for work, number in known.items()))


def attempt(case: Case, number: int, moment: float, undisturbed: str) -> Attempt:
    """Kill it after so many seconds, and resume it."""
    run = f"killed-{number}"
    process = case.start(run)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    killed = process.returncode == -9
    begun = (case.folder / run / "run.json").exists()
    code = case.finish(run, case.start(run, *(["--resume"] if begun else []))) if killed else process.returncode
    return Attempt(
        case.name,
        round(moment, 2),
        killed,
        code,
        ran_twice(case.executions(undisturbed), case.executions(run)),
        case.results(undisturbed) == case.results(run),
    )


def attempts(name: str, moments: int, seed: int, keep: Path | None) -> list[Attempt]:
    folder = Path(tempfile.mkdtemp(prefix=f"resume-{name}-", dir=keep))
    try:
        case = Case(name, folder)
        sys.stderr.write(f"  {name}, preset {case.preset}: undisturbed\n")
        began = time.perf_counter()
        case.finish("undisturbed", case.start("undisturbed"))
        whole = time.perf_counter() - began
        dice = random.Random(f"{seed} {name}")
        found = []
        for number in range(moments):
            moment = dice.uniform(0.1, 0.9) * whole
            sys.stderr.write(f"  {name}: killed after {moment:.1f} s of {whole:.1f} s\n")
            found.append(attempt(case, number, moment, "undisturbed"))
        return found
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    from pilot import registry

    names = registry.names("pilot.miniapps")
    parser = _bench.arguments(__doc__, engines=())
    parser.add_argument("--apps", nargs="+", choices=names, default=names, metavar="NAME", help="which mini-apps")
    parser.add_argument("--moments", type=int, default=3, help="how often each of them is killed")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs in this folder")
    options = parser.parse_args()
    rows = [one for name in options.apps for one in attempts(name, options.moments, options.seed, options.keep)]
    killed = [one for one in rows if one.killed]
    figures: dict[str, Any] = {}
    for name in options.apps:
        its = [one for one in killed if one.name == name]
        figures[f"{name}.kills"] = (float(len(its)), _bench.Bar(">=", 1))
        figures[f"{name}.ran_twice"] = (float(sum(one.twice for one in its)), _bench.Bar("==", 0, "tasks"))
        figures[f"{name}.results_equal"] = (float(bool(its) and all(one.equal for one in its)), _bench.Bar("==", 1))
    figures["ran_twice"] = (float(sum(one.twice for one in killed)), _bench.Bar("==", 0, "tasks"))
    figures["results_equal"] = (float(bool(killed) and all(one.equal for one in killed)), _bench.Bar("==", 1))
    _bench.report(
        "resume",
        figures,
        rows=[dataclasses.asdict(one) for one in rows],
        configuration={"moments": options.moments, "seed": options.seed},
        file=options.json,
    )


if __name__ == "__main__":
    main()
