"""Two pilots, a Ray and a Dask one: tasks go to whichever is free, or where they ask to go."""

import time
from collections import Counter

from pilot import PilotDescription, PilotManager, TaskDescription


def work(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


with PilotManager() as manager:
    manager.submit_pilot(PilotDescription(engine="ray", cores_per_node=1, name="ray"))
    manager.submit_pilot(PilotDescription(engine="dask", cores_per_node=1, name="dask", labels=["quiet"]))

    # No task is bound before a pilot has room for it, so the pilot that is up first starts at once.
    tasks = manager.map(work, [0.02] * 300)
    manager.wait_tasks(tasks)
    print(Counter(task.info.pilot for task in tasks))

    named = manager.submit_task(TaskDescription(function=work, args=[0.01], pilot="ray"))
    labelled = manager.submit_task(TaskDescription(function=work, args=[0.01], labels=["quiet"]))
    manager.wait_tasks([named, labelled])
    for task in (named, labelled):
        print(task.info.pilot, "because", manager.explain(task))
