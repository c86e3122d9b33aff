"""What happens in the cells of a notebook, in a real kernel."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

SOON = 120
FIRST = """
from pilot import PilotDescription, PilotManager, TaskDescription
manager = PilotManager(name="lab", progress=True, echo=True, wait_for_pilot=0)
pilot = manager.submit_pilot(PilotDescription(name="here", engine="process", cores_per_node=1))
"""


class Notebook:
    """A kernel, and the cells that run in it."""

    def __init__(self, folder: Path) -> None:
        self._notebook = nbformat.v4.new_notebook()
        self.client = NotebookClient(
            self._notebook, timeout=SOON, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )

    def run(self, code: str, fails: bool = False) -> list[Any]:
        """The outputs of a cell."""
        cell = nbformat.v4.new_code_cell(code)
        if fails:
            cell.metadata["tags"] = ["raises-exception"]
        self._notebook.cells.append(cell)
        return self.client.execute_cell(cell, len(self._notebook.cells) - 1).outputs  # type: ignore[no-any-return]

    def outputs(self, cell: int) -> list[Any]:
        """What a cell shows now."""
        return self._notebook.cells[cell].outputs  # type: ignore[no-any-return]

    @property
    def processes(self) -> list[psutil.Process]:
        """Those below the kernel."""
        (pid,) = self.run("import os; os.getpid()")
        return psutil.Process(int(pid["data"]["text/plain"])).children(recursive=True)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path_factory.mktemp("notebook"))
    environment = {**os.environ, "QUANTUM_PILOT_SESSIONS": str(tmp_path_factory.mktemp("sessions"))}
    with notebook.client.setup_kernel(env=environment):
        notebook.run(FIRST)
        yield notebook


def text_of(outputs: list[Any]) -> str:
    return "".join(one.get("text", "") for one in outputs if one["output_type"] == "stream")


def html_of(outputs: list[Any]) -> str:
    return "".join(one["data"].get("text/html", "") for one in outputs if "data" in one)


def test_progress_is_html_in_the_cell_of_the_manager(notebook: Notebook) -> None:
    notebook.run("manager.get_results(manager.map(abs, range(20)))")
    deadline = time.monotonic() + SOON
    while "20/20 tasks" not in html_of(notebook.outputs(0)):
        assert time.monotonic() < deadline
        notebook.run("import time; time.sleep(0.1)")  # the display of the first cell is updated meanwhile
    shown = html_of(notebook.outputs(0))
    assert "<progress" in shown and "here" in shown


def test_a_cell_that_runs_again_has_the_same_manager_and_pilot(notebook: Notebook) -> None:
    notebook.run("first, one = manager, pilot")
    before = notebook.processes
    notebook.run(FIRST)
    (same,) = notebook.run("manager is first and pilot is one and len(manager.pilots) == 1")
    assert same["data"]["text/plain"] == "True"
    assert {process.pid for process in notebook.processes} == {process.pid for process in before}
    outputs = notebook.run("PilotManager('/tmp/other', name='lab')", fails=True)
    assert "that of the open manager 'lab'" in outputs[-1]["evalue"]


def test_a_second_manager_without_a_name_is_told_of_the_first(notebook: Notebook) -> None:
    text = notebook.run(
        "loose = PilotManager(); loose.submit_pilot(PilotDescription(cores_per_node=1))\nPilotManager().close()"
    )
    assert "give PilotManager a name" in text_of(text)
    notebook.run("loose.close()")


def test_objects_show_themselves_as_tables(notebook: Notebook) -> None:
    notebook.run("pilot.wait(); task = manager.submit_task(abs, -3, key='three'); task.result()")
    for name, words in {"manager": ["session ", "here", "active"], "pilot": ["here"], "task": ["abs", "done"]}.items():
        shown = html_of(notebook.run(name))
        assert shown.startswith("<table") and all(word in shown for word in words), shown
    shown = html_of(
        notebook.run(
            "from qiskit import QuantumCircuit\nbell = QuantumCircuit(2); bell.h(0); bell.cx(0, 1)\n"
            "whole = bell.copy(); whole.measure_all()\n"
            "manager.submit_task(TaskDescription(circuit=whole, shots=100, seed=1)).result()"
        )
    )
    assert "100 shots, 2 outcomes" in shown and re.findall(r">(00|11)<", shown)
    shown = html_of(notebook.run("manager.submit_task(TaskDescription(circuit=bell, observables=['ZZ'])).result()"))
    assert "standard error" in shown and ">1<" in shown
    shown = html_of(notebook.run("manager.submit_task(TaskDescription(circuit=bell, tomography=True)).result()"))
    assert "density matrix, purity 1.0000" in shown and "0.500" in shown


#: A cell that is not over before what a task has written is in it: what comes between two cells belongs to neither.
WRITES = """
import sys, threading
stream, is_written = sys.stdout, threading.Event()
class Noticed:
    text = ""
    def write(self, text):
        stream.write(text)
        self.text += text
    def flush(self):  # the progress flushes as well
        stream.flush()
        if "from the task" in self.text:
            is_written.set()
sys.stdout = Noticed()
manager.submit_task(print, "from the task").result()
assert is_written.wait(100)
sys.stdout = stream
"""


def test_what_tasks_write_is_in_the_cell(notebook: Notebook) -> None:
    assert text_of(notebook.run(WRITES)).count("from the task") == 1


def test_an_interrupt_cancels_what_is_queued_and_a_second_one_what_runs(notebook: Notebook) -> None:
    interrupted = "import _thread, threading\nthreading.Timer(0.5, _thread.interrupt_main).start()\n"
    notebook.run("import time; slow = manager.map(time.sleep, [60] * 4)\nwhile not slow[0].running(): time.sleep(.01)")
    outputs = notebook.run(interrupted + "manager.wait_tasks()", fails=True)
    assert outputs[-1]["ename"] == "KeyboardInterrupt"
    assert "3 queued task(s) were cancelled; 1 still run: interrupt once more" in text_of(outputs)
    notebook.run(
        "manager.wait_tasks(slow[1:]); assert all(task.cancelled() for task in slow[1:]) and slow[0].running()"
    )
    notebook.run(interrupted + "slow[0].result()", fails=True)
    (value,) = notebook.run("manager.wait_tasks(slow); slow[0].cancelled(), manager.submit_task(pow, 2, 3).result()")
    assert value["data"]["text/plain"] == "(True, 8)"
    notebook.run("slow = manager.map(time.sleep, [60] * 3)\nwhile not slow[0].running(): time.sleep(.01)")
    outputs = notebook.run(interrupted + "list(manager.as_completed(slow))", fails=True)
    assert "2 queued task(s) were cancelled; 1 still run: interrupt once more" in text_of(outputs)
    notebook.run("slow[0].cancel()")


def test_a_kernel_that_is_restarted_leaves_nothing(notebook: Notebook) -> None:
    before = notebook.processes
    assert before
    notebook.client.kc.shutdown()  # type: ignore[union-attr]
    _, alive = psutil.wait_procs(before, timeout=SOON)
    assert not alive
