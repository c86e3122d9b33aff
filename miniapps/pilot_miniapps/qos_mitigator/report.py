"""Figures and table of the studies, from what their tasks gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pilot_miniapps.frame.intervals import interval
from pilot_miniapps.qos_mitigator.cases import by_family

if TYPE_CHECKING:
    from pilot_miniapps.frame import Run
    from pilot_miniapps.qos_mitigator.choice import Choosing
    from pilot_miniapps.qos_mitigator.cost import Cost
    from pilot_miniapps.qos_mitigator.fidelity import Case
    from pilot_miniapps.qos_mitigator.freezing import Frozen
    from pilot_miniapps.qos_mitigator.harm import Harm
    from pilot_miniapps.qos_mitigator.large import Large
    from pilot_miniapps.qos_mitigator.static import Static

#: By what is reduced: the pieces, the circuits that run for them, pieces where nothing is frozen, or nothing is cut.
SUFFIXES = {"largest": "", "executed": "_executed", "cutting": "_cutting_only", "freezing": "_freezing_only"}
#: By width, the least reduction of gates between qubits and of depth.
REDUCTIONS = {12: (0.77, 0.56), 24: (0.70, 0.50)}


def static(run: Run, found: Sequence[Static], widths: Sequence[int]) -> list[Any]:
    """Reductions in the largest piece; families count the same."""
    for width in widths:
        its = [one for one in found if one.qubits == width]
        bars = REDUCTIONS.get(width, (None, None))
        for name, bar in zip(("cx", "depth"), bars, strict=True):
            for kind in ("largest", "executed", "cutting", "freezing"):
                values = by_family(
                    (one.family, 1 - getattr(one, f"{kind}_{name}") / max(1, getattr(one, name))) for one in its
                )
                key = f"{name}_reduction_{width}{SUFFIXES[kind]}"
                value, spread = interval(list(values.values()))
                limit = None if bar is None or kind != "largest" else f">= {bar:g}"
                run.figure(key, value, "", limit, spread, len(values))
        ratios = by_family((one.family, one.cx_sum / max(1, one.cx)) for one in its)
        run.figure(f"cx_sum_ratio_{width}", fmean(ratios.values()), "ratio", n=len(its))
    return list(found)


def successes(run: Run, found: Mapping[int, tuple[float, float]]) -> None:
    """The probability that 1,000 qubits run without an error."""
    for budget, (whole, largest) in found.items():
        run.figure(f"success_1000_budget_{budget}", whole, "")
        run.figure(f"success_1000_largest_piece_{budget}", largest, "")


def choice(run: Run, found: Sequence[Choosing]) -> list[Any]:
    """What is lost where the best variant is not chosen."""
    value, spread = interval([1 - one.chosen / one.best for one in found])
    run.figure("regret_mean", value, "", "<= 0.02", spread, len(found))
    run.figure("regret_max", max(1 - one.chosen / one.best for one in found), "", n=len(found))
    value, spread = interval([1 - one.plain / one.best for one in found])
    run.figure("regret_as_it_is", value, "", None, spread, len(found))
    return list(found)


def fidelity(run: Run, found: Sequence[Case], used: Sequence[float]) -> list[Any]:
    """Gains at equal shots. Families count the same on each device."""
    logs = _by_case(found, lambda one: fmean(map(log, one.mitigated)) - fmean(map(log, one.plain)))
    ceilings = _by_case(found, lambda one: fmean(map(log, one.ceiling)) - fmean(map(log, one.plain)))
    cutting = _by_case(found, lambda one: fmean(map(log, one.cutting)) - fmean(map(log, one.plain)))
    means = _by_case(found, lambda one: fmean(one.mitigated) / fmean(one.plain))
    value, spread = interval(list(logs.values()))
    ends = None if spread is None else (exp(spread[0]), exp(spread[1]))
    run.figure("gain_geomean", exp(value), "ratio", None, ends, len(logs))
    run.figure("interval", exp(value) if ends is None else ends[0], "ratio", "> 1", ends, len(logs))
    run.figure("ceiling", exp(fmean(ceilings.values())), "ratio", n=len(logs))
    run.figure("share_of_log_gain", value / fmean(ceilings.values()), "", ">= 0.55", None, len(logs))
    run.figure("worst_family", min(means.values()), "ratio", ">= 0.98", None, len(means))
    run.figure("gain_cutting_only", exp(fmean(cutting.values())), "ratio", n=len(logs))
    ratio = fmean(value for one in found for value in one.plain_error)
    ratio = fmean(value for one in found for value in one.mitigated_error) / ratio
    run.figure("observable_error_ratio", ratio, "ratio", "<= 0.75", None, len(found))
    run.figure("fidelity.circuits", fmean(one.circuits for one in found), "circuits", n=len(found))
    run.figure("fidelity.shots", fmean(one.shots for one in found), "shots", n=len(found))
    run.figure("fidelity.classical_s", fmean(one.seconds for one in found), "s", n=len(found))
    run.figure("utilisation_at_75", fmean(used), "", n=len(used))
    return list(found)


def _by_case(found: Sequence[Case], value: Any) -> dict[str, float]:
    return by_family((f"{one.snapshot} {one.family}", value(one)) for one in found)


def harm(run: Run, found: Sequence[Harm]) -> list[Any]:
    """Where mitigation has the larger error. A ratio counts by the lower bound of its interval."""
    worst = max(found, key=lambda one: one.low)
    run.figure("worst_mse_ratio", worst.low, "ratio", "<= 1", (worst.low, worst.high), len(found))
    run.figure("worst_mse_ratio_mean", max(one.ratio for one in found), "ratio", n=len(found))
    run.figure("harmed", sum(one.low > 1 for one in found), "", "<= 0", n=len(found))
    logs = [log(one.ratio) for one in found]
    value, spread = interval(logs)
    ends = None if spread is None else (exp(spread[0]), exp(spread[1]))
    run.figure("mse_ratio_geomean", exp(value), "ratio", None, ends, len(found))
    run.figure("mitigated", sum(one.name != "as it is" for one in found), "", n=len(found))
    run.figure("extrapolated", sum("zne" in one.name for one in found), "", n=len(found))
    return list(found)


def large(run: Run, found: Sequence[Large]) -> list[Any]:
    """The gain without noise first, then what noise adds to it."""
    sampling = [log(one.mitigated_noiseless / one.plain_noiseless) for one in found]
    whole = [log(one.mitigated / one.plain) for one in found]
    value, spread = interval(whole)
    run.figure("gain", exp(value), "ratio", None, spread and (exp(spread[0]), exp(spread[1])), len(found))
    run.figure("gain_sampling", exp(fmean(sampling)), "ratio", n=len(found))
    run.figure("gain_noise", exp(value - fmean(sampling)), "ratio", n=len(found))
    return list(found)


def freezing(run: Run, found: Sequence[Frozen]) -> list[Any]:
    """Approximation ratios."""
    from pilot_miniapps.qos_mitigator.freezing import mean

    full = mean([one.full for one in found])
    run.figure("ratio_full", full, "", n=len(found))
    value, spread = interval([fmean(one.frozen) for one in found])
    run.figure("ratio_frozen", value, "", f">= {full!r}", spread, len(found))
    run.figure("ratio_best_subproblem", mean([one.best for one in found]), "", n=len(found))
    run.figure("ratio_solution", mean([one.solved for one in found]), "", n=len(found))
    run.figure("energies_equal", float(all(one.equal for one in found)), "", "== 1", n=len(found))
    return list(found)


def cost(run: Run, found: Sequence[Cost]) -> list[Any]:
    """Seconds of CPU time; circuits."""
    most = max(one.cuts for one in found)
    its = [one for one in found if one.cuts == most]
    knits, decisions = [one.knit for one in its], [one.decision for one in found]
    run.figure("knit_s", max(knits), "s", "<= 1", (min(knits), max(knits)), len(its))
    run.figure("knit_cuts", most, "")
    run.figure("decision_s", max(decisions), "s", "<= 0.5", (min(decisions), max(decisions)), len(decisions))
    run.figure("circuits", fmean(one.circuits for one in its), "", n=len(its))
    classical = [one.decision + one.knit for one in found]
    run.figure("classical_s", fmean(classical), "s", None, (min(classical), max(classical)), len(classical))
    whole = fmean(one.compiling for one in found)
    run.figure("classical_ratio", fmean(classical) / whole, "ratio", n=len(found), timed=True)
    return list(found)


def rows(details: Mapping[str, Sequence[Any]]) -> list[Mapping[str, Any]]:
    """One table of all studies: what was done with each circuit, and what came of it."""
    table: list[Mapping[str, Any]] = []
    for one in details.get("static", ()):
        what = f"static {one.qubits}"
        name = "CX of the largest piece"
        table.append(_row(what, one.family, name, one.cx, one.largest_cx, one.circuits, one.overhead, one.name))
    for one in details.get("choice", ()):
        table.append(
            _row("choice", f"{one.family} {one.seed}", "fidelity", one.plain, one.chosen, None, None, one.name)
        )
    for one in details.get("fidelity", ()):
        name = f"{one.family} {one.snapshot}"
        plain, mitigated = fmean(one.plain), fmean(one.mitigated)
        table.append(_row("fidelity", name, "fidelity", plain, mitigated, one.circuits, one.overhead, one.name))
    for one in details.get("harm", ()):
        name = f"{one.family} {one.seed}, {one.shots} shots"
        table.append(_row("harm", name, "mean square error", one.plain, one.plain * one.ratio, None, None, one.name))
    for one in details.get("large", ()):
        values = (one.plain, one.mitigated, one.circuits, one.overhead, one.name)
        table.append(_row("large", one.family, "fidelity", *values))
    for one in details.get("freezing", ()):
        name = f"{one.family} {one.seed}"
        ratios = fmean(one.full), fmean(one.frozen)
        table.append(_row("freezing", name, "approximation ratio", *ratios, None, None, one.name))
    return table


def _row(
    study: str,
    circuit: str,
    measure: str,
    plain: float,
    mitigated: float,
    circuits: int | None,
    overhead: float | None,
    name: str,
) -> Mapping[str, Any]:
    return {
        "study": study,
        "circuit": circuit,
        "measure": measure,
        "plain": plain,
        "mitigated": mitigated,
        "circuits": circuits,
        "overhead": overhead,
        "chosen": name,
    }
