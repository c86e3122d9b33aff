"""Whose tasks are taken from the store next: users take turns, so that nobody waits for all tasks of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from heapq import heapify, heappop, heapreplace


class Turns:
    """How many tasks of each user are active. For one thread.

    It is counted with each change: to look through all active tasks takes longer the more the window has.
    """

    def __init__(self) -> None:
        #: By user: tasks that were taken, those included whose end is being written.
        self.active: Counter[str] = Counter()
        #: Of these, those that are not ending: the store says that they are not over.
        self._certain: Counter[str] = Counter()

    def begins(self, user: str) -> None:
        """A task of theirs was taken."""
        self.active[user] += 1
        self._certain[user] += 1

    def ends(self, user: str) -> None:
        """The end of an active task of theirs is being written."""
        self._certain[user] -= 1

    def is_over(self, user: str) -> None:
        """Its end was written: it is not active any more."""
        self.active[user] -= 1

    def waiting(self, stored: Mapping[str, int]) -> dict[str, int]:
        """How many tasks each user has in the store that are not active, at most.

        Args:
            stored: tasks that are not over, by user.
        """
        return {user: count - self._certain[user] for user, count in stored.items() if count > self._certain[user]}


def shares(wanted: Mapping[str, int], active: Mapping[str, int], room: int) -> dict[str, int]:
    """How many tasks of each user are taken: one after the other from who has the fewest active ones.

    Args:
        wanted: tasks that wait, by user.
        active: tasks that were taken before, by user.
        room: how many are taken at most.
    """
    found: dict[str, int] = {}
    queue = [(active.get(user, 0), user) for user in wanted]
    heapify(queue)
    for _ in range(min(room, sum(wanted.values()))):
        while found.get(queue[0][1], 0) == wanted[queue[0][1]]:
            heappop(queue)
        count, user = queue[0]
        found[user] = found.get(user, 0) + 1
        heapreplace(queue, (count + 1, user))
    return found
