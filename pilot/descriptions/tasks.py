"""Descriptions of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pilot.descriptions.qos import options_of
from pilot.errors import DescriptionError
from pilot.fields import (
    Amount,
    AtLeastOne,
    Count,
    Description,
    Errors,
    Fidelity,
    Level,
    Names,
    PathText,
    Share,
    Shots,
    Size,
    SomeNames,
    Text,
    Texts,
    Time,
    TimeOrZero,
    Whole,
    Words,
    checked_errors,
    checked_path,
    checked_variables,
    checked_words,
    size_of,
)
from pilot.resources import Option, Resources, Retry, Terms
from pilot.times import seconds_of

_READERS = {
    **dict.fromkeys(("executable", "mpi"), checked_words),
    **dict.fromkeys(("expected_duration", "timeout", "deadline"), seconds_of),
    "retry_delay": seconds_of,
    "retry_on": checked_errors,
    "working_directory": checked_path,
    "environment": checked_variables,
    "qos": options_of,
}

#: Words of other systems.
_CALLED = {
    **dict.fromkeys(("cores", "cpus", "cpus_per_task", "threads", "resources"), "num_cpus"),
    **dict.fromkeys(("backend", "device"), "qpu"),
    **dict.fromkeys(("cmd", "command", "script"), "executable"),
    **dict.fromkeys(("workers", "executor", "executors"), "pilot"),
    "arguments": "args",
    "cwd": "working_directory",
    "env": "environment",
}

_WITHOUT = "nothing without a circuit"
_WITH = "nothing with a circuit"
_NO_ARGUMENTS = f"{_WITH}: its parameters have values in parameters"

#: Fields of `TaskDescription` about its circuit: the value without one, and what is expected then.
_OF_CIRCUITS: dict[str, tuple[Any, str]] = {
    "shots": (None, _WITHOUT),
    "observables": ((), _WITHOUT),
    "tomography": (False, _WITHOUT),
    "parameters": (None, _WITHOUT),
    "qpu": (None, _WITHOUT),
    "min_fidelity": (None, _WITHOUT),
    "deadline": (None, _WITHOUT),
    "max_cost": (None, _WITHOUT),
    "fallback": (None, _WITHOUT),
    "mitigation": ((), _WITHOUT),
    "qos": (None, _WITHOUT),
    "noise_model": (None, _WITHOUT),
    "share_qpu": (False, _WITHOUT),
    "optimization_level": (2, _WITHOUT),
    "seed": (None, _WITHOUT),
}

#: Fields of a call that depend on no other field.
_OF_CALLS = frozenset({"function", "args", "kwargs", "num_cpus", "priority", "name", "key", "retries", "timeout"})

#: Fields about functions and programs: the value with a circuit, and what is expected then.
_NOT_OF_CIRCUITS: dict[str, tuple[Any, str]] = {
    "args": ((), _NO_ARGUMENTS),
    "kwargs": ({}, _NO_ARGUMENTS),
    "ranks": (None, _WITH),
    "nodes": (None, _WITH),
    "environment": ({}, _WITH),
    "working_directory": (None, _WITH),
}


class TaskDescription(Description, frozen=True, kw_only=True):
    """One unit of work: exactly one of ``function``, ``executable``, ``mpi`` and ``circuit``, and what it needs;
    or a ``kind`` that a package defines, which may read any field.

    Raises:
        DescriptionError: a field has a value that is not valid; the message has both.
    """

    _called = _CALLED
    _readers = _READERS
    _pickled = frozenset(
        {
            "function",
            "args",
            "kwargs",
            "initializer",
            "initargs",
            "executable",
            "mpi",
            "environment",
            "working_directory",
            "depends_on",
            "circuit",
            "observables",
            "tomography",
            "parameters",
            "mitigation",
            "qos",
            "noise_model",
            "share_qpu",
        }
    )

    #: A callable; it runs as ``function(*args, **kwargs)`` in a worker. Tasks among the arguments, at any depth,
    #: are dependencies and are replaced by their results.
    function: Any = None
    args: Any = ()
    kwargs: Annotated[dict[str, Any], Meta(description="a mapping from names to values")] = {}
    #: A callable that each worker calls as ``initializer(*initargs)`` before the function, the first time that it runs
    #: it. What it sets in the globals of their script, the function finds; tasks of a worker have one copy of these.
    initializer: Any = None
    initargs: Any = ()
    #: A program and its arguments, texts and paths; no shell reads them. Its standard input is empty. Processes that it
    #: leaves running end with it; those started by setsid(1) end with the pilot. Its result is a
    #: ``subprocess.CompletedProcess`` with text output.
    executable: Words = ()
    #: An MPI program and its arguments, started on every rank of one communicator; its result is an `MpiResult`.
    mpi: Words = ()
    #: Environment variables and working directory of the function, executable or MPI program, for this task alone. A
    #: relative path counts from the pilot's working directory, ~ is the home directory there. A function is loaded with
    #: the variables set; libraries that its worker has loaded before keep what they have read.
    environment: Texts = {}
    working_directory: PathText | None = None

    #: A circuit: a Qiskit circuit, a `pilot.quantum.Program`, a PennyLane tape, or the text of a program. Its result is
    #: its `Outcomes` (``get_counts``); with ``observables`` an `Expectation` (``values`` and ``standard_errors``); with
    #: ``tomography`` a `Tomography` (``density_matrix``).
    circuit: Any = None
    #: Samples of the circuit; of each group of observables, or setting of the tomography. Default: exact, which only
    #: simulators can be.
    shots: Shots | None = None
    #: Pauli strings such as "ZZI" (qubit 0 last) or Qiskit's `SparsePauliOp`; the result is their expectation values.
    observables: Any = ()
    #: The result is the state that the circuit prepares: of all its qubits (True), or of a list of qubits.
    tomography: Any = False
    #: Values for the circuit's free parameters: ``(n_parameters,)`` in the order of ``circuit.parameters``, or
    #: ``(n_bindings, n_parameters)`` for one result each; or a mapping from names to values or columns.
    parameters: Any = None
    #: The QPU that must run it, as in ``PilotDescription.qpus``: "fake:kolkata"; a list: one of these; "*": any device.
    #: Default: any device when there are shots and the pilots have some, else simulated on a core or GPU, as by "aer".
    qpu: Text | SomeNames | None = None
    #: Use only QPUs that are expected to run this circuit with at least this fidelity: it is estimated on each of them
    #: first, as a task. 0: it is only estimated.
    min_fidelity: Fidelity | None = None
    #: Use only QPUs on which it is expected to be over so long after its submission, and to cost no more than this,
    #: in the currency of the price table. For both, the manager's policy has to choose QPUs, such as "least-wait".
    deadline: Time | None = None
    max_cost: Amount | None = None
    #: When no QPU is expected to meet `min_fidelity`, `deadline` and `max_cost`: "simulator": it is simulated without
    #: noise; "wait": it waits for other QPUs or calibrations. Default: it fails, with the best offer.
    fallback: Annotated[Literal["simulator", "wait"], Meta(description="'simulator', 'wait' or None")] | None = None
    #: Stages of error mitigation, in this order: "readout", "twirling", "dd" and, for observables, "zne"; or stages of
    #: `pilot.quantum.mitigation` themselves.
    mitigation: Any = ()
    #: Errors are mitigated by the stages that are predicted to help most: a `QosOptions`, or a mapping with its fields.
    #: The shots are then the total of all circuits that run. The result is a `pilot.qos.mitigator.QosResult`. It needs
    #: shots and a device.
    qos: Any = None
    #: A ``NoiseModel`` of qiskit_aer.noise: the circuit is simulated with it, on a core. Gates keep their names, so
    #: compile the circuit first where the model is for a device's gates. Without a ``seed`` tasks of one model run
    #: together, which is much faster for small circuits.
    noise_model: Any = None
    #: True: a device may run it at the same time as circuits of other tasks that allow this, on qubits of its own, as
    #: long as it is expected to keep most of its fidelity; or a `pilot.quantum.bundles.Bundler` that says what that is,
    #: such as `pilot.qos.multiprogramming.MultiProgrammer`. Those that share have the same shots, level and mitigation.
    share_qpu: Any = False
    #: Qiskit's optimization level, 0 to 3, when it is compiled for a device. From 2 on the qubits with the least errors
    #: are taken; below, the first ones wherever they fit.
    optimization_level: Level = 2
    #: Seed of the sampling, where it is simulated.
    seed: Count | None = None

    #: A kind of task that a package defines (entry point ``pilot.kinds``, see `interfaces.Kind`): it makes the tasks of
    #: this description, and may read any field for that. Default: "circuit" with a circuit.
    kind: Text | None = None

    #: Ranks: so many processes make up the communicator of the MPI program. A function with ranks runs on each of
    #: them (with mpi4py); its result is the list of what each rank returned, in their order.
    ranks: AtLeastOne | None = None
    #: Nodes that the ranks are spread over evenly. Default: as few as there is room on.
    nodes: AtLeastOne | None = None
    #: Cores, of each rank. Fractions share a core.
    num_cpus: Share = 1.0
    #: GPUs, of each rank. Fractions share a GPU. CUDA_VISIBLE_DEVICES, or AMD's variable, names them.
    num_gpus: Amount = 0.0
    #: Main memory set aside, for each rank: bytes, or a text such as "8 GiB".
    memory: Size | None = None
    #: Resources to run with instead, such as ``[{"num_gpus": 1}, {"num_cpus": 16, "slowness": 4}]``: the fields
    #: above by name, and how many times longer it takes with them. It runs where it is expected to finish first.
    alternatives: Any = ()

    #: The name or id of the pilot that must run it.
    pilot: Text | None = None
    #: Names or ids of pilots: one of these must run it.
    pilots: Names = ()
    #: The pilot must carry all of these labels.
    labels: Names = ()
    #: Higher goes first.
    priority: Whole = 0
    #: The longest time that it is expected to run; it starts only where that much walltime is left. Seconds, a
    #: timedelta, or a text such as "1:30:00".
    expected_duration: Time | None = None
    #: How long it may run; then it is stopped and fails with TaskTimeout. As `expected_duration`.
    timeout: Time | None = None
    #: How often it is tried again after it raised. Lost workers and pilots do not count.
    retries: Count = 0
    #: How long the first retry waits; each further one waits twice as long as the one before, at most 1,024 times as
    #: long as the first. As `expected_duration`.
    retry_delay: TimeOrZero = 0.0
    #: Exception classes, or their names: what it has to raise to be tried again, or a class that is derived from it.
    #: Default: any.
    retry_on: Errors = ()
    #: Tasks that must have succeeded before it starts.
    depends_on: Any = ()
    #: What the caller calls it, so that it is submitted once: another submission with the same key gives the same task,
    #: also after an attach. One that differs in any field is refused. `PilotManager.forget` frees the key.
    key: Text | None = None
    #: Display name. Default: the name of the function or program.
    name: Text | None = None

    def __post_init__(self) -> None:
        given = self._check_given()
        if self.function is not None and not callable(self.function):
            raise self.wrong("function", "a callable")
        if type(self.args) is not tuple and (not isinstance(self.args, Sequence) or isinstance(self.args, str | bytes)):
            raise self.wrong("args", "a tuple or list")
        if self.initializer is not None or self.initargs != ():
            self._check_initializer()
        if not (self.function is not None and _OF_CALLS.issuperset(given)):
            self._check_together(given)

    def _check_initializer(self) -> None:
        if self.function is None or self.ranks:
            raise self.wrong("initializer", "nothing without a function, and with ranks: each rank is a new process")
        if not callable(self.initializer):
            raise self.wrong("initializer", "a callable")
        if not isinstance(self.initargs, list | tuple):
            raise self.wrong("initargs", "a tuple or list")

    def _check_together(self, given: Sequence[str]) -> None:
        """Check fields that depend on each other."""
        works = (self.function is not None, bool(self.executable), bool(self.mpi), self.circuit is not None)
        if sum(works) > 1 or not (sum(works) or self.kind):
            raise DescriptionError(
                "TaskDescription: exactly one of function, executable, mpi and circuit must be given"
            )
        if self.kind is None and self.circuit is None:
            self._refuse(given, _OF_CIRCUITS)
        elif self.kind in (None, "circuit"):
            self._refuse(given, _NOT_OF_CIRCUITS)
        if self.executable and self.ranks:
            raise self.wrong("ranks", "no ranks with an executable: give the program as mpi")
        if self.mpi and self.ranks is None:
            raise self.wrong("ranks", "the number of processes of the MPI program, at least 1")
        if self.nodes and (not self.ranks or self.ranks % self.nodes):
            raise self.wrong("nodes", "a number that divides the ranks of an MPI task")
        if self.ranks and self.num_gpus > 1 and self.num_gpus % 1:
            raise self.wrong("num_gpus", "a whole number of GPUs for each rank, or a fraction below 1")
        if (self.executable or self.mpi) and (self.args or self.kwargs):
            raise self.wrong("args", "no arguments with a program: put them after its name")
        if self.pilot is not None and self.pilots:
            raise self.wrong("pilots", "either pilot or pilots, but not both")
        if (self.retry_delay or self.retry_on) and not self.retries:
            raise self.wrong("retries", "at least 1 with retry_delay or retry_on")
        if self.memory is not None:
            msgspec.structs.force_setattr(self, "memory", size_of(self, "memory"))

    def _refuse(self, given: Sequence[str], others: Mapping[str, tuple[Any, str]]) -> None:
        """Refuse fields of another kind of work that have another value than their default."""
        for field in given:
            if field in others and getattr(self, field) != others[field][0]:
                raise self.wrong(field, others[field][1])

    def terms(self) -> Terms:
        """What the controller needs to place it."""
        return Terms(
            resources=Resources(
                self.num_cpus,
                self.num_gpus,
                memory=self.memory or 0,  # type: ignore[arg-type]
                ranks=self.ranks or 0,
                nodes=self.nodes or 0,
            ),
            pilots=(self.pilot,) if self.pilot else tuple(self.pilots),
            labels=tuple(self.labels),
            priority=self.priority,
            duration=self.expected_duration,  # type: ignore[arg-type]
            timeout=self.timeout,  # type: ignore[arg-type]
            retries=self.retries,
            retry=Retry(self.retry_delay, self.retry_on) if self.retry_delay or self.retry_on else None,  # type: ignore[arg-type]
            others=() if type(self.alternatives) is tuple and not self.alternatives else self._others(),
        )

    def _others(self) -> tuple[Option, ...]:
        expected = (
            "a list of mappings with num_cpus, num_gpus, memory and slowness, such as [{'num_gpus': 1}]; "
            "not for MPI tasks, circuits and other kinds"
        )
        if not isinstance(self.alternatives, Sequence) or isinstance(self.alternatives, str):
            raise self.wrong("alternatives", expected)
        if self.alternatives and (self.ranks or self.kind or self.circuit is not None):
            raise self.wrong("alternatives", expected)
        others = []
        for one in self.alternatives:
            if not isinstance(one, Mapping) or not set(one) <= {"num_cpus", "num_gpus", "memory", "slowness"}:
                raise self.wrong("alternatives", expected)
            given = dict(one)
            slowness = given.pop("slowness", 1.0)
            if isinstance(slowness, bool) or not isinstance(slowness, int | float) or not slowness > 0:
                raise self.wrong("alternatives", f"{expected}; slowness is a number above 0")
            needs = TaskDescription(function=_others, **given)
            memory = needs.memory or 0
            assert isinstance(memory, int)
            others.append(Option(Resources(needs.num_cpus, needs.num_gpus, memory), float(slowness)))
        return tuple(others)


def _others() -> None:
    """Stands for the work while the resources of an alternative are checked."""


def with_place(fields: Mapping[str, Any], place: int) -> Mapping[str, Any]:
    """The fields of one task of a map; its key has the place of its first input behind it."""
    if (key := fields.get("key")) is None:
        return fields
    return {**fields, "key": f"{key}/{place}"}


def with_key(wanted: TaskDescription, key: str | None) -> TaskDescription:
    """A description with a key that was given beside it; None: none was.

    Raises:
        DescriptionError: it has another key.
    """
    if key is None:
        return wanted
    if wanted.key not in (None, key):
        raise wanted.wrong("key", f"the same as that of the call, {key!r}")
    return msgspec.structs.replace(wanted, key=key)
