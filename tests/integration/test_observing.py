"""What a service or a dashboard needs of a session: observe it, know what is on disk, forget tasks, tasks with keys."""

from __future__ import annotations

import csv
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pilot import (
    DescriptionError,
    PilotDescription,
    PilotManager,
    PilotState,
    SessionError,
    Task,
    TaskDescription,
    TaskState,
)
from pilot.interfaces import (
    AttemptEnded,
    PilotChanged,
    QPUChanged,
    SessionEvent,
    TaskChanged,
    TaskEnded,
    TaskOutput,
    TaskSubmitted,
)
from pilot.manager.forgetting import Forgetter
from pilot.manager.journal import OF_TASKS, AttemptRow, KeyRow, ResultRow, TaskRow
from pilot.manager.metrics import write_metrics

SOON = 120.0
ONE = PilotDescription(engine="process", cores_per_node=1, name="one")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PilotManager]:
    with PilotManager(tmp_path_factory.mktemp("session") / "s") as manager:
        manager.submit_pilot(ONE)
        yield manager


def of(seen: list[Any], task: int) -> list[Any]:
    return [event for event in seen if getattr(event, "task", None) == task]


def test_an_observer_sees_tasks_pilots_and_qpus(tmp_path: Path) -> None:
    seen: list[SessionEvent] = []
    began = time.time()
    with PilotManager(tmp_path / "s") as manager:
        manager.subscribe(seen.extend)
        pilot = manager.submit_pilot(PilotDescription(cores_per_node=1, name="p", qpus=["fake:manila"]))
        done = manager.submit_task(abs, -1)
        failed = manager.submit_task(TaskDescription(function=divmod, args=(1, 0), retries=1, name="bad"))
        behind = manager.submit_task(abs, failed)
        manager.wait_tasks()
        assert pilot.wait(SOON) is PilotState.ACTIVE
    assert [type(event) for event in of(seen, done.id)] == [TaskSubmitted, TaskChanged, TaskEnded]
    assert all(began <= event.time <= time.time() for event in seen)
    ended = of(seen, done.id)[-1]
    assert (ended.state, ended.pilot, ended.lost_attempts) == (TaskState.DONE, pilot.id, 0)
    info = done.info
    assert (ended.worker, ended.started, ended.seconds) == (info.worker, info.started, info.seconds)
    kinds = [TaskSubmitted, TaskChanged, AttemptEnded, TaskChanged, TaskEnded]
    assert [type(event) for event in of(seen, failed.id)] == kinds
    assert (of(seen, failed.id)[2].reason, of(seen, failed.id)[-1].lost_attempts) == ("it raised", 1)
    assert of(seen, failed.id)[-1].name == "bad"
    assert [type(event) for event in of(seen, behind.id)] == [TaskSubmitted, TaskEnded]
    states = [event.state for event in seen if isinstance(event, PilotChanged)]
    assert list(dict.fromkeys(states)) == [
        PilotState.QUEUED,
        PilotState.STARTING,
        PilotState.ACTIVE,
        PilotState.DONE,
    ]
    assert [event.info.name for event in seen if isinstance(event, QPUChanged)] == ["fake:manila"]


def test_a_callback_that_blocks_or_raises_delays_only_itself(manager: PilotManager) -> None:
    gate = threading.Event()
    seen: list[SessionEvent] = []

    def fail(events: list[SessionEvent]) -> None:
        raise ValueError("no")

    bad = [manager.subscribe(fail), manager.subscribe(lambda events: gate.wait(SOON))]
    good = manager.subscribe(seen.extend, kinds=[TaskEnded])
    tasks = manager.map(abs, range(500))
    assert manager.get_results(tasks) == list(range(500))
    manager.unsubscribe(good)
    assert [event.task for event in seen] == [task.id for task in tasks]
    gate.set()
    for one in bad:
        manager.unsubscribe(one)


def test_an_observer_may_use_the_manager_and_end_its_subscription(manager: PilotManager) -> None:
    found: list[Any] = []
    over = threading.Event()

    def react(events: list[SessionEvent]) -> None:
        found.append(manager.submit_task(abs, -7).result(SOON))
        manager.unsubscribe(subscription)
        over.set()

    task = manager.submit_task(time.sleep, 0.2)
    subscription = manager.subscribe(react, kinds=[TaskEnded], tasks=[task])
    assert over.wait(SOON)
    assert found == [7]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"observer": 5}, "expected a callable"),
        ({"kinds": [int]}, "expected a list of classes of events: AttemptEnded, PilotChanged"),
        ({"tasks": [5]}, "subscribe"),
        ({"limit": 0}, "limit: 0 is not valid"),
    ],
)
def test_subscriptions_that_are_refused(manager: PilotManager, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DescriptionError, match=message):
        manager.subscribe(**{"observer": print, **wrong})


def test_after_an_attach_only_what_is_new_is_told(tmp_path: Path) -> None:
    seen: list[Any] = []
    first = PilotManager(tmp_path / "s")
    first.submit_pilot(ONE)
    assert first.submit_task(abs, -1).result(SOON) == 1
    first.close()
    with PilotManager.attach(tmp_path / "s") as manager:
        manager.subscribe(seen.extend)
        manager.submit_pilot(ONE)
        new = manager.submit_task(abs, -2)
        assert new.result(SOON) == 2
    assert {event.task for event in seen if isinstance(event, TaskSubmitted | TaskEnded)} == {new.id}


def test_metrics_have_a_row_for_each_task(manager: PilotManager, tmp_path: Path) -> None:
    with write_metrics(manager, tmp_path / "metrics.csv"):
        good = manager.submit_task(TaskDescription(function=time.sleep, args=(0.1,), name="a, b"))
        bad = manager.submit_task(TaskDescription(function=divmod, args=(1, 0), retries=1))
        behind = manager.submit_task(abs, bad)
        manager.wait_tasks([good, bad, behind])
    manager.submit_task(abs, -1).result(SOON)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = {int(row["task"]): row for row in csv.DictReader(file)}
    assert list(rows) == [good.id, bad.id, behind.id]
    assert [(row["name"], row["state"], row["attempts"]) for row in rows.values()] == [
        ("a, b", "done", "1"),
        ("divmod", "failed", "2"),
        ("abs", "failed", "0"),
    ]
    row, info = rows[good.id], good.info
    assert (row["pilot"], row["worker"], float(row["seconds"])) == ("one", info.worker, info.seconds)
    submitted, started, ended = (datetime.fromisoformat(row[of]) for of in ("submitted", "started", "ended"))
    assert submitted.utcoffset() == timedelta(0)
    assert abs(submitted.timestamp() - info.submitted) < 1e-5 and abs(started.timestamp() - info.started) < 1e-5
    assert (ended - started).total_seconds() >= 0.1
    assert (rows[behind.id]["pilot"], rows[behind.id]["started"], rows[behind.id]["seconds"]) == ("", "", "")
    assert rows[behind.id]["ended"]


# ---- what is on disk --------------------------------------------------------------------------------------------


def test_a_committed_task_is_in_the_journal(tmp_path: Path) -> None:
    manager = PilotManager(tmp_path / "s")
    manager.submit_pilot(ONE)
    called = Counter[str]()
    task = manager.submit_task(abs, -1)
    committed = task.committed()
    committed.add_done_callback(lambda _: called.update([threading.current_thread().name]))
    assert committed.result(SOON) is None
    assert manager._state.journal.work(task.id) is not None
    assert task.result(SOON) == 1
    manager.flush(SOON)
    assert manager._state.journal.value(task.id) is not None
    assert called == {"pilot-callbacks": 1}
    last = manager.submit_task(abs, -2).committed()
    manager.close()
    assert last.result(0) is None
    for refused in (task.committed, manager.flush):
        with pytest.raises(SessionError, match="closed"):
            refused()


def test_flush_that_takes_too_long(manager: PilotManager) -> None:
    with pytest.raises(TimeoutError):
        manager.flush(0)


# ---- what is forgotten ------------------------------------------------------------------------------------------

LARGE = 3 << 20


def test_forgotten_tasks_are_nowhere(tmp_path: Path, eventually: Any) -> None:
    manager = PilotManager(tmp_path / "s")
    manager.submit_pilot(ONE)
    spool = tmp_path / "s" / "spool"
    small, large = manager.submit_task(abs, -1), manager.submit_task(bytes, LARGE)
    failed = manager.submit_task(TaskDescription(function=divmod, args=(bytes(LARGE), 0), retries=1))
    kept = manager.submit_task(abs, -2)
    manager.wait_tasks(timeout=SOON)
    assert len(list(spool.iterdir())) == 2
    manager.forget([small, large, failed])
    manager.forget([small])  # nothing happens
    assert dict(manager.tasks) == {kept.id: kept}
    eventually(lambda: not list(spool.iterdir()))
    assert small.result() == 1 and small.done() and small.info.state == "done"
    for read in (large.result, lambda: manager.submit_task(len, large)):
        with pytest.raises((SessionError, DescriptionError), match="forgotten"):
            read()
    with pytest.raises(TypeError):
        failed.result()
    with pytest.raises(DescriptionError, match="forgotten"):
        manager.resubmit([failed])
    manager.flush(SOON)
    for kind in (TaskRow, ResultRow, AttemptRow):
        assert {getattr(row, OF_TASKS[kind]) for row in manager._state.journal.rows(kind)} <= {kept.id}
    manager.forget([kept])
    manager.close()
    with PilotManager.attach(tmp_path / "s") as again:
        again.submit_pilot(ONE)
        assert not again.tasks
        new = again.submit_task(abs, -3)
        assert (new.id, new.result(SOON)) == (kept.id + 1, 3)


def test_what_an_attached_manager_forgets(tmp_path: Path, eventually: Any) -> None:
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        manager.submit_task(bytes, LARGE)
        manager.submit_task(abs, -1)
    with PilotManager.attach(tmp_path / "s") as manager:
        tasks = list(manager.tasks.values())
        manager.forget(tasks)
        eventually(lambda: not list((tmp_path / "s" / "spool").iterdir()))
        for task in tasks:
            with pytest.raises(SessionError, match="it was forgotten, and its result with it"):
                task.result(0)


def test_a_task_that_is_needed_is_not_forgotten(manager: PilotManager) -> None:
    first = manager.submit_task(abs, -1)
    first.result(SOON)
    running = manager.submit_task(time.sleep, 1.0)
    behind = manager.submit_task(TaskDescription(function=abs, args=(first,), depends_on=[running]))
    with pytest.raises(DescriptionError, match=rf"1 task\(s\) that are not over depend on task {first.id} \(abs\)"):
        manager.forget([first])
    with pytest.raises(DescriptionError, match="expected tasks that have ended"):
        manager.forget([first, behind])
    assert first.id in manager.tasks
    assert behind.result(SOON) == 1
    manager.forget([first, behind, running])
    assert not {first.id, behind.id, running.id} & manager.tasks.keys()


def test_another_managers_task_cannot_be_forgotten(manager: PilotManager, tmp_path: Path) -> None:
    mine = manager.submit_task(abs, -1)
    mine.result(SOON)
    with PilotManager(tmp_path / "s") as other:
        other.submit_pilot(ONE)
        other.wait_tasks(other.map(abs, range(mine.id)))
        with pytest.raises(DescriptionError, match="another manager's"):
            other.forget([mine])


def test_a_callback_may_forget_its_task(manager: PilotManager, eventually: Any) -> None:
    task = manager.submit_task(abs, -1)
    task.add_done_callback(lambda done: manager.forget([done]))  # type: ignore[list-item]
    eventually(lambda: task.id not in manager.tasks, 60)
    manager.flush(SOON)
    assert manager._state.journal.work(task.id) is None
    assert task.result() == 1


def test_what_a_callback_forgets_stays_where_a_task_has_come_to_depend_on_it(
    manager: PilotManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Any
) -> None:
    behind: list[Task[Any]] = []
    task = manager.submit_task(abs, -1)
    plain = Forgetter._arguments

    def submit_meanwhile(self: Forgetter, tasks: dict[int, Task[Any]]) -> list[str]:
        behind.append(manager.submit_task(held_back, task))
        return plain(self, tasks)

    monkeypatch.setattr(Forgetter, "_arguments", submit_meanwhile)
    task.add_done_callback(lambda done: manager.forget([done]))  # type: ignore[list-item]
    eventually(lambda: "1 task(s) that are not over depend on task" in caplog.text, 60)
    assert behind[0].result(SOON) == 1
    assert task.id in manager.tasks
    assert not list(manager.session_dir.glob("events-*"))


def held_back(number: int) -> int:
    time.sleep(2)
    return number


def test_resubmitted_tasks_may_be_forgotten(manager: PilotManager) -> None:
    failed = manager.submit_task(divmod, 1, 0)
    manager.wait_tasks([failed])
    (again,) = manager.resubmit([failed])
    manager.wait_tasks([again])
    manager.forget([failed])
    (third,) = manager.resubmit([again])
    with pytest.raises(ZeroDivisionError):
        third.result(SOON)


def test_functions_go_with_their_tasks(manager: PilotManager, eventually: Any) -> None:
    before = len(manager._state.functions)
    tasks = [manager.submit_task(lambda number=number: number) for number in range(50)]
    assert manager.get_results(tasks) == list(range(50))
    manager.forget(tasks)
    del tasks
    eventually(lambda: len(manager._state.functions) <= before + 1, 60)


# ---- tasks with keys --------------------------------------------------------------------------------------------


def add(x: int, y: int = 1) -> int:
    return x + y


def keyed(*, key: str) -> str:
    return key


def test_the_same_key_is_the_same_task(manager: PilotManager) -> None:
    task = manager.submit_task(add, 1, key="same")
    assert task.key == "same"
    assert manager.submit_task(add, 1, key="same") is task
    assert manager.submit_task({"function": add, "args": [1]}, key="same") is task
    assert manager.submit_task(TaskDescription(function=add, args=(1,), key="same")) is task
    assert task.result(SOON) == 2
    assert manager.submit_task(add, 1, key="same") is task


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (TaskDescription(function=add, args=(2,)), "args"),
        (TaskDescription(function=add, args=(1,), kwargs={"y": 2}), "kwargs"),
        (TaskDescription(function=abs, args=(1,)), "function"),
        (TaskDescription(function=add, args=(1,), priority=1, num_cpus=0.5), "num_cpus, priority"),
        (TaskDescription(executable=["true"]), "args, executable, function"),
    ],
)
def test_a_key_of_another_task_is_refused(manager: PilotManager, other: TaskDescription, differs: str) -> None:
    task = manager.submit_task(add, 1, key="taken")
    with pytest.raises(DescriptionError, match=rf"'taken' is the key of task {task.id} \(add\).* value of {differs}$"):
        manager.submit_task(other, key="taken")


def test_a_task_with_a_key_that_needs_others_is_the_same_after_another_attempt(tmp_path: Path) -> None:
    def submit(manager: PilotManager) -> list[Any]:
        first = manager.submit_task(os.path.getsize, str(tmp_path / "data"), key="first")
        second = manager.submit_task(add, first, key="second")
        return [
            first,
            second,
            manager.submit_task(TaskDescription(function=abs, args=(-7,), depends_on=second, key="third")),
        ]

    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        failed = submit(manager)
        manager.wait_tasks(failed)
        (tmp_path / "data").write_text("four")
        again = manager.resubmit(failed)
        assert manager.get_results(again) == [4, 5, 7]
        assert submit(manager) == again
    with PilotManager.attach(tmp_path / "s") as manager:
        assert [task.id for task in submit(manager)] == [task.id for task in again]
        manager.submit_pilot(ONE)
        manager.forget([manager.tasks[again[0].id]])
        assert submit(manager)[1].id == again[1].id
        manager.submit_task(add, manager.submit_task(abs, -1), key="fourth")
        with pytest.raises(DescriptionError, match=r"value of args; task \d+ \(abs\) among them has no key"):
            manager.submit_task(add, manager.submit_task(abs, -1), key="fourth")


def test_keys_that_are_refused(manager: PilotManager) -> None:
    with pytest.raises(DescriptionError, match="has an argument of this name itself"):
        manager.submit_task(keyed, key="k")
    with pytest.raises(DescriptionError, match="key: 5 is not valid"):
        manager.submit_task(add, 1, key=5)  # type: ignore[arg-type]
    with pytest.raises(DescriptionError, match="the same as that of the call, 'b'"):
        manager.submit_task(TaskDescription(function=add, key="a"), key="b")
    wanted = TaskDescription(function=keyed, kwargs={"key": "its"}, key="mine")
    assert manager.submit_task(wanted).result(SOON) == "its"


def test_circuits_may_have_keys(manager: PilotManager) -> None:
    from qiskit import QuantumCircuit

    def bell(shots: int = 10) -> TaskDescription:
        circuit = QuantumCircuit(2)
        circuit.h(0)
        circuit.cx(0, 1)
        circuit.measure_all()
        return TaskDescription(circuit=circuit, shots=shots, key="bell")

    task = manager.submit_task(bell())
    assert manager.submit_task(bell()) is task
    with pytest.raises(DescriptionError, match="value of shots"):
        manager.submit_task(bell(shots=11))
    assert task.result(SOON).shots == 10


def test_threads_that_submit_the_same_key_get_one_task(manager: PilotManager) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(manager.submit_task(add, 5, key="once"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({task.id for task in found}) == 1


def test_a_key_holds_after_an_attach_until_the_task_is_forgotten(tmp_path: Path) -> None:
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        first = manager.submit_task(add, 1, key="k")
        manager._state.journal.put(KeyRow("lost", 2, b""))  # as after a crash: its task never came into the journal
    with PilotManager.attach(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        task = manager.submit_task(add, 1, key="k")
        assert (task.id, task.key, task.result(SOON)) == (first.id, "k", 2)
        with pytest.raises(DescriptionError, match="value of args"):
            manager.submit_task(add, 3, key="k")
        other = manager.submit_task(abs, -1, key="lost")
        assert (other.id, other.result(SOON)) == (2, 1)
        manager.forget([task])
        assert manager.submit_task(add, 3, key="k").result(SOON) == 4
    with PilotManager.attach(tmp_path / "s") as manager:
        assert {task.key: task.id for task in manager.tasks.values()} == {"lost": 2, "k": 3}


def test_a_key_of_a_task_that_never_ran_is_no_obstacle(tmp_path: Path) -> None:
    """As when a script was ended by Ctrl-C, and is started again."""

    def submit(manager: PilotManager) -> list[Any]:
        first = manager.submit_task(add, 1, key="done")
        queued = [manager.submit_task(add, number, key=f"queued {number}") for number in range(3)]
        failed = manager.submit_task(divmod, 1, 0, key="failed")
        after = manager.submit_task(add, queued[0], key="after")
        return [first, *queued, failed, after]

    with pytest.raises(KeyboardInterrupt), PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        manager.wait_tasks([manager.submit_task(add, 1, key="done"), manager.submit_task(divmod, 1, 0, key="failed")])
        manager.submit_task(time.sleep, 600)
        submit(manager)
        raise KeyboardInterrupt
    with PilotManager.attach(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        first, *queued, failed, after = submit(manager)
        assert manager.get_results([first, *queued, after]) == [2, 1, 2, 3, 2]
        assert isinstance(failed.exception(), ZeroDivisionError)
        (again,) = manager.resubmit([failed])
        assert (failed.key, again.key) == (None, "failed")
        assert manager.submit_task(divmod, 1, 0, key="failed") is again
        again.exception(SOON)
        manager.forget([failed])
        assert manager.submit_task(divmod, 1, 0, key="failed") is again
    with PilotManager.attach(tmp_path / "s") as manager:
        assert manager.submit_task(divmod, 1, 0, key="failed").id == again.id
        assert manager.submit_task(add, 1, key="done").id == first.id


def talk(folder: str, count: int) -> int:
    log = logging.getLogger("talk")
    logging.warning("by the %s", "module")
    for number in range(count):
        print("line", number)
        log.info("number %d", number)
    Path(folder, "written").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    try:
        return 1 // 0
    except ZeroDivisionError:
        log.exception("divided")
    return count


def test_output_and_records_of_a_task_are_there_while_it_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    seen: list[Any] = []
    with PilotManager(tmp_path / "s") as manager:
        manager.submit_pilot(ONE)
        manager.subscribe(seen.extend, kinds=[TaskOutput])
        task = manager.submit_task(talk, str(tmp_path), 3)
        written = "line 0\nline 1\nline 2\n"
        deadline = time.monotonic() + SOON
        while task.info.stdout != written or not seen:
            assert time.monotonic() < deadline, (task.info, seen)
            time.sleep(0.01)
        assert not task.done()
        (tmp_path / "go").touch()
        assert task.result(SOON) == 3
        assert task.info.stdout == written and "divided" in task.info.stderr
    assert "".join(event.stdout for event in seen if event.task == task.id) == written
    assert [record.getMessage() for record in caplog.records if record.name == "root"] == ["by the module"]
    records = [record for record in caplog.records if record.name == "talk"]
    assert [record.getMessage().splitlines()[0] for record in records] == [
        "number 0",
        "number 1",
        "number 2",
        "divided",
    ]
    assert "ZeroDivisionError" in records[-1].getMessage() and records[-1].levelno == logging.ERROR
    assert {record.task for record in records} == {task.id}  # type: ignore[attr-defined]
    assert (records[0].funcName, records[0].filename) == ("talk", Path(__file__).name)


def log_much(count: int) -> None:
    for number in range(count):
        logging.getLogger("much").warning("%d", number)
    logging.getLogger("much").warning("%d", "no number")
    logging.getLogger("much").warning("a name that is not UTF-8: \udcff")


def test_a_task_that_logs_much_loses_the_later_records(manager: PilotManager, caplog: pytest.LogCaptureFixture) -> None:
    manager.submit_task(log_much, 5000).result(SOON)
    manager.submit_task(abs, 1).result(SOON)
    deadline = time.monotonic() + SOON
    while not any("were dropped" in record.getMessage() for record in caplog.records):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert sum(record.name == "much" for record in caplog.records) <= 5000
