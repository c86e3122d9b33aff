"""What goes over HTTP: bodies of requests and answers of API v1. The OpenAPI description is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

#: Larger whole numbers do not fit into 64 bits.
_LARGEST = (1 << 63) - 1


def _writable(text: str) -> str:
    """A text that a database takes."""
    if "\0" in text:
        raise ValueError("a text without the character NUL is expected")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text of Unicode characters without surrogates is expected") from None
    return text


_Text = Annotated[str, AfterValidator(_writable)]
_Program = Annotated[str, Field(min_length=1, description="The text of a circuit."), AfterValidator(_writable)]
Name = Annotated[str, Field(max_length=200), AfterValidator(_writable)]
_NameGiven = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_writable)]
Format = Literal["openqasm2", "openqasm3", "originir", "qir"]
State = Literal["received", "queued", "running", "done", "failed", "cancelled", "invalid"]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Body(BaseModel):
    """What is sent: no unknown fields, and nothing is converted from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TaskBody(_Body):
    """A task: a circuit as a text, or a function that the site has registered."""

    program: _Program | None = None
    format: Annotated[Format | None, Field(description="Of the text. Default: recognised by how it begins.")] = None
    function: Annotated[Name | None, Field(description="The name of a registered function, instead of a program.")] = (
        None
    )
    args: Annotated[list[Any], Field(max_length=1000, description="Of the function.")] = Field(default_factory=list)
    kwargs: Annotated[dict[_Text, Any], Field(max_length=1000, description="Of the function.")] = Field(
        default_factory=dict
    )
    shots: Annotated[
        int | None, Field(ge=1, le=_LARGEST, description="Samples. Default: exact results, by a simulator.")
    ] = None
    observables: Annotated[
        list[Annotated[str, Field(pattern="^[IXYZ]+$", max_length=10_000)]],
        Field(max_length=10_000, description="Pauli strings, qubit 0 last: the result is their expectation values."),
    ] = Field(default_factory=list)
    tomography: Annotated[
        bool | list[Annotated[int, Field(ge=0, le=10_000)]],
        Field(description="The result is the state of all qubits (true), or of these."),
    ] = False
    parameters: Annotated[
        list[Number] | list[list[Number]] | dict[_Text, Number | list[Number]] | None,
        Field(description="Values of the circuit's free parameters: one set, several, or by name."),
    ] = None
    qpu: Annotated[
        Name | Annotated[list[Name], Field(min_length=1, max_length=100)] | None,
        Field(description='A QPU, several to choose from, "*" for any, or "aer", a simulator.'),
    ] = None
    min_fidelity: Annotated[Number | None, Field(ge=0, le=1)] = None
    deadline: Annotated[Number | None, Field(gt=0, description="Seconds from the submission on.")] = None
    max_cost: Annotated[Number | None, Field(ge=0)] = None
    fallback: Literal["simulator", "wait"] | None = None
    mitigation: Annotated[list[Literal["readout", "twirling", "dd", "zne"]], Field(max_length=4)] = Field(
        default_factory=list
    )
    share_qpu: Annotated[bool, Field(description="It may run beside circuits of other tasks, of any user.")] = False
    optimization_level: Annotated[int, Field(ge=0, le=3)] = 2
    seed: Annotated[int | None, Field(ge=0, le=_LARGEST)] = None
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher goes first.")] = 0
    timeout: Annotated[Number | None, Field(gt=0, description="Seconds that it may run.")] = None
    expected_duration: Annotated[
        Number | None, Field(gt=0, le=1e9, description="The most seconds that it is expected to run.")
    ] = None
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    pilot: Annotated[_NameGiven | None, Field(description="The pilot that must run it.")] = None
    labels: Annotated[list[_NameGiven], Field(max_length=20)] = Field(default_factory=list)
    name: Annotated[Name, Field(description="For people.")] = ""
    project: Annotated[str, Field(max_length=64), AfterValidator(_writable)] = ""
    session: Annotated[str, Field(pattern="^([0-9A-F]{32})?$", description="The id of a session.")] = ""
    reuse: Annotated[bool, Field(description="The result of an equal deterministic task may be taken.")] = True

    @model_validator(mode="after")
    def _one_work(self) -> TaskBody:
        if (self.program is None) is (self.function is None):
            raise ValueError("exactly one of program and function must be given")
        if self.function is None and (self.args or self.kwargs):
            raise ValueError("args and kwargs belong to a function, and there is none")
        if self.function is not None and (wrong := self.model_dump(include=_OF_PROGRAMS, exclude_defaults=True)):
            raise ValueError(f"{', '.join(wrong)}: only with a program, and there is none")
        return self

    def options(self) -> dict[str, Any]:
        """The fields of `TaskDescription` that were given."""
        return self.model_dump(exclude=_NOT_OPTIONS, exclude_defaults=True)


_OF_PROGRAMS = {"format", "shots", "observables", "tomography", "parameters", "qpu", "min_fidelity", "deadline"}
_OF_PROGRAMS |= {"max_cost", "fallback", "mitigation", "share_qpu", "optimization_level", "seed"}
_NOT_OPTIONS = {"program", "format", "function", "name", "project", "session", "reuse"}


class BatchBody(_Body):
    """Tasks that are accepted together, or not at all."""

    tasks: Annotated[list[TaskBody], Field(min_length=1)]


class EstimateBody(_Body):
    """A circuit, and what is to be estimated of it."""

    program: _Program
    format: Format | None = None
    shots: Annotated[int, Field(ge=1, le=_LARGEST)] = 4000
    optimization_level: Annotated[int, Field(ge=0, le=3)] = 2
    qpus: Annotated[list[Name], Field(max_length=100, description="Default: all.")] = Field(default_factory=list)


class SessionBody(_Body):
    """A name for a group of tasks."""

    name: Name = ""


class Step(BaseModel):
    """A step that a task has taken."""

    step: str
    time: Annotated[float, Field(description="Seconds since the epoch.")]


class TaskError(BaseModel):
    """Why a task did not end well."""

    kind: str
    message: str
    field: str | None = None
    line: int | None = None
    column: int | None = None
    expected: str | None = None


class TaskView(BaseModel):
    """A task as it is now. Times are seconds since the epoch."""

    id: str
    user: str
    state: State
    route: str
    name: str
    project: str
    session: str
    qpu: str
    submitted: float
    ended: float | None = None
    error: TaskError | None = None
    steps: list[Step] = Field(default_factory=list)


class TaskList(BaseModel):
    """The newest tasks first; ``next`` is what to give as ``before`` for those behind them."""

    tasks: list[TaskView]
    next: str | None = None


class Accepted(BaseModel):
    """The tasks are on disk, and will be run."""

    ids: list[str]


class Counts(BaseModel):
    """How many tasks there are in each state; those that are not over are active."""

    active: int
    done: int
    failed: int
    cancelled: int
    invalid: int


class Explanation(BaseModel):
    """Why a task went where it went, or why it waits."""

    text: str


class SessionView(BaseModel):
    """A group of tasks."""

    id: str
    name: str
    created: float
    closed: float | None = None


class PilotView(BaseModel):
    """A pilot of the service."""

    id: str
    name: str
    state: str
    reason: str
    job: str
    resource: str
    engine: str
    cores: int
    nodes: list[str]
    qpus: list[str]


class QPUView(BaseModel):
    """A QPU as it reports itself. None: it reports none."""

    name: str
    qubits: int
    simulator: bool
    gates: list[str]
    coupling: list[list[int]] | None
    calibrated: float | None
    error_1q: float | None
    error_2q: float | None
    error_readout: float | None
    t1: float | None
    t2: float | None
    accepts_jobs: bool | None
    expected_wait: float | None
    pending_jobs: int | None
    max_shots: int | None
    problem: str
    calibration: Annotated[dict[str, Any] | None, Field(description="Only where one QPU is asked for.")] = None


class EstimateView(BaseModel):
    """What is expected of a circuit on one QPU. None: not known."""

    qpu: str
    fidelity: float | None = None
    fidelity_spread: float | None = None
    seconds: float | None = None
    seconds_spread: float | None = None
    memory_bytes: float | None = None
    wait_seconds: float | None = None
    error: str | None = None


class Health(BaseModel):
    """Whether the service takes tasks."""

    status: Literal["starting", "ok", "draining"]
    version: str
    active_pilots: int


class ErrorEntry(BaseModel):
    """One value of a request that is not valid."""

    field: str
    message: str
    given: str = ""


class ProblemBody(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ErrorEntry] = Field(default_factory=list)
