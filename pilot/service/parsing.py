"""`Parser`: has the texts of strangers parsed on pilots, each once for its content."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from pilot.descriptions import TaskDescription
from pilot.errors import ProgramError
from pilot.service.programs import Refusal, parse

if TYPE_CHECKING:
    from pilot.manager.handles import Task
    from pilot.manager.manager import PilotManager

#: Circuits that are kept for other tasks with the same text.
KEPT = 2000
#: Texts of one task.
TEXTS_AT_ONCE = 20
#: A text: its hash, and the format that it is read in.
Source = tuple[str, str]
#: What these tasks are called.
NAME = "parse programs"


class Parser:
    """Circuits by their sources. For one thread, but for ``finished``, which it calls from another one."""

    def __init__(self, manager: PilotManager, finished: Callable[[set[Source]], None]) -> None:
        """Make it.

        Args:
            manager: whose pilots parse.
            finished: called, in a thread of the manager's, when these were parsed.
        """
        self._manager, self._finished = manager, finished
        self._known: OrderedDict[Source, Any] = OrderedDict()
        #: Texts that are being parsed: the task, and all of its texts.
        self._asked: dict[Source, tuple[Task, list[Source]]] = {}
        self._over: list[Task] = []
        self._failed: list[Source] = []

    def known(self, source: Source) -> Any:
        """A circuit, a `Refusal`, or the error of the task that parsed it; None: not known, or not any more."""
        if (asked := self._asked.get(source)) is not None and asked[0].done():
            self._take_in(*asked)
        if source in self._known:
            self._known.move_to_end(source)
        return self._known.get(source)

    def ask(self, texts: Mapping[Source, str]) -> None:
        """Have texts parsed. Does not block."""
        new = [source for source in texts if source not in self._asked and source not in self._known]
        for first in range(0, len(new), TEXTS_AT_ONCE):
            some = new[first : first + TEXTS_AT_ONCE]
            args = ([(texts[source], source[1]) for source in some],)
            task = self._manager.submit_task(TaskDescription(function=parse, args=args, name=NAME, priority=1))
            self._asked.update(dict.fromkeys(some, (task, some)))
            task.add_done_callback(partial(self._tell, set(some)))

    def forget_errors(self) -> None:
        """Texts that could not be parsed for a reason that is not theirs may be parsed again."""
        for source in self._failed:
            self._known.pop(source, None)
        self._failed.clear()

    def is_own(self, task: Task) -> bool:
        """True for a task that parses."""
        return task.name == NAME

    def over(self) -> list[Task]:
        """Tasks that have parsed, and can be forgotten; each is given once."""
        over, self._over = self._over, []
        return over

    def _tell(self, sources: set[Source], task: Any) -> None:
        self._finished(sources)

    @staticmethod
    def error(refusal: Refusal) -> ProgramError:
        """The error about a text that is no program."""
        place = {name: getattr(refusal, name) for name in ("line", "column", "expected")}
        return ProgramError(refusal.message, field="program", **place)

    def _take_in(self, task: Task, sources: list[Source]) -> None:
        try:
            found: list[Any] = task.result()
        except Exception as error:
            found = [error] * len(sources)
            self._failed += sources
        for source, parsed in zip(sources, found, strict=True):
            del self._asked[source]
            self._known[source] = parsed
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        self._over.append(task)
