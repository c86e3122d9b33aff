"""Descriptions: what is allowed, and what a wrong one says."""

from __future__ import annotations

import inspect
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pilot.descriptions import PilotDescription, TaskDescription
from pilot.errors import DescriptionError
from pilot.fields import Description
from pilot.resources import Resources

PILOT, TASK = PilotDescription, TaskDescription

#: id: (description, its fields, the field that is wrong, what the message says is allowed)
WRONG: dict[str, tuple[type[Description], dict[str, Any], str, str]] = {
    "negative cores": (PILOT, {"cores_per_node": -1}, "cores_per_node", "at least 1"),
    "no cores": (PILOT, {"cores_per_node": 0}, "cores_per_node", "at least 1"),
    "half a core a node": (PILOT, {"cores_per_node": 0.5}, "cores_per_node", "whole number"),
    "cores as text": (PILOT, {"cores_per_node": "4"}, "cores_per_node", "whole number"),
    "cores as bool": (PILOT, {"cores_per_node": True}, "cores_per_node", "whole number"),
    "no nodes": (PILOT, {"number_of_nodes": 0}, "number_of_nodes", "at least 1"),
    "negative GPUs": (PILOT, {"gpus_per_node": -1}, "gpus_per_node", "at least 0"),
    "engine is a number": (PILOT, {"engine": 3}, "engine", "text"),
    "engine is empty": (PILOT, {"engine": ""}, "engine", "not empty"),
    "resource without scheme": (PILOT, {"resource": "localhost"}, "resource", "scheme://host"),
    "labels are one text": (PILOT, {"labels": "gpu"}, "labels", "list of texts"),
    "environment of numbers": (PILOT, {"environment": {"A": 1}}, "environment", "texts to texts"),
    "negative restarts": (PILOT, {"restarts": -1}, "restarts", "at least 0"),
    "walltime 0": (PILOT, {"walltime": 0}, "walltime", "above 0"),
    "negative walltime": (PILOT, {"walltime": timedelta(minutes=-1)}, "walltime", "above 0"),
    "walltime not a number": (PILOT, {"walltime": float("nan")}, "walltime", "above 0"),
    "walltime without end": (PILOT, {"walltime": float("inf")}, "walltime", "above 0"),
    "walltime as text": (PILOT, {"walltime": "an hour"}, "walltime", ""),
    "orphan timeout 0": (PILOT, {"orphan_timeout": 0}, "orphan_timeout", "above 0"),
    "orphan timeout not a number": (PILOT, {"orphan_timeout": float("nan")}, "orphan_timeout", "above 0"),
    "memory 0": (PILOT, {"memory": 0}, "memory", "more than 0 bytes"),
    "memory of unknown unit": (PILOT, {"memory": "8 elephants"}, "memory", "8 GiB"),
    "memory without number": (PILOT, {"memory": "GiB"}, "memory", "8 GiB"),
    "memory negative": (PILOT, {"memory": "-1 GiB"}, "memory", "8 GiB"),
    "no cores for a task": (TASK, {"num_cpus": 0}, "num_cpus", "above 0"),
    "negative cores for a task": (TASK, {"num_cpus": -2}, "num_cpus", "above 0"),
    "cores not a number": (TASK, {"num_cpus": float("nan")}, "num_cpus", "above 0"),
    "cores of a task as text": (TASK, {"num_cpus": "2"}, "num_cpus", "number above 0"),
    "negative GPUs of a task": (TASK, {"num_gpus": -0.5}, "num_gpus", "at least 0"),
    "GPUs not a number": (TASK, {"num_gpus": float("nan")}, "num_gpus", "at least 0"),
    "negative retries": (TASK, {"retries": -1}, "retries", "at least 0"),
    "retries are a fraction": (TASK, {"retries": 1.5}, "retries", "whole number"),
    "priority of more than 64 bits": (TASK, {"priority": -(2**70)}, "priority", "a whole number, at least -2**63"),
    "priority as text": (TASK, {"priority": "high"}, "priority", "a whole number"),
    "timeout 0": (TASK, {"timeout": 0}, "timeout", "above 0"),
    "timeout not a number": (TASK, {"timeout": float("nan")}, "timeout", "above 0"),
    "negative walltime of a task": (TASK, {"timeout": timedelta(seconds=-1)}, "timeout", "above 0"),
    "function is no function": (TASK, {"function": 3}, "function", "callable"),
    "args are one thing": (TASK, {"args": 3}, "args", "tuple or list"),
    "args are a text": (TASK, {"args": "abc"}, "args", "tuple or list"),
    "kwargs with numbers": (TASK, {"kwargs": {1: 2}}, "kwargs", "a mapping from names"),
    "pilot and pilots": (TASK, {"pilot": "a", "pilots": ["b"]}, "pilots", "not both"),
    "executable is one text": (
        TASK,
        {"function": None, "executable": "ls -l"},
        "executable",
        "a list of texts or paths",
    ),
    "executable is bytes": (TASK, {"function": None, "executable": b"ls -l"}, "executable", "shlex.split('ls -l')"),
    "executable is a path": (
        TASK,
        {"function": None, "executable": Path("ls")},
        "executable",
        "a list of texts or paths",
    ),
    "executable is a set": (
        TASK,
        {"function": None, "executable": {"ls", "-l"}},
        "executable",
        "a list of texts or paths",
    ),
    "mpi is one text": (TASK, {"function": None, "mpi": "a b", "ranks": 1}, "mpi", "shlex.split('a b')"),
    "container is one text": (PILOT, {"container": "apptainer exec"}, "container", "shlex.split('apptainer exec')"),
    "no program": (TASK, {"function": None, "executable": ["", "-l"]}, "executable", "the program (word 0) is empty"),
    "a number is a word": (
        TASK,
        {"function": None, "executable": ["sleep", 5]},
        "executable",
        "word 1 is 5: use str(5)",
    ),
    "a fraction": (TASK, {"function": None, "mpi": ["a", 0.5], "ranks": 1}, "mpi", "word 1 is 0.5: use str(0.5)"),
    "a truth value": (
        TASK,
        {"function": None, "executable": ["a", True]},
        "executable",
        "word 1 is True: use str(True)",
    ),
    "a NumPy number": (TASK, {"function": None, "executable": ["a", np.int64(5)]}, "executable", "word 1 is "),
    "nothing is a word": (TASK, {"function": None, "executable": ["a", "b", None]}, "executable", "word 2 is None"),
    "words in words": (TASK, {"function": None, "executable": ["a", ["b"]]}, "executable", "word 1 is ['b']"),
    "NUL in a word": (TASK, {"function": None, "executable": ["a", "b\0c"]}, "executable", r"word 1 is 'b\x00c'"),
    "NUL in a path": (TASK, {"function": None, "mpi": [Path("a\0")], "ranks": 1}, "mpi", r"word 0 is 'a\x00'"),
    "half a character": (TASK, {"function": None, "executable": ["a", "\ud800"]}, "executable", "can be encoded"),
    "an error in other letters": (TASK, {"retries": 1, "retry_on": "OsError"}, "retry_on", "did you mean 'OSError'"),
    "no folder": (TASK, {"working_directory": ""}, "working_directory", "a path; it is empty"),
    "NUL in a folder": (TASK, {"working_directory": "a\0b"}, "working_directory", "without the NUL character"),
    "NUL in a variable": (TASK, {"environment": {"A": "\0"}}, "environment", r"A is '\x00'"),
    "variable is a number": (
        PILOT,
        {"environment": {"OMP_NUM_THREADS": 4}},
        "environment",
        "OMP_NUM_THREADS is 4: use str(4)",
    ),
    "no name of a variable": (PILOT, {"environment": {"A=B": "1"}}, "environment", "'A=B' cannot be the name"),
    "executable with args": (
        TASK,
        {"function": None, "executable": ["ls"], "args": [1]},
        "args",
        "no arguments with a program",
    ),
}


@pytest.mark.parametrize("cls, fields, field, allowed", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("way", ["constructor", "dict"])
def test_wrong(cls: type[Description], fields: dict[str, Any], field: str, allowed: str, way: str) -> None:
    given = {"function": len, **fields} if cls is TASK else fields
    with pytest.raises(DescriptionError) as caught:
        if way == "constructor":
            cls(**given)
        else:
            cls.build(given)
    text = str(caught.value)
    assert f"{cls.__name__}.{field}: " in text
    assert "is not valid; expected " in text
    assert allowed in text.partition("expected ")[2]
    assert caught.value.field == field
    back = pickle.loads(pickle.dumps(caught.value))
    assert str(back) == text


def test_words_are_texts_and_paths() -> None:
    words = ["printf", "", Path("a/b"), b"caf\xe9", np.str_("x"), "two words"]
    expected = ("printf", "", "a/b", "caf\udce9", "x", "two words")
    for given in (words, tuple(words)):
        assert TaskDescription(executable=given).executable == expected  # type: ignore[arg-type]
        assert TaskDescription(mpi=given, ranks=2).mpi == expected  # type: ignore[arg-type]
    assert all(type(word) is str for word in TaskDescription(executable=words).executable)  # type: ignore[arg-type]
    task = TaskDescription(executable=("ls",), working_directory=Path("a"), environment={"A": Path("b"), "C": ""})  # type: ignore[arg-type,dict-item]
    assert (task.working_directory, task.environment) == ("a", {"A": "b", "C": ""})
    pilot = PilotDescription(container=("apptainer", "exec", Path("image.sif")), venv=Path("v"))  # type: ignore[arg-type]
    assert (pilot.container, pilot.venv) == (("apptainer", "exec", "image.sif"), "v")


UNKNOWN = {
    "pilot, near": (PILOT, {"core_per_node": 2}, "core_per_node", "did you mean 'cores_per_node'?"),
    "pilot, another system's": (PILOT, {"cpus_per_task": 2}, "cpus_per_task", "did you mean 'cores_per_node'?"),
    "task, another system's": (TASK, {"function": len, "cores": 2}, "cores", "did you mean 'num_cpus'?"),
    "pilot, far": (PILOT, {"zzz": 2}, "zzz", "it has: resource, engine"),
    "task, near": (TASK, {"function": len, "num_cpu": 2}, "num_cpu", "did you mean 'num_cpus'?"),
    "task, far": (TASK, {"function": len, "zzz": 2}, "zzz", "it has: function, args"),
}


@pytest.mark.parametrize("cls, given, key, words", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_key(cls: type[Description], given: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        cls.build(given)
    assert f"{cls.__name__} has no field {key!r}" in str(caught.value)
    assert words in str(caught.value)
    assert (caught.value.field, caught.value.given) == (key, 2)


def test_words_of_other_systems_lead_to_fields() -> None:
    for cls in (PilotDescription, TaskDescription):
        assert set(cls._called.values()) <= set(cls.__struct_fields__)
        assert not set(cls._called) & set(cls.__struct_fields__)


def test_help_shows_names_and_defaults() -> None:
    shown = str(inspect.signature(TaskDescription))
    assert shown.startswith("(*, function=None, args=(), kwargs=<factory>, initializer=None, ")
    assert "num_cpus=1.0, num_gpus=0.0, memory=None, " in shown
    assert "resource='local://', engine='process', " in str(inspect.signature(PilotDescription))


def test_neither_description_nor_dict() -> None:
    with pytest.raises(
        DescriptionError, match="PilotDescription: 3 is not valid; expected a PilotDescription, or a dict with its keys"
    ):
        PilotDescription.build(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"function": len, "executable": ["ls"]}], ids=["neither", "both"])
def test_exactly_one_kind_of_work(given: dict[str, Any]) -> None:
    with pytest.raises(DescriptionError, match="exactly one of function, executable, mpi and circuit"):
        TaskDescription(**given)


MEMORY = {
    "bytes": (12345, 12345),
    "digits": ("12345", 12345),
    "bytes with unit": ("7 B", 7),
    "decimal": ("500 MB", 500 * 1000**2),
    "binary": ("8 GiB", 8 * 1024**3),
    "without a space": ("8GiB", 8 * 1024**3),
    "one letter is binary": ("2g", 2 * 1024**3),
    "fraction": ("0.5 KiB", 512),
    "spaces around": (" 1 TB ", 1000**4),
}


@pytest.mark.parametrize("given, size", MEMORY.values(), ids=MEMORY)
def test_memory(given: int | str, size: int) -> None:
    assert PilotDescription(memory=given).memory == size
    assert TaskDescription(function=len, memory=given).terms().resources.memory == size


TIMES: dict[str, tuple[Any, float | None]] = {
    "seconds": (90, 90.0),
    "part of a second": (0.5, 0.5),
    "NumPy's seconds": (np.int64(90), 90.0),
    "timedelta": (timedelta(hours=2), 7200.0),
    "NumPy's timedelta": (np.timedelta64(90_000, "ms"), 90.0),
    "minutes and seconds": ("1:30", 90.0),
    "hours, minutes and seconds": ("1:30:00", 5400.0),
    "more than 24 hours": ("48:00:00", 172800.0),
    "days and hours": ("1-12", 129600.0),
    "days, hours and minutes": ("1-12:30", 131400.0),
    "days, hours, minutes and seconds": ("1-12:30:15", 131415.0),
    "none": (None, None),
}


@pytest.mark.parametrize("given, seconds", TIMES.values(), ids=TIMES)
def test_times_are_seconds_everywhere(given: Any, seconds: float | None) -> None:
    pilot = PilotDescription(walltime=given)
    assert (pilot.walltime, pilot.seconds) == (seconds, seconds)
    terms = TaskDescription(function=len, timeout=given, expected_duration=given).terms()
    assert (terms.timeout, terms.duration) == (seconds, seconds)
    if given is not None:
        assert PilotDescription(walltime=10**6, drain=given, orphan_timeout=given).drain == seconds
        assert PilotDescription(orphan_timeout=given).orphan_timeout == seconds


@pytest.mark.parametrize(
    "given",
    [0, -1, float("nan"), float("inf"), np.timedelta64("NaT"), "60", "an hour", "1:", "1:2:3:4", "1-", True, [1]],
)
@pytest.mark.parametrize("field", ["walltime", "expected_duration", "timeout", "orphan_timeout"])
def test_what_is_no_time(given: Any, field: str) -> None:
    kind = PilotDescription if field in ("walltime", "orphan_timeout") else TaskDescription
    work = {} if kind is PilotDescription else {"function": len}
    with pytest.raises(DescriptionError, match=rf'{field}: .* is not valid; expected seconds above 0.*"1:30:00"'):
        kind.build({field: given, **work})


def test_type_is_taken_for_engine() -> None:
    assert PilotDescription.build({"type": "ray"}).engine == "ray"
    with pytest.raises(DescriptionError, match="no field 'type'"):
        PilotDescription.build({"type": "ray", "engine": "dask"})


@pytest.mark.parametrize("one", [PilotDescription(), TaskDescription(function=len)], ids=["pilot", "task"])
def test_frozen(one: Description) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        one.name = "another"  # type: ignore[attr-defined]


def test_build_takes_a_description_as_it_is() -> None:
    wanted = PilotDescription(engine="dask")
    assert PilotDescription.build(wanted) is wanted


def test_pilot_round_trip() -> None:
    wanted = PilotDescription(cores_per_node=3, memory="1 GiB", walltime=5, labels=["a", "b"], environment={"A": "b"})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(wanted), type=PilotDescription) == wanted


def test_terms() -> None:
    terms = TaskDescription(function=len, num_cpus=2, num_gpus=0.5, memory=10, pilot="a", labels=["x"]).terms()
    assert terms.resources == Resources(2.0, 0.5, 10)
    assert (terms.pilots, terms.labels) == (("a",), ("x",))
    assert TaskDescription(function=len).terms() == TaskDescription(executable=["ls"]).terms()


def test_numbers_of_numpy_are_numbers() -> None:
    described = TaskDescription(
        circuit="x", shots=np.int64(5), seed=np.uint32(3), timeout=np.float64(2), min_fidelity=np.float32(0.5)
    )
    given = (described.shots, described.seed, described.timeout, described.min_fidelity)
    assert given == (5, 3, 2.0, 0.5)
    assert [type(one) for one in given] == [int, int, float, float]
    assert PilotDescription(cores_per_node=np.int8(2)).cores_per_node == 2


def test_texts_of_numpy_are_texts() -> None:
    described = TaskDescription(circuit="x", qpu=list(np.array(["fake:manila", "fake:lima"])), name=np.str_("one"))
    assert described.qpu == ("fake:manila", "fake:lima")
    assert [type(one) for one in (*described.qpu, described.name)] == [str, str, str]


@pytest.mark.parametrize("given", [4, None, b"process:4"])
def test_what_is_no_text_describes_no_pilot(given: Any) -> None:
    with pytest.raises(DescriptionError, match=r"pilot: .* is not valid; expected \[SCHEME"):
        PilotDescription.from_text(given)


def test_arguments_of_functions_stay_what_they_are() -> None:
    (given,) = TaskDescription(function=abs, args=[np.int64(-3)]).args
    assert type(given) is np.int64


@pytest.mark.parametrize("shots", [np.float64(5.5), np.int64(0), np.bool_(True), np.array([5])])
def test_what_is_no_whole_number_in_numpy_is_none(shots: Any) -> None:
    with pytest.raises(DescriptionError, match="whole number"):
        TaskDescription(circuit="x", shots=shots)
