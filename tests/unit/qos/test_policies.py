"""Policies over all tasks and QPUs beside solutions by exhaustion."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from pilot import registry
from pilot.interfaces import QPUTable, Spreads
from pilot.qos import genetic, nsga2, policies
from pilot.qos.policies import match, solve
from pilot.scheduling.qpu_policies import Formula


def table(random: np.random.Generator, tasks: int, qpus: int, fits: float = 1.0) -> QPUTable:
    shape = (tasks, qpus)
    unknown = np.full(shape, np.nan)
    able = random.random(shape) < fits
    able[:, 0] = True
    return QPUTable(
        qpus=tuple(("p", f"q{at}") for at in range(qpus)),
        fits=able,
        fidelity=random.uniform(0.5, 0.95, shape),
        seconds=random.uniform(1.0, 10.0, shape),
        wait=np.repeat(random.uniform(0.0, 20.0, (1, qpus)), tasks, axis=0),
        cost=unknown,
        memory=unknown,
        spreads=Spreads(unknown, unknown, unknown, unknown),
        place=np.full(tasks, -1),
        busy=random.random(qpus),
        pending=np.full(qpus, np.nan),
    )


class Task:
    arrived = 0.0


def test_the_formula_is_the_papers_with_one_anchor() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        one, c, beta = table(random, 1, 6, 0.7), random.random(), random.uniform(-0.5, 0.5)
        f, t, u = one.fidelity[0], one.wait[0] + one.seconds[0] + 7.0, one.busy
        able = np.flatnonzero(one.fits[0])
        anchor = max(able, key=lambda at: f[at])
        gain = {
            at: c * (f[at] - f[anchor]) / f[anchor]
            - (1 - c) * (t[at] - t[anchor]) / t[anchor]
            + beta * (u[at] - u[anchor]) / max(u[anchor], 0.01)
            for at in able
        }
        queue: Any = [Task()]
        assert Formula(float(c), float(beta)).assign(queue, one, 7.0) == [max(gain, key=gain.__getitem__)]


@pytest.mark.parametrize("price", [0.0, 2.0, 50.0])
def test_a_matching_is_the_best_of_all_assignments(price: float) -> None:
    """The sum of waits, each QPU's tasks shortest first, and of priced losses."""
    random = np.random.default_rng(1)
    for _ in range(10):
        one = table(random, 5, 3, 0.8)
        loss = 100 * (1 - one.fidelity / np.where(one.fits, one.fidelity, 0).max(axis=1, keepdims=True))

        def cost(columns: tuple[int, ...], one: QPUTable = one, loss: Any = loss) -> float:
            total = 0.0
            for qpu in range(3):
                mine = sorted((one.seconds[task, qpu], task) for task, at in enumerate(columns) if at == qpu)
                free = one.wait[0, qpu]
                for seconds, task in mine:
                    free += seconds
                    total += free + price * loss[task, qpu]
            return float(total)

        every = [columns for columns in product(range(3), repeat=5) if all(one.fits[np.arange(5), columns])]
        assert cost(tuple(match(one, price))) == pytest.approx(min(map(cost, every)))


def cost_of(columns: Any, one: QPUTable, price: float) -> float:
    """The sum of waits, each QPU's tasks shortest first, and of priced losses."""
    loss = 100 * (1 - one.fidelity / one.fidelity.max(axis=1, keepdims=True))
    total = float(price * loss[np.arange(len(columns)), columns].sum())
    for qpu in range(one.fits.shape[1]):
        total += float((one.wait[0, qpu] + np.cumsum(np.sort(one.seconds[columns == qpu, qpu]))).sum())
    return total


@pytest.mark.parametrize("price", [0.0, 5.0])
def test_many_tasks_are_matched_in_parts_nearly_as_well(price: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager waits for it, and the time of one matching grows with the third power of the tasks."""
    one = table(np.random.default_rng(5), 300, 4)
    order = np.argsort(one.seconds.min(axis=1))
    one = one._replace(seconds=one.seconds[order], fidelity=one.fidelity[order])
    sizes = []
    solver = policies.linear_sum_assignment
    monkeypatch.setattr(policies, "linear_sum_assignment", lambda costs: sizes.append(len(costs)) or solver(costs))
    parts = match(one, price)
    assert max(sizes) <= 128 and sum(sizes) >= 300
    monkeypatch.setattr(policies, "MATCHED_TASKS", 300)
    assert cost_of(parts, one, price) == pytest.approx(cost_of(match(one, price), one, price), rel=0.02)


def test_a_search_is_for_a_hundred_tasks() -> None:
    queue: Any = [Task()] * 130
    found = registry.policy("nsga2", population=8, generations=1).assign(
        queue, table(np.random.default_rng(6), 130, 3), 0.0
    )
    assert min(found[:100]) >= 0 and set(found[100:]) == {-1}


@pytest.mark.parametrize("policy", ["matching", "nsga2"])
def test_many_tasks_go_to_the_only_qpu_that_fits(policy: str) -> None:
    one = table(np.random.default_rng(2), 30, 12)
    one.fits[:] = False
    one.fits[:, 3] = True
    one.fits[7] = False
    settings = {"population": 8, "generations": 1} if policy == "nsga2" else {}
    queue: Any = [Task()] * 30
    found = registry.policy(policy, **settings).assign(queue, one, 0.0)
    assert list(found) == [-1 if task == 7 else 3 for task in range(30)]


def test_a_high_price_sends_all_tasks_to_the_best_qpu() -> None:
    one = table(np.random.default_rng(3), 30, 12)
    one.fidelity[:, 5] = 0.99
    assert set(match(one, 1e6).tolist()) == {5}


def test_matched_tasks_stay_where_they_wait_unless_it_is_much_shorter_elsewhere() -> None:
    one = table(np.random.default_rng(4), 5, 3)
    one = one._replace(wait=np.tile([100.0, 90.0, 80.0], (5, 1)), place=np.zeros(5, int))
    queue: Any = [Task()] * 5
    assert registry.policy("matching", moves=True).assign(queue, one, 0.0) == [0] * 5


def test_the_formula_does_not_prefer_a_qpu_of_unknown_run_time() -> None:
    one = table(np.random.default_rng(5), 1, 3)
    one.fidelity[:] = [0.9, 0.5, 0.5]
    one.wait[:] = 10.0
    one.seconds[:] = [5.0, np.nan, 5.0]
    queue: Any = [Task()]
    assert Formula().assign(queue, one, 0.0) == [0]


def test_dual_prices_are_what_more_time_is_worth() -> None:
    """Where a QPU may be busy a little longer, the loss falls by its price times that."""
    random = np.random.default_rng(2)
    rates = random.uniform(0.01, 0.03, 6)
    loss, seconds = random.uniform(0, 10, (6, 3)), random.uniform(10, 20, (6, 3))
    loss[:, 0] = 0.0
    least, worth = solve(rates, loss, seconds, 0.8)
    more, _ = solve(rates, loss, seconds, 0.8 + 1e-4)
    assert (worth >= 0).all() and worth.max() > 0
    assert (least - more) * rates.sum() == pytest.approx(1e-4 * worth.sum(), rel=1e-3)


def test_dual_prices_are_not_solved_for_again_at_each_look_of_a_clock_that_begins_at_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solved = []
    monkeypatch.setattr(policies, "prices", lambda *given: solved.append(given))
    policy, one = policies.DualPrices(), table(np.random.default_rng(0), 1, 3)
    queue: Any = [Task()]
    for now in range(0, 30_000, 30):
        policy.assign(queue, one, float(now))
    assert len(solved) < 30_000 / policies.SOLVE_SECONDS + 20


def test_the_prices_of_qpus_that_cannot_do_all_the_work() -> None:
    """They may be busier by steps of a tenth, as few as there must be."""
    random = np.random.default_rng(7)
    rates, loss, seconds = random.uniform(1, 3, 6), random.uniform(0, 10, (6, 3)), random.uniform(10, 20, (6, 3))
    least, worth = solve(rates, loss, seconds, 0.8)
    steps = next(n for n in range(200) if not np.isnan(alone(rates, loss, seconds, 0.8 * 1.1**n)))
    assert steps > 30
    assert least == pytest.approx(alone(rates, loss, seconds, 0.8 * 1.1**steps)) and worth.max() > 0


def alone(rates: Any, loss: Any, seconds: Any, bound: float) -> float:
    """The mean loss at best, by a program of all shares; NaN: there is no solution."""
    from scipy.optimize import linprog

    kinds, qpus = loss.shape
    busy = np.concatenate([np.diag(row) for row in rates[:, None] * seconds], axis=1)
    sums = np.repeat(np.eye(kinds), qpus, axis=1)
    found = linprog((rates[:, None] * loss).ravel(), busy, np.full(qpus, bound), sums, np.ones(kinds))
    return found.fun / rates.sum() if found.status == 0 else np.nan


def test_ranks_and_crowding_of_rows_are_those_of_the_definitions() -> None:
    """Nondominated sorting and crowding distance, rank by rank; rows that are equal come one after another."""
    values = np.random.default_rng(8).integers(0, 12, (60, 2)).astype(float)
    ranks = nsga2.ranked(values)
    crowding = nsga2.crowded(values, ranks)
    left, rank = list(range(60)), 0
    while left:
        distinct = {tuple(values[at]): at for at in reversed(left)}
        front = [
            at for v, at in distinct.items() if not any(o != v and o[0] <= v[0] and o[1] <= v[1] for o in distinct)
        ]
        assert {tuple(one) for one in values[ranks == rank]} == {tuple(values[at]) for at in front}
        order = [tuple(one) for one in sorted(values[ranks == rank].tolist())]
        spans = [max(order[0][0], order[-1][0]) - order[0][0] or 1.0, order[0][1] - order[-1][1] or 1.0]
        for at in np.flatnonzero(ranks == rank):
            place = order.index(tuple(values[at]))
            if place in (0, len(order) - 1):
                assert crowding[at] == np.inf
            else:
                before, after = order[place - 1], order[place + 1]
                sides = (after[0] - before[0]) / spans[0] + (before[1] - after[1]) / spans[1]
                assert crowding[at] == pytest.approx(sides)
        left = [at for at in left if ranks[at] > rank]
        rank += 1


def test_the_front_has_both_ends_and_is_no_worse_than_its_seeds() -> None:
    one = table(np.random.default_rng(3), 20, 4)
    front = genetic.search(one, 40, 15, 0)
    waits, fidelity = genetic.evaluate(one, genetic.seeds(one))
    assert front.fidelity.max() == pytest.approx(one.fidelity.max(axis=1).mean())
    assert front.waits.min() <= waits.min() + 1e-9
    assert (np.diff(front.waits) > 0).all() and (np.diff(front.fidelity) > 0).all()
    for wait, value in zip(waits, fidelity, strict=True):
        assert ((front.waits <= wait + 1e-9) & (front.fidelity >= value - 1e-9)).any()
    by_hand = []
    for columns in front.columns[:3]:
        free, total = one.wait[0].copy(), 0.0
        for task, at in enumerate(columns):
            total += free[at]
            free[at] += one.seconds[task, at]
        by_hand.append(total / 20)
    assert np.allclose(by_hand, front.waits[:3])
