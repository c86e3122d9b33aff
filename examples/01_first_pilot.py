"""One pilot on this machine, one task, a thousand tasks."""

from pilot import PilotDescription, PilotManager


def square(number: int) -> int:
    return number * number


with PilotManager() as manager:
    manager.submit_pilot(PilotDescription(resource="local://", engine="process", cores_per_node=2))

    task = manager.submit_task(square, 7)  # a Future
    print("7 squared is", task.result())
    print("it ran on", task.info.pilot, "in worker", task.info.worker)

    tasks = manager.map(square, range(1000))
    print("the sum of 1,000 squares is", sum(manager.get_results(tasks)))
