"""Run by `benchmarks/swf.py` with the Python of AccaSim's environment: strict FCFS, and when each job starts.

    _accasim.py SWF NODES CORES FILE

AccaSim 1.1.3 is older than Python 3.10, which has moved names out of `collections`.
"""

import collections
import collections.abc
import json
import sys
from pathlib import Path

for name in ("Iterable", "Mapping", "MutableMapping", "Sequence", "Callable", "Hashable"):
    setattr(collections, name, getattr(collections.abc, name))

from accasim.base.allocator_class import FirstFit  # noqa: E402
from accasim.base.scheduler_class import FirstInFirstOut  # noqa: E402
from accasim.base.simulator_class import Simulator  # noqa: E402


def main() -> None:
    swf, nodes, cores, file = sys.argv[1:]
    folder = Path(file).parent
    system = folder / "system.json"
    system.write_text(
        json.dumps(
            {
                "groups": {"g0": {"core": int(cores), "mem": 1_000_000_000}},
                "resources": {"g0": int(nodes)},
                "system_name": "nodes",
                "start_time": 0,
                "equivalence": {"processor": {"core": 1}},
            }
        )
    )
    simulator = Simulator(
        swf,
        str(system),
        FirstInFirstOut(FirstFit()),
        RESULTS_FOLDER_PATH=str(folder),
        scheduling_output=True,
        benchmark_output=False,
        statistics_output=False,
        show_statistics=False,
        pprint_output=False,
    )
    simulator.start_simulation()
    print(*folder.iterdir())


main()
