"""Programs side by side on one device: where each is, and what that costs it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pilot.qos.compatibility import Program
from pilot.qos.features import properties_of
from pilot.qos.layouts import Device, Layout, Layouts, arrange
from pilot.qos.regions import Regions
from pilot.quantum.bundles import joined
from pilot.quantum.compilation import TRIES, structure

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qiskit import QuantumCircuit
    from qiskit.transpiler import Target

    from pilot.quantum.bundles import Member
    from pilot.quantum.compilation import Compiler
    from pilot.quantum.fidelities import Fidelities

#: Arrangements of the other circuits that are looked at for each region which they leave.
LOOKED_AT = 15
#: Programs, and placements of several, that are kept.
MOST_KEPT = 1000
#: Circuits on layouts that are kept.
MOST_MADE = 5000


class Search(NamedTuple):
    """How long places are looked for."""

    #: Seeds with which circuits are compiled for the whole device, and for a part of it.
    tries: int = TRIES
    seeds: int = 1
    #: Regions for which a circuit is compiled again, and how often each circuit is.
    regions: int = 6
    rounds: int = 1
    #: Arrangements whose success is computed.
    judged: int = 3


#: For circuits that wait, and for studies.
QUICK, THOROUGH = Search(), Search(tries=20, seeds=3, regions=20, rounds=2, judged=10)


class Known(NamedTuple):
    """A circuit that may share the device."""

    key: bytes
    circuit: QuantumCircuit
    compiled: QuantumCircuit
    #: `(n_qubits,)`: True for the device's qubits that this uses.
    mask: NDArray[np.bool_]
    program: Program
    layouts: Layouts
    #: The probability that nothing goes wrong where it has the device for itself.
    success: float


class Placed(NamedTuple):
    """Circuits on disjoint qubits of the device."""

    circuits: tuple[QuantumCircuit, ...]
    #: The probability that nothing goes wrong, over that alone; of each circuit.
    relative: tuple[float, ...]
    #: The probability that no crosstalk between them goes wrong.
    quiet: float = 1.0


class _Made(NamedTuple):
    """A circuit on a layout. The layout is kept, so that no other circuit gets its id."""

    layout: Layout
    circuit: QuantumCircuit
    success: float


class Placement:
    """Places programs on one device with one calibration."""

    def __init__(self, compiler: Compiler, buffer: int, enough: float = 1.0, search: Search = QUICK) -> None:
        """Make it.

        Args:
            compiler: of a device that reports errors.
            buffer: free qubits between two programs.
            enough: a place where each circuit keeps this part of its success is not improved any further.
            search: how long it is improved.
        """
        target, fidelities = compiler.target, compiler.fidelities
        assert target is not None and fidelities is not None
        self.target: Target = target
        self.fidelities: Fidelities = fidelities
        self.device = Device(target)
        self._near = self.device.near(buffer)
        self._enough, self._search = enough, search
        self._regions = Regions(target, self.device.graph)
        self._known: OrderedDict[tuple[bytes, int], Known] = OrderedDict()
        self._placed: OrderedDict[tuple[bytes, ...], Placed | None] = OrderedDict()
        #: Layouts of circuits that were compiled for a part of the device.
        self._in_regions: dict[tuple[bytes, tuple[int, ...], int], list[Layouts]] = {}
        #: By circuit and qubits.
        self._of_layout: dict[tuple[int, tuple[int, ...]], _Made] = {}

    def know(self, member: Member, level: int) -> Known:
        """What is known of a circuit."""
        key = (structure(member.circuit), level)
        if key not in self._known:
            self._known[key] = self._new(member, key[0], level)
            if len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def success(self, compiled: QuantumCircuit) -> float:
        """The probability that nothing goes wrong in a circuit."""
        return self.fidelities.success(compiled).probability()

    def overlap(self, some: Sequence[Known]) -> bool:
        """True where a circuit, as it was compiled for the whole device, is too near to another one."""
        return any((self._near[one.mask].any(axis=0) & other.mask).any() for one, other in combinations(some, 2))

    def as_compiled(self, some: Sequence[Known]) -> Placed | None:
        """The circuits as they were compiled for the whole device; None: they overlap."""
        return None if self.overlap(some) else self.judge(some, [one.compiled for one in some])

    def again(self, some: Sequence[Known], level: int) -> Placed | None:
        """The best place for all: on other layouts, or compiled again with the qubits of the others masked; None: there
        is none."""
        key = (bytes([level]), *(one.key for one in some))
        if key not in self._placed:
            self._placed[key] = self._best(some, self._ways(some, level)) or self._best(some, self._apart(some, level))
            if len(self._placed) > MOST_KEPT:
                self._placed.popitem(last=False)
        return self._placed[key]

    def has_room(self, first: int, other: int) -> bool:
        """True where two circuits with so many qubits have places at the same time."""
        return bool(self._regions.apart(first, other, self._near))

    def judge(self, some: Sequence[Known], circuits: Sequence[QuantumCircuit]) -> Placed:
        """What is expected of circuits that run at the same time; the crosstalk between them counts for each."""
        return self._judged(some, circuits, [self.success(one) for one in circuits])

    def _judged(self, some: Sequence[Known], circuits: Sequence[QuantumCircuit], own: Sequence[float]) -> Placed:
        quiet = 1.0
        if self.fidelities.has_crosstalk and (product := float(np.prod(own))):
            quiet = self.success(joined(circuits)) / product
        relative = (value * quiet / max(known.success, 1e-300) for value, known in zip(own, some, strict=True))
        return Placed(tuple(circuits), tuple(min(1.0, one) for one in relative), quiet)

    def _best(self, some: Sequence[Known], stages: Iterator[Iterator[list[Layout]]]) -> Placed | None:
        """The way in which the circuits lose least together, of those that are good enough; if none is, that in which
        the circuit that loses most loses least."""
        best: Placed | None = None
        for ways in stages:
            for layouts in ways:
                made = [self._made(one) for one in layouts]
                placed = self._judged(some, [one.circuit for one in made], [one.success for one in made])
                if best is None or self._rank(placed) > self._rank(best):
                    best = placed
            if best is not None and min(best.relative) >= self._enough:
                break
        return best

    def _rank(self, placed: Placed) -> tuple[bool, float]:
        good = min(placed.relative) >= self._enough
        return good, float(np.prod(placed.relative)) if good else min(placed.relative)

    def _made(self, layout: Layout) -> _Made:
        key = (id(layout.circuit), layout.qubits)
        if key not in self._of_layout:
            if len(self._of_layout) >= MOST_MADE:
                self._of_layout.clear()
            circuit = self._regions.written(layout)
            self._of_layout[key] = _Made(layout, circuit, self.success(circuit))
        return self._of_layout[key]

    def _new(self, member: Member, key: bytes, level: int) -> Known:
        everywhere = tuple(range(self.device.qubits))
        variants = [member.compiled, *self._regions.compiled(member.circuit, everywhere, level, self._search.tries)]
        layouts = Layouts.together([self.device.layouts(one) for one in variants])
        best = [
            self.success(member.compiled),
            *(self._made(one).success for one in layouts.layouts[: self._search.judged]),
        ]
        return Known(
            key=key,
            circuit=member.circuit,
            compiled=member.compiled,
            mask=self._used(member.compiled),
            program=Program.of(properties_of(member.circuit), self.fidelities.duration(member.compiled)),
            layouts=layouts,
            success=max(best),
        )

    def _used(self, compiled: QuantumCircuit) -> NDArray[np.bool_]:
        """`(n_qubits,)`: True for the qubits that do more than wait."""
        used = np.zeros(self.device.qubits, bool)
        for entry in compiled.data:
            if entry.name not in ("barrier", "delay"):
                used[[compiled.find_bit(qubit).index for qubit in entry.qubits]] = True
        return used

    def _ways(self, some: Sequence[Known], level: int) -> Iterator[Iterator[list[Layout]]]:
        """Layouts that are known; then those of circuits compiled for what the others leave free: of two both, of more
        the last."""
        known = [one.layouts for one in some]
        yield self._arranged(known)
        for _ in range(self._search.rounds):
            for at in range(len(some)) if len(some) == 2 else [len(some) - 1]:
                others = known[:at] + known[at + 1 :]
                known[at] = Layouts.together([known[at], *self._masked(some[at], others, level)])
            yield self._arranged(known)

    def _arranged(self, some: Sequence[Layouts]) -> Iterator[list[Layout]]:
        for numbers in arrange(some, self._near, self._search.judged):
            yield [one.layouts[number] for one, number in zip(some, numbers, strict=True)]

    def _masked(self, one: Known, others: Sequence[Layouts], level: int) -> Iterator[Layouts]:
        """Those of a circuit where it is compiled with the qubits of the others masked."""
        regions: dict[tuple[int, ...], None] = {}
        for numbers in arrange(others, self._near, LOOKED_AT * self._search.regions):
            taken = np.any([its.masks[number] for its, number in zip(others, numbers, strict=True)], axis=0)
            near = np.flatnonzero(self._near[taken].any(axis=0))
            regions.update(dict.fromkeys(self._regions.free(near.tolist(), one.program.qubits)[:1]))
        for region in list(regions)[: self._search.regions]:
            yield from self._in_region(one, region, level)

    def _apart(self, some: Sequence[Known], level: int) -> Iterator[Iterator[list[Layout]]]:
        """Of two circuits: both compiled for parts of the device that leave each other room; the layouts that are
        known may leave none."""
        if len(some) != 2:
            return
        one, other = some
        pairs = self._regions.apart(one.program.qubits, other.program.qubits, self._near)
        for first, second in pairs[: self._search.regions]:
            parts = [self._in_region(one, first, level), self._in_region(other, second, level)]
            if all(parts):
                yield self._arranged([Layouts.together(its) for its in parts])

    def _in_region(self, one: Known, region: tuple[int, ...], level: int) -> list[Layouts]:
        """Those of a circuit that is compiled for these qubits."""
        key = (one.key, region, level)
        if key not in self._in_regions:
            if len(self._in_regions) >= MOST_KEPT:
                self._in_regions.clear()
            found = self._regions.compiled(one.circuit, region, level, self._search.seeds)
            self._in_regions[key] = [self.device.layouts(circuit) for circuit in found]
        return self._in_regions[key]
