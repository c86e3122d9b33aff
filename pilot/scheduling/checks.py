"""Checks, for tests, that the parts of the controller's state agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pilot.resources import Terms
from pilot.scheduling.lanes import Lane
from pilot.scheduling.pilot_records import PilotRecord
from pilot.scheduling.records import TaskRecord
from pilot.states import TaskState, is_final

#: States of a task that a pilot has.
HELD = (TaskState.BOUND, TaskState.RUNNING)


def check_tasks(
    tasks: Mapping[int, TaskRecord],
    lanes: Mapping[Terms, Lane],
    matched: Callable[[Terms], Terms],
    outside: Sequence[TaskRecord],
    waiting: Mapping[int, Iterable[TaskRecord]],
    held: Mapping[int, tuple[str, int]],
) -> None:
    """Raise AssertionError unless each task is in exactly one place.

    Args:
        tasks: the unfinished ones, by id.
        lanes: by their terms.
        matched: gives the terms of a task's lane.
        outside: queued tasks that are in no lane.
        waiting: by the tasks that they wait for.
        held: task → the pilot and the batch that has it.
    """
    queued = [record for lane in lanes.values() for record in lane]
    queued += outside
    ids = {record.id for record in queued}
    known = {(blocker, record.id) for blocker, records in waiting.items() for record in records}
    assert len(ids) == len(queued), "a task is queued twice"
    for record in queued:
        assert tasks.get(record.id) is record, f"task {record.id} is queued and over"
        assert record.state is TaskState.QUEUED, f"task {record.id} is queued and {record.state.value}"
    for terms, lane in lanes.items():
        assert all(matched(record.terms) == terms for record in lane), f"a lane has tasks of other terms: {terms}"
    for id, record in tasks.items():
        what = f"task {id} ({record.state.value})"
        assert (id in ids) == (record.state is TaskState.QUEUED), f"{what} is in no lane"
        if record.state in HELD:
            assert held.get(id) == (record.pilot, record.batch), f"{what} is in {held.get(id)}, not its batch"
        else:
            assert id not in held, f"{what} is in the batch {held[id]}"
        if record.state is TaskState.WAITING:
            assert record.blockers, f"{what} waits for nothing"
            for blocker in record.blockers:
                assert (blocker, id) in known, f"{what} is not known to wait for {blocker}"
    for lane in lanes.values():
        lane.validate()
    over = waiting.keys() - tasks.keys()
    assert not over, f"tasks are known to wait for {over}, which are over"


def check_pilots(
    pilots: Mapping[str, PilotRecord], tasks: Mapping[int, TaskRecord], is_closed: bool
) -> dict[int, tuple[str, int]]:
    """Raise AssertionError unless batches and what is in use agree.

    Args:
        pilots: by id.
        tasks: the unfinished ones, by id.
        is_closed: pilots that are over hand over what they have.

    Returns:
        Each unfinished task that is in a batch, with its pilot and batch.
    """
    held: dict[int, tuple[str, int]] = {}
    for id, pilot in pilots.items():
        _check_pilot(pilot)
        for batch, sent in pilot.sent.items():
            for task, record in sent.entries.items():
                if tasks.get(task) is not record:
                    continue  # it ended in the meantime: by an attempt of before, say
                assert task not in held, f"task {task} is in two batches: {held[task]} and {(id, batch)}"
                if not is_closed and pilot.interrupts is None:  # else it is being handed over
                    assert not is_final(pilot.state), f"task {task} is with {id}, which is {pilot.state.value}"
                held[task] = (id, batch)
    return held


def _check_pilot(pilot: PilotRecord) -> None:
    """Raise AssertionError unless what it has in use is the sum over its batches."""
    sent = list(pilot.sent.values())
    on_slots = [batch for batch in sent if batch.qpu not in pilot.devices]
    for what, have, parts in (
        ("cores", pilot.used_cores, [batch.cores for batch in sent]),
        ("GPUs", pilot.used_gpus, [batch.gpus for batch in sent]),
        ("bytes", pilot.used_memory, [batch.memory for batch in sent]),
        ("expected seconds", pilot.expected, [batch.expected for batch in on_slots]),
    ):
        assert abs(have - sum(parts)) < 1e-6, f"{pilot.name}: {have} {what} are in use, its batches have {sum(parts)}"
    for name, device in pilot.devices.items():
        mine = [batch for batch in sent if batch.qpu == name]
        assert device.batches == len(mine), f"{name} of {pilot.name} has {device.batches} batches, not {len(mine)}"
    for number, batch in pilot.sent.items():
        assert batch.entries, f"{pilot.name}: batch {number} is empty"
