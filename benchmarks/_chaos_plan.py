"""What a seed of `chaos.py` stands for: the pilots, and what is done to them when so many tasks have begun."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Deeds that end attempts of tasks. What a task runs again must follow one of them.
LOSSES = frozenset({"kill worker", "kill agent", "kill fork_server", "kill raylet", "kill gcs_server", "kill all",
                    "stop raylet", "stop gcs_server", "cancel pilot", "cut node", "kill slurmd",
                    "fill disk"})  # fmt: skip
#: Seconds without a message after which a manager gives an agent up: a longer stop is a loss.
GIVEN_UP_SECONDS = 25.0
#: Bytes of the disk that a session has.
DISK = 128 * 2**20

#: Weights of what may be done, for all engines.
_DEEDS = {
    "kill worker": 5,
    "stop worker": 3,
    "kill agent": 3,
    "stop agent": 3,
    "kill watcher": 1,
    "kill manager": 3,
    "stop manager": 3,
    "kill all": 2,
    "fill disk": 3,
    "drain pilot": 2,
    "cancel pilot": 2,
    "add pilot": 3,
    "cancel tasks": 3,
    "submit tasks": 3,
}
_OF_ENGINES = {
    "process": {"kill fork_server": 2, "stop fork_server": 2},
    "ray": {"kill raylet": 2, "stop raylet": 1, "kill gcs_server": 2, "stop gcs_server": 1},
    "dask": {},
}
_OF_SITES = {"local": {}, "slurm": {"cut node": 6, "kill slurmd": 3}}


@dataclass(frozen=True)
class Fault:
    """Something that is done when so many tasks have begun."""

    #: Tasks that have begun.
    at: int
    #: A verb and what it is done to, such as "kill worker".
    deed: str
    #: Which one, of those that are there: a number from 0 to 1.
    pick: float
    #: For how long, where it is a state.
    seconds: float

    def __str__(self) -> str:
        return f"at {self.at}: {self.deed} ({self.pick:.2f})" + (f" for {self.seconds:.1f} s" if self.lasts else "")

    @property
    def lasts(self) -> bool:
        """True when it is a state, which ends."""
        return self.deed.split()[0] in ("stop", "fill", "cut") or self.deed == "kill slurmd"

    @property
    def loses(self) -> bool:
        """True when tasks may run again because of it."""
        return self.deed in LOSSES or (self.deed == "stop agent" and self.seconds >= GIVEN_UP_SECONDS)


@dataclass(frozen=True)
class Schedule:
    """One session: its tasks, its pilots, and what is done to them."""

    seed: int
    engine: str
    #: "local" or "slurm".
    site: str
    tasks: int
    #: How many of them are submitted at once; the others come later, with a key.
    first: int
    #: Cores of each pilot.
    pilots: tuple[int, ...]
    faults: tuple[Fault, ...]
    #: How the session ends: when all tasks are over, or before.
    closes_early: bool
    #: Whether the session is attached once more after that.
    reopens: bool

    def __str__(self) -> str:
        lines = [f"{self.engine} on {self.site}, {self.tasks} tasks, {self.first} at once; cores {self.pilots}"]
        lines += [f"  {fault}" for fault in self.faults]
        lines += ["  closed early"] * self.closes_early + ["  attached again at the end"] * self.reopens
        return "\n".join(lines)


def plan(
    seed: int, engine: str, *, site: str = "local", tasks: int | None = None, faults: int | None = None
) -> Schedule:
    """The schedule of a seed.

    Args:
        seed: any integer; another engine or site makes another schedule of it.
        engine: "process", "ray" or "dask".
        site: "local": this host; "slurm": pilots of two nodes.
        tasks: how many; None: 300 to 900.
        faults: how many; None: 4 to 10.
    """
    dice = random.Random(f"{seed} {engine} {site}")
    count = dice.randint(300, 900) if tasks is None else tasks
    deeds = _DEEDS | _OF_ENGINES[engine] | _OF_SITES[site]
    chosen = dice.choices(list(deeds), list(deeds.values()), k=dice.randint(4, 10) if faults is None else faults)
    moments = sorted(dice.randint(1, int(0.9 * count)) for _ in chosen)
    return Schedule(
        seed=seed,
        engine=engine,
        site=site,
        tasks=count,
        first=count * dice.randint(5, 10) // 10,
        pilots=tuple(dice.choices((2, 3), k=dice.choice((1, 2, 2)))),
        faults=tuple(
            Fault(at, deed, dice.random(), _seconds(deed, dice)) for at, deed in zip(moments, chosen, strict=True)
        ),
        closes_early=dice.random() < 0.12,
        reopens=dice.random() < 0.25,
    )


def _seconds(deed: str, dice: random.Random) -> float:
    """How long a state lasts. A few stops are long enough for the others to notice."""
    if deed == "cut node":
        return dice.uniform(24, 28)
    if deed == "kill slurmd":  # Slurm gives the node up after 10 s
        return dice.uniform(1, 16)
    if deed == "stop agent" and dice.random() < 0.08:
        return dice.uniform(33, 36)
    if deed == "stop manager" and dice.random() < 0.08:
        return dice.uniform(17, 20)
    return dice.uniform(0.3, 3.0)
