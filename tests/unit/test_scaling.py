"""When the autoscaler asks for pilots and gives them back: pure, and a day of it takes a second."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.scheduling.policies import Autoscaler, Decision, Demand, Member, Scaling

NOTHING = Decision(0, ())
TEMPLATE = PilotDescription(cores_per_node=4)


def autoscaler(**settings: Any) -> Autoscaler:
    return Autoscaler(Scaling(description=TEMPLATE, **{"maximum": 3, "delay": 5.0, **settings}))


def idle(*names: str) -> list[Member]:
    return [Member(name, active=True, busy=False, finished=0) for name in names]


#: id: (demand, pilots that it is worth); pilots have 4 cores, the backlog may be 30 s
WORTH = {
    "nothing": (Demand(), 0),
    "one task and no pilot": (Demand(1, known=1, work=0.001), 1),
    "one unknown task and no pilot": (Demand(1, unknown=1), 1),
    "unknown: one for each slot": (Demand(9, unknown=9), 3),
    "unknown, and pilots on their way": (Demand(9, unknown=9, cores=8, on_the_way=8), 1),
    "unknown, and enough on their way": (Demand(8, unknown=8, cores=8, on_the_way=8), 0),
    "unknown, and all slots taken": (Demand(3, unknown=3, cores=4), 1),
    "little work": (Demand(100, known=100, work=119.0, cores=4), 0),
    "much work": (Demand(100, known=100, work=30.0 * 4 * 2.5, cores=4), 2),
    "more than the maximum": (Demand(10_000, known=10_000, work=1e6), 2500),
    "long, but few": (Demand(2, known=2, work=7200, cores=4), 1),
    "long, but few, and a pilot on its way": (Demand(2, known=2, work=7200, cores=8, on_the_way=4), 0),
}


@pytest.mark.parametrize("demand, pilots", WORTH.values(), ids=WORTH)
def test_what_a_backlog_is_worth(demand: Demand, pilots: int) -> None:
    one = autoscaler(maximum=10_000, delay=0.0)
    assert one.decide(0.0, demand, []).ask == pilots


def test_a_backlog_must_last() -> None:
    one = autoscaler()
    much = Demand(9, unknown=9)
    assert one.decide(0, much, []) == NOTHING
    assert one.decide(4, Demand(), []) == NOTHING  # it was gone in between
    assert one.decide(5, much, []) == NOTHING
    assert one.decide(9, much, []) == NOTHING
    assert one.decide(10, much, []) == Decision(3, ())
    assert one.decide(11, much, [], asked=3) == NOTHING


def test_at_most_and_at_least() -> None:
    one = autoscaler(minimum=2)
    assert one.decide(0, Demand(), []) == Decision(2, ())
    assert one.decide(1, Demand(), idle("a"), asked=1) == NOTHING
    much = Demand(99, unknown=99, cores=8)
    one.decide(2, much, idle("a", "b"))
    assert one.decide(7, much, idle("a", "b")) == Decision(1, ())
    assert one.decide(500, Demand(), idle("a", "b")) == NOTHING
    assert one.decide(501, Demand(), idle("a")) == Decision(1, ())  # one of them ended


def test_idle_pilots_are_given_back_down_to_the_minimum() -> None:
    one = autoscaler(minimum=1)
    assert one.decide(0, Demand(), idle("a", "b", "c")) == NOTHING
    busy = [*idle("a", "c"), Member("b", active=True, busy=True, finished=0)]
    assert one.decide(59, Demand(), busy) == NOTHING
    assert one.decide(60, Demand(), busy) == Decision(0, ("a", "c"))
    assert one.decide(119, Demand(), idle("b")) == NOTHING
    assert one.decide(1000, Demand(), idle("b")) == NOTHING


def test_work_between_two_looks_is_work() -> None:
    one = autoscaler()
    for second in range(300):
        assert one.decide(second, Demand(), [Member("a", active=True, busy=False, finished=second // 59)]) == NOTHING


def test_nothing_is_given_back_while_tasks_are_queued() -> None:
    one = autoscaler()
    one.decide(0, Demand(), idle("a"))
    assert one.decide(100, Demand(1, known=1, work=1.0, cores=4), idle("a")) == NOTHING
    assert one.decide(101, Demand(), idle("a")) == Decision(0, ("a",))


def test_after_a_pilot_was_given_back_only_much_work_is_urgent() -> None:
    one = autoscaler(delay=0.0)
    one.decide(0, Demand(), idle("a"))
    assert one.decide(60, Demand(), idle("a")) == Decision(0, ("a",))
    little, much = Demand(4, unknown=4), Demand(9, unknown=9)
    assert one.decide(61, little, []) == NOTHING
    assert one.decide(62, much, []).ask == 3
    assert one.decide(120, little, []).ask == 1


def test_failed_starts_pause_it() -> None:
    one = autoscaler(delay=0.0, minimum=1)
    one.failed()
    one.failed()
    one.started()
    one.failed()
    one.failed()
    assert one.decide(0, Demand(9, unknown=9), []).ask == 3
    one.failed()
    assert one.paused
    assert one.decide(1, Demand(9, unknown=9), []) == NOTHING


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"minimum": -1}, "minimum: -1 is not valid; expected a whole number of at least 0"),
        ({"minimum": None}, "minimum: None is not valid; expected a whole number of at least 0"),
        ({"maximum": 0}, "maximum: 0 is not valid"),
        ({"minimum": 4}, r"minimum: 4 is not valid; expected at most maximum \(3\)"),
        ({"idle": 0}, "idle: 0 is not valid; expected seconds above 0"),
        ({"delay": -1}, "delay: -1"),
        ({"delay": "soon"}, "delay: 'soon' is not valid; expected seconds of at least 0, a timedelta, or a text"),
        ({"idle": None}, "idle: None is not valid; expected seconds above 0, a timedelta, or a text"),
        ({"backlog": True}, "backlog: True is not valid"),
        (
            {"description": PilotDescription(walltime=1, renewals=1)},
            "renewals: 1 is not valid; expected 0 with autoscale",
        ),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DescriptionError, match=words):
        Scaling(**{"description": TEMPLATE, "maximum": 3, **settings})


def test_times_are_seconds_a_timedelta_or_a_text() -> None:
    times: dict[str, Any] = {"idle": timedelta(minutes=2), "backlog": "0:01:00", "delay": 3}
    made = Scaling(description=TEMPLATE, **times)
    assert (made.idle, made.backlog, made.delay) == (120.0, 60.0, 3.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("every", [20.0, 70.0, 300.0, 3600.0])
def test_a_day_of_bursts_without_flapping(seed: int, every: float) -> None:
    """Bursts of tasks come about ``every`` so many seconds; a pilot takes 0 to 300 s to start.

    Never more pilots than allowed; each burst is worked off; a pilot that is given back was idle for ``idle``, so a day
    has no more turns than there is time for, and bursts that come faster than that keep the pilots that there are.
    """
    dice = random.Random(seed)
    maximum, idle_seconds = 3, 120.0
    one = autoscaler(maximum=maximum, idle=idle_seconds)
    queue = 0.0  # core-seconds; tasks of one second
    starting: dict[str, float] = {}
    active: dict[str, int] = {}
    asks = drains = 0
    longest = waited = 0.0
    next_burst = 0.0
    for now in range(86_400):
        if now >= next_burst:
            queue += dice.randint(1, 200)
            next_burst = now + every * dice.uniform(0.5, 1.5)
        for name in [name for name, at in starting.items() if now >= at]:
            del starting[name]
            active[name] = 0
        busy = set()
        for name in active:
            done = min(queue, 4.0)
            queue -= done
            active[name] += int(done)
            if done:
                busy.add(name)
        way = 4.0 * len(starting)
        demand = Demand(int(queue), queue, queue, 0.0, 4.0 * len(active) + way, way) if queue else Demand()
        members = [Member(name, True, name in busy, finished) for name, finished in active.items()]
        members += [Member(name, False, False, 0) for name in starting]
        decision = one.decide(float(now), demand, members)
        assert not (decision.ask and decision.drain)
        assert not (decision.drain and queue)
        for _ in range(decision.ask):
            asks += 1
            starting[f"p{asks}"] = now + dice.uniform(0, 300)
        for name in decision.drain:
            drains += 1
            del active[name]
        assert len(starting) + len(active) <= maximum
        waited = waited + 1 if queue and not active else 0.0
        longest = max(longest, waited)
    assert asks >= 1
    assert 0 <= asks - drains <= maximum
    bound = maximum * (1 + 86_400 / max(every * 0.5, idle_seconds))
    assert asks <= (maximum if every < 60 else bound)
    assert longest <= 300 + 5 + idle_seconds + 2  # its start, the delay, and the pause after one was given back
