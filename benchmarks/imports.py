"""What loading the library costs: time of `import pilot`, and the modules and memory of a worker.

    python benchmarks/imports.py [--base COMMIT] [--json FILE]
    python benchmarks/imports.py --without zmq sqlite3 threading [--json FILE]

The time is above that of the interpreter itself. With `--base` a worker of this library at another commit is measured
as well. With `--without` the decisions (`pilot.scheduling`) are imported where these modules cannot be, and bring 1,000
tasks to their end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from time import perf_counter
from typing import Any

import _bench

#: Packages that `import pilot` leaves alone.
HEAVY = ("ray", "dask", "distributed", "qiskit", "qiskit_aer", "pennylane", "numpy", "rich", "matplotlib")

#: Run by a task: what its worker has loaded, and its resident memory.
WORKER = """
def worker():
    import resource, sys
    with open("/proc/self/statm") as file:  # proc(5): pages, the second number is of those in memory
        pages = int(file.read().split()[1])
    return sorted(sys.modules), pages * resource.getpagesize() / 2**20
"""

#: Imported where some modules cannot be: a controller, one pilot, and tasks that end as soon as they are sent.
DRIVER = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in WITHOUT:
            raise ImportError(f"{name} is not here")

for name in list(sys.modules):
    if name.partition(".")[0] in WITHOUT:
        del sys.modules[name]
sys.meta_path.insert(0, Refuse())

from pilot.descriptions import PilotDescription
from pilot.resources import PLAIN, Node
from pilot.results import OK, Outcome
from pilot.scheduling import events
from pilot.scheduling.controller import Controller
from pilot.scheduling.policies import Balanced
from pilot.scheduling.records import FunctionRecord, TaskRecord

controller, now, ended = Controller(Balanced()), 0.0, 0
wanted = PilotDescription(engine="process", cores_per_node=2)
function = FunctionRecord(1, "digest", "work")
tasks = [TaskRecord(id, function, None, PLAIN, None, 0.0) for id in range(1, 1001)]
happened = [
    events.PilotAsked("pilot-1", wanted, 0),
    events.AgentJoined("pilot-1"),
    events.PilotReady("pilot-1", [Node(name="node-0", host="host", cores=2, gpus=(), memory=1 << 30)], {}),
    events.TasksSubmitted(tasks),
]
while happened:
    now += 0.01
    for command in controller.step(happened.pop(0), now):
        if isinstance(command, events.SendBatch):
            outcomes = [Outcome(record.id, OK, now, 0.001) for record in command.entries]
            happened.append(events.OutcomesArrived("pilot-1", command.batch, "worker", outcomes))
        elif isinstance(command, events.Settle):
            ended += len(command.pairs)
assert ended == 1000, ended
print(ended)
"""


def milliseconds(code: str, repeat: int) -> float:
    """Median time of `python -c code`, after one run that fills the caches."""
    times = []
    for _ in range(repeat + 1):
        began = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(1000 * (perf_counter() - began))
    return statistics.median(times[1:])


def measure(contestant: Any) -> _bench.Figures:
    """The modules and the memory of a worker."""
    space: dict[str, Any] = {}
    exec(WORKER, space)
    with contestant as engine:
        modules, rss = engine.submit(space["worker"]).result(120)
    own = [name for name in modules if name.startswith(("pilot.manager", "pilot.scheduling"))]
    return {"rss": rss, "of the manager": len(own), "modules": len(modules)}


def heavy_modules() -> list[str]:
    """The heavy packages that `import pilot` loads."""
    code = "import json, sys, pilot; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [name for name in json.loads(done.stdout) if name in HEAVY]


def drive(options: argparse.Namespace) -> None:
    code = f"WITHOUT = {tuple(options.without)!r}\n{DRIVER}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    figures: dict[str, Any] = {"scheduling_driven": (int(done.stdout.strip() == "1000"), _bench.Bar("==", 1))}
    _bench.report("imports", figures, rows=[], configuration={"without": options.without}, file=options.json)


def main() -> None:
    parser = _bench.arguments(__doc__, engines=(), repeat=10)
    parser.add_argument("--base", metavar="COMMIT", help="measure a worker of this library at another commit, too")
    parser.add_argument("--without", nargs="+", metavar="MODULE", help="drive the decisions without these modules")
    options = parser.parse_args()
    if options.without:
        drive(options)
        return

    bare = milliseconds("pass", options.repeat)
    rows = []
    for module in ("pilot", "concurrent.futures", "asyncio"):
        with_it = milliseconds(f"import {module}", options.repeat)
        rows.append({"module": module, "interpreter ms": bare, "with import ms": with_it, "import ms": with_it - bare})
    worker = _bench.measured("our process")
    rss = worker["rss"]
    figures: dict[str, Any] = {
        "import_ms_above_python": (rows[0]["import ms"], _bench.Bar("<=", 60, "ms")),
        "heavy_modules_loaded": (len(heavy_modules()), _bench.Bar("==", 0)),
        "worker_modules_of_manager": (worker["of the manager"], _bench.Bar("==", 0)),
        "worker_rss_mib": (rss, None),
    }
    if options.base:
        with _bench.checked_out(options.base) as tree:
            before = _bench.measured("our process", tree)["rss"]
        figures["worker_rss_mib_before"] = (before, None)
        figures["worker_rss_mib_less"] = (before - rss, _bench.Bar(">=", 5, "MiB"))
    configuration = {"base": options.base, "repeat": options.repeat}
    _bench.report("imports", figures, rows=rows, configuration=configuration, file=options.json)


if __name__ == "__main__":
    _bench.run(main, measure)
