"""`Unparsed`: tasks that wait until their texts are parsed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot.service.active import ActiveTask
    from pilot.service.parsing import Parser, Source
    from pilot.service.store import Store


class Unparsed:
    """Active tasks by the texts that they wait for. For one thread."""

    def __init__(self, parser: Parser, store: Store) -> None:
        """None yet.

        Args:
            parser: has texts parsed.
            store: has the texts.
        """
        self._parser, self._store = parser, store
        self._tasks: defaultdict[Source, list[ActiveTask]] = defaultdict(list)
        #: Texts that the parser has not been asked for.
        self._unasked: set[Source] = set()

    def add(self, one: ActiveTask) -> None:
        """It waits for the texts that it misses, once `ask` is called."""
        for source in one.missing:
            self._tasks[source].append(one)
        self._unasked |= one.missing

    def ask(self) -> None:
        """Have their texts parsed. What an error of the store has interrupted, the next call asks for."""
        if self._unasked:
            texts = self._store.texts({hash for hash, _ in self._unasked})
            self._parser.ask({source: texts[source[0]] for source in self._unasked})
            self._unasked.clear()

    def parsed(self, sources: set[Source]) -> Iterator[ActiveTask]:
        """The tasks that miss nothing any more, when these were parsed."""
        for source in sources:
            for one in self._tasks.pop(source, ()):
                one.missing.discard(source)
                if not one.missing:
                    yield one
