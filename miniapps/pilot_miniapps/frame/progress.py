"""How far a run is: a bar on a terminal, and lines in the output of a batch job. Both go to standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pilot import Task

#: Seconds between two lines, where there is no terminal; and from one refresh of the bar to the next.
LINE_SECONDS = 10.0
BAR_SECONDS = 0.25


def say(text: str) -> None:
    """A line with the time of day, on standard error."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


@contextmanager
def shown(tasks: Sequence[Task], what: str) -> Iterator[None]:
    """Show how many of `tasks` are done, how many a second, and on which pilots, while the block runs."""
    count = _Count(tasks)
    over = threading.Event()
    on_terminal = Console(stderr=True).is_terminal
    work = _bar if on_terminal else _lines
    thread = threading.Thread(target=work, args=(count, what, over), name="miniapp-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Count:
    """How many of some tasks are done."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.total = len(tasks)
        self._tasks = tasks
        self._left = list(tasks)
        self._done_by: Counter[str] = Counter()
        self._begun = time.perf_counter()
        self._before = self.update()

    def update(self) -> int:
        """Look again; how many are done."""
        left = []
        for task in self._left:
            if task.done():
                self._done_by[str(task.info.pilot)] += 1
            else:
                left.append(task)
        self._left = left
        return self.total - len(left)

    @property
    def text(self) -> str:
        """The rate since the block began, and the share of each pilot."""
        done = self._done_by.total() - self._before
        rate = done / max(time.perf_counter() - self._begun, 1e-9)
        shares = ", ".join(f"{pilot} {number}" for pilot, number in sorted(self._done_by.items()))
        return f"{rate:.3g}/s" + (f" · {shares}" if shares else "")


def _bar(count: _Count, what: str, over: threading.Event) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=count.total, rate="")
        last = False
        while not last:
            last = over.wait(BAR_SECONDS)
            progress.update(bar, completed=count.update(), rate=count.text)


def _lines(count: _Count, what: str, over: threading.Event) -> None:
    while not over.wait(LINE_SECONDS):
        say(f"{what}: {count.update():,} of {count.total:,}, {count.text}")
