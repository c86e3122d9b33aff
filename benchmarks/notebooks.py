"""A notebook in a real kernel: how soon a newcomer's first result is there, and what is left of cells that run again.

    python benchmarks/notebooks.py [--json FILE]

`first_result_s`: from the start of the first cell (import, manager, pilot of two cores, one task) until its result is
there. `managers`: how many are open after the cell has run three times. `left_processes`: of the kernel's, after it was
restarted.
"""

from __future__ import annotations

import tempfile
from time import perf_counter
from typing import Any

import _bench
import psutil

CELL = """
import os
from pilot import PilotDescription, PilotManager
manager = PilotManager(name="lab", progress=True)
manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
manager.submit_task(pow, 2, 3).result(), os.getpid()
"""
#: Managers that are open in the kernel.
COUNT = "import gc; sum(isinstance(one, PilotManager) for one in gc.get_objects())"
#: Seconds that processes have to end after the kernel.
SOON = 30.0


def measure() -> dict[str, Any]:
    """One kernel, from its start to its restart."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook()
    with tempfile.TemporaryDirectory(prefix="pilot-bench-") as folder:
        client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": folder}})

        def run(code: str) -> str:
            notebook.cells.append(nbformat.v4.new_code_cell(code))
            outputs = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1).outputs
            return next(one["data"]["text/plain"] for one in outputs if one["output_type"] == "execute_result")

        with client.setup_kernel():
            began = perf_counter()
            result, pid = run(CELL).strip("()").split(", ")
            seconds = perf_counter() - began
            assert result == "8"
            for _ in range(2):
                run(CELL)
            managers = int(run(COUNT))
            processes = psutil.Process(int(pid)).children(recursive=True)
            assert processes, "the pilot has no processes"
            client.kc.shutdown()
            _, alive = psutil.wait_procs(processes, timeout=SOON)
    return {"first result s": seconds, "managers": managers, "left": len(alive)}


def main() -> None:
    options = _bench.arguments(__doc__, engines=[], repeat=3).parse_args()
    rows = [measure() for _ in range(options.repeat)]
    figures: dict[str, Any] = {
        "first_result_s": ([row["first result s"] for row in rows], _bench.Bar("<=", 3, "s")),
        "managers": (max(row["managers"] for row in rows), _bench.Bar("==", 1)),
        "left_processes": (sum(row["left"] for row in rows), _bench.Bar("==", 0)),
    }
    _bench.report("notebooks", figures, rows=rows, configuration={"repeat": options.repeat}, file=options.json)


if __name__ == "__main__":
    main()
