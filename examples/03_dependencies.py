"""Tasks among the arguments of a task are its dependencies: it starts when they have their results."""

from pilot import PilotDescription, PilotManager, TaskDescription


def count(text: str) -> int:
    return len(text.split())


def total(counts: list[int]) -> int:
    return sum(counts)


def report(words: int) -> str:
    return f"{words} words"


texts = ["late binding", "one task one future", "a pilot is a placeholder job"]

with PilotManager() as manager:
    manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))

    counts = manager.map(count, texts)
    words = manager.submit_task(total, counts)  # tasks inside a list count too
    answer = manager.submit_task(report, words)
    print(answer.result())

    # Where no value is passed on, depends_on gives the order.
    after = TaskDescription(function=print, args=["after everything else"], depends_on=[answer])
    task = manager.submit_task(after)
    task.result()
    print("a task's output comes back with it:", task.info.stdout.strip())
