"""Whose tasks are taken from the store next: users take turns, so that nobody waits for all tasks of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilot.service.active import ActiveTask


def waiting(stored: Mapping[str, int], active: Iterable[ActiveTask]) -> tuple[dict[str, int], Counter[str]]:
    """How many tasks each user has in the store that are not active, at most; and how many are active.

    Args:
        stored: tasks that are not over, by user.
        active: tasks that were taken, those included whose end is being written.
    """
    counts: Counter[str] = Counter()
    certain: Counter[str] = Counter()  # of these the store says that they are not over
    for one in active:
        counts[one.user] += 1
        certain[one.user] += not one.is_ending
    return {user: count - certain[user] for user, count in stored.items() if count > certain[user]}, counts


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
