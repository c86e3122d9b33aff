"""The mini-app: circuits that share a device, study by study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from pilot import PilotDescription, plots
from pilot_miniapps.frame import MiniApp, Oracle, Outcome, Run
from pilot_miniapps.frame.qpus import check_room
from pilot_miniapps.qos_multiprogramming.settings import PAIR_CHECKED, Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from pilot_miniapps.qos_multiprogramming.pairs import Pair
    from pilot_miniapps.qos_multiprogramming.queues import Drained

#: Qubits of the device of the paper's figures 11a and 11c; what of them is used in percent, as the paper has it, by the
#: width of one of two circuits; its relative fidelity, and the bar.
QUBITS = 27
USED = {4: 30, 8: 60, 12: 88}
PAPER = {4: 0.98, 8: 0.91, 12: 0.82}
BARS = {4: 0.99, 8: 0.95, 12: 0.88}
#: The paper's least score.
LEAST_SCORE = 0.75
#: What computed probabilities may differ by.
EQUAL = 1e-9
#: Queues of a task.
BLOCK = 10
NOTE = (
    "Simulated, by calibrations that have no crosstalk. Success: the probability that nothing goes wrong. Published: "
    "QOS (arXiv 2406.19120, figure 11) on ibmq_kolkata: relative fidelity .98, .91, .82 at 30, 60, 88 % of the qubits; "
    "1.15 times the fidelity of Das et al. (MICRO 2019); 7.2 % more effective utilisation."
)


class QosMultiprogramming(MiniApp):
    """Let circuits share a QPU: what they lose, and how much more of it they use.

    Pairs of circuits of nine families on a snapshot beside the same alone and compiled as one; random queues beside
    first-fit at equal loss; a free qubit between circuits under declared crosstalk.
    """

    Settings: ClassVar[type[msgspec.Struct]] = Settings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "laptop": {},
        "small": {
            "snapshot": "guadalupe",
            "widths": (3,),
            "study": ("queues",),
            "queues": 1,
            "length": 4,
            "queue_widths": (3,),
            "tries": 1,
            "most_exact": 6,
        },
        "paper": {"max_loss": (0.15, 0.1)},
    }
    packages: ClassVar[Sequence[str]] = ("qiskit", "qiskit_ibm_runtime", "scipy")

    settings: Settings

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._details: dict[str, Any] = {}

    def pilots(self) -> Sequence[str | PilotDescription]:
        return [PilotDescription(engine="process", cores_per_node=2, name="placements")]

    def memory(self) -> int:
        """The noisy state of the widest circuit, and its copies, in each worker."""
        return 2 * 4 * 8 * 4 ** min(self.settings.most_exact, max(self.settings.widths)) + (1 << 29)

    def qpus(self) -> Sequence[str]:
        return (f"fake:{self.settings.snapshot}",)

    def check(self, pilots: Sequence[PilotDescription]) -> None:
        """The device has room for the circuits, and places for two at a time."""
        check_room(self.settings.needed())
        if {"fidelity", "buffer"}.intersection(self.settings.study):
            from pilot_miniapps.qos_multiprogramming.pairs import check_places

            check_places(self.settings)

    def plan(self) -> Mapping[str, Any]:
        return {"studies": list(self.settings.study), "device": self.settings.snapshot, "queues": self.settings.queues}

    def work(self, run: Run) -> Outcome:
        rows: list[Mapping[str, Any]] = []
        wrong: list[str] = []
        for name, study in {"fidelity": self._fidelity, "queues": self._queues, "buffer": self._buffer}.items():
            if name in self.settings.study:
                with run.part(name):
                    found, problems = study(run)
                rows += found
                wrong += problems
        text = (
            "bundles give what their circuits give alone there; queues use more than one circuit at a time, and lose "
        )
        text += "no more than allowed"
        deviation = self._deviation(run)
        if deviation > EQUAL:
            wrong.append(f"outcomes differ by {deviation:.2g}")
        text += "".join(f"; wrong: {one}" for one in wrong)
        return Outcome(
            oracle=Oracle(not wrong, deviation, "of a probability", text), rows=rows, note=NOTE, details=self._details
        )

    def _deviation(self, run: Run) -> float:
        from pilot_miniapps.qos_multiprogramming.pairs import deviation

        width = min(*self.settings.widths, PAIR_CHECKED)
        return float(run.submit("deviation", deviation, self.settings.snapshot, width).result())

    # ---- pairs --------------------------------------------------------------------------------------------------

    def _fidelity(self, run: Run) -> tuple[list[Mapping[str, Any]], list[str]]:
        from pilot_miniapps.qos_multiprogramming.pairs import Pair, compare, interval

        its = self.settings
        tasks = {
            width: run.submit(f"pairs/{width}", compare, its.snapshot, width, its.buffer, its.tries, its.most_exact)
            for width in sorted(its.widths, reverse=True)  # the longest first
        }
        rows: list[Mapping[str, Any]] = []
        with run.progress(list(tasks.values()), "widths"):
            found = {
                width: [msgspec.convert(msgspec.to_builtins(one), Pair) for one in task.result()]
                for width, task in sorted(tasks.items())
            }
        self._details["pairs"] = {str(width): its_pairs for width, its_pairs in found.items()}
        self._details["used"] = {str(width): self._used(width) for width in found}
        for width, its_pairs in found.items():
            used = self._used(width)
            judged = self._is_reference and width in BARS
            values = [value for pair in its_pairs for value in pair.fidelity]
            bar = f">= {BARS[width]}" if judged else None
            run.figure(f"relative_fidelity_{used}", fmean(values), "ratio", bar, interval(values), len(values))
            values = [value for pair in its_pairs for value in pair.success]
            run.figure(f"relative_success_{used}", fmean(values), "ratio", None, interval(values), len(values))
            logs = np.log([pair.over_naive for pair in its_pairs]).tolist()
            low, high = np.exp(interval(logs))
            bar = ">= 1.25" if judged and width == 12 else None
            run.figure(f"gain_over_naive_{used}", float(np.exp(fmean(logs))), "ratio", bar, (low, high), len(logs))
            rejected = sum(pair.score < LEAST_SCORE for pair in its_pairs)
            run.figure(f"rejected_by_score_{used}", rejected, "pairs", n=len(its_pairs))
            run.figure(f"estimated_{used}", sum(not pair.exact for pair in its_pairs), "pairs", n=len(its_pairs))
            rows += [self._pair_row(width, pair) for pair in its_pairs]
        return rows, []

    def _pair_row(self, width: int, pair: Pair) -> Mapping[str, Any]:
        return self._row(
            "fidelity",
            " + ".join(pair.names),
            qubits=2 * width,
            buffer=pair.buffer,
            relative_fidelity=fmean(pair.fidelity),
            relative_success=fmean(pair.success),
            over_naive=pair.over_naive,
        )

    def _row(self, study: str, what: str, **values: Any) -> Mapping[str, Any]:
        columns = ("qubits", "buffer", "relative_fidelity", "relative_success", "over_naive", "buffer_gain")
        columns += ("utilisation", "loss")
        return {"study": study, "what": what} | {name: values.get(name) for name in columns}

    def _used(self, width: int) -> int:
        """The qubits that two circuits of this width use, in percent."""
        from pilot_miniapps.qos_multiprogramming.devices import snapshot

        qubits = snapshot(self.settings.snapshot).info.qubits
        used = round(200 * width / qubits)
        return USED.get(width, used) if qubits == QUBITS else used

    @property
    def _is_reference(self) -> bool:
        """The bars are for this device, and for circuits that are compiled with so many seeds."""
        names = ("snapshot", "tries", "buffer", "queue_widths", "length", "crosstalk", "most_exact")
        return all(getattr(self.settings, name) == getattr(Settings(), name) for name in names)

    # ---- queues -------------------------------------------------------------------------------------------------

    def _queues(self, run: Run) -> tuple[list[Mapping[str, Any]], list[str]]:
        rows: list[Mapping[str, Any]] = []
        wrong: list[str] = []
        for number, max_loss in enumerate(self.settings.max_loss):
            found = self._drained(run, max_loss)
            suffix = "" if number == 0 else f"_{max_loss:g}"
            self._queue_figures(run, found, suffix)
            for way in found[0]:
                use, loss = (fmean(getattr(one[way], field) for one in found) for field in ("utilisation", "loss"))
                if number and way not in ("utilisation", "score"):
                    continue
                rows.append(self._row("queues", f"{way}, max_loss {max_loss:g}", utilisation=use, loss=loss))
                if not fmean(one["alone"].utilisation for one in found) <= use <= 1:
                    wrong.append(f"{way} uses {use:.3f}")
                if way in ("utilisation", "score") and loss > max_loss:
                    wrong.append(f"{way} loses {loss:.3f}")
        return rows, wrong

    def _drained(self, run: Run, max_loss: float) -> list[dict[str, Drained]]:
        from pilot_miniapps.qos_multiprogramming.queues import Drained, drain

        its = self.settings
        common = (its.length, its.queue_widths, its.seed)
        blocks = [range(first, min(first + BLOCK, its.queues)) for first in range(0, its.queues, BLOCK)]
        tasks = [
            run.submit(f"queues/{max_loss:g}/{at}", drain, its.snapshot, its.buffer, max_loss, block, *common)
            for at, block in enumerate(blocks)
        ]
        with run.progress(tasks, f"blocks of queues, loss up to {max_loss:g}"):
            results = [one for task in tasks for one in msgspec.to_builtins(task.result())]
        return [{way: msgspec.convert(value, Drained) for way, value in one.items()} for one in results]

    def _queue_figures(self, run: Run, found: Sequence[dict[str, Drained]], suffix: str) -> None:
        from pilot_miniapps.qos_multiprogramming.queues import gain

        random, every = np.random.default_rng(0), np.arange(len(found))
        draws = random.integers(len(found), size=(500, len(found)))
        judged = self._is_reference and not suffix
        for key, way, bar in (
            ("utilisation_gain_points", "utilisation", ">= 10" if judged else None),
            ("utilisation_gain_points_by_score", "score", None),
        ):
            low, high = np.percentile([gain(found, way, which) for which in draws], [2.5, 97.5])
            run.figure(key + suffix, gain(found, way, every), "points", bar, (float(low), float(high)), len(found))
        run.figure(f"utilisation{suffix}", fmean(one["utilisation"].utilisation for one in found), "")
        run.figure(f"queue_loss{suffix}", fmean(one["utilisation"].loss for one in found), "")

    # ---- crosstalk ----------------------------------------------------------------------------------------------

    def _buffer(self, run: Run) -> tuple[list[Mapping[str, Any]], list[str]]:
        from pilot_miniapps.qos_multiprogramming.pairs import buffers, interval

        its = self.settings
        tasks = {
            width: run.submit(f"buffer/{width}", buffers, its.snapshot, width, its.crosstalk, its.tries)
            for width in its.with_buffer()
        }
        rows = []
        with run.progress(list(tasks.values()), "widths"):
            gains = {width: task.result() for width, task in tasks.items()}
        for width, values in gains.items():
            logs = np.log(values).tolist()
            low, high = np.exp(interval(logs))
            widest = width == max(gains)
            key = "buffer_gain" if widest else f"buffer_gain_{self._used(width)}"
            bar = "> 1" if widest and self._is_reference else None
            run.figure(key, float(np.exp(fmean(logs))), "ratio", bar, (low, high), len(values))
            rows.append(
                self._row(
                    *("buffer", f"pairs of {width} qubits"),
                    qubits=2 * width,
                    buffer=1,
                    buffer_gain=float(np.exp(fmean(logs))),
                )
            )
        return rows, []

    # ---- plots --------------------------------------------------------------------------------------------------

    def draw(self, report: Mapping[str, Any]) -> Mapping[str, Drawing]:
        figure, (left, middle, right) = plots.new(1, 3, width="double", height=3.1)
        pairs = {int(width): its for width, its in report["details"].get("pairs", {}).items()}
        widths = sorted(pairs)
        used = report["details"].get("used", {})
        groups = [f"{used.get(str(width), width)}" for width in widths]

        def means(column: str) -> list[float]:
            return [float(np.mean([pair[column] for pair in pairs[width]])) for width in widths]

        if pairs:
            kinds = {"one large": "large", "as one": "naive", "shared": "own"}
            plots.bars(left, groups, {name: means(column) for name, column in kinds.items()})
            relative = {"fidelity": means("fidelity"), "success": means("success")}
            published = [PAPER.get(width, nan) if used.get(str(width)) == USED.get(width) else nan for width in widths]
            plots.bars(right, groups, relative | {"QOS": published})
        queues = [row for row in report["rows"] if row["study"] == "queues"]
        for series, kind in enumerate(("utilisation", "score", "first-fit")):
            mine = sorted((row["loss"], row["utilisation"]) for row in queues if row["what"].startswith(kind))
            if mine:
                plots.lines(middle, *map(list, zip(*mine, strict=True)), series=series, label=kind)
        plots.label(left, x="qubits in use (%)", y="success of a program", title="(a)")
        plots.label(middle, x="loss of success", y="effective utilisation", title="(b)")
        plots.label(right, x="qubits in use (%)", y="over that of the program alone", title="(c)")
        for axes, columns in ((left, 2), (middle, 2), (right, 3)):
            plots.legend(
                axes, loc="lower center", bbox_to_anchor=(0.5, 1.1), ncols=columns, columnspacing=1.0, handlelength=1.5
            )
        plots.caption(figure, NOTE)
        return {"multiprogramming": figure}
