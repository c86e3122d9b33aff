"""`RunFolder`: the folder of a run, for one process at a time, and what the run was begun with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pilot import DescriptionError, PilotDescription
from pilot.interfaces.miniapps import RunRequest

#: What a run leaves: where one of these is, another run would mix with it.
TRACES = ("run.json", "report.json", "metrics.csv", "session")
_DEFAULTS = msgspec.to_builtins(PilotDescription())


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was begun with; a run that is resumed must be given the same."""

    name: str
    settings: dict[str, Any]
    pilots: list[dict[str, Any]]
    scaling: list[int]
    scaling_of: str | None
    versions: dict[str, str]
    command: str
    #: Wall clock, seconds since the epoch.
    started: float

    def differences(self, other: Beginning) -> list[str]:
        """What is different in another one, in words."""
        found = []
        if self.name != other.name:
            found.append(f"the mini-app: {self.name}, now {other.name}")
        for name in sorted(self.settings | other.settings):
            before, now = self.settings.get(name), other.settings.get(name)
            if before != now:
                found.append(f"--{name.replace('_', '-')}: {_text(before)}, now {_text(now)}")
        for name, version in self.versions.items():  # one that was installed since is none that tasks have used
            if other.versions.get(name) != version:
                found.append(f"the version of {name}: {version}, now {_text(other.versions.get(name))}")
        for key, shown in (("pilots", "the pilots"), ("scaling", "--scaling"), ("scaling_of", "--scaling-of")):
            before, now = getattr(self, key), getattr(other, key)
            if before != now:
                found.append(f"{shown}: {_text(before)}, now {_text(now)}")
        return found


def beginning(request: RunRequest, settings: Any, pilots: list[PilotDescription], versions: dict[str, str]) -> Any:
    """What this run begins with, as it is after a round trip through JSON."""
    made = Beginning(
        name=request.name,
        settings=msgspec.to_builtins(settings),
        pilots=[described(one) for one in pilots],
        scaling=list(request.scaling),
        scaling_of=request.scaling_of,
        versions=versions,
        command=request.command,
        started=time.time(),
    )
    return msgspec.json.decode(msgspec.json.encode(made), type=Beginning)


def described(pilot: PilotDescription) -> dict[str, Any]:
    """The fields of a description that do not have their defaults, and how large the pilot is."""
    fields: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(pilot, cores_per_node=pilot.cores))
    always = ("resource", "engine", "cores_per_node", "number_of_nodes")
    return {key: value for key, value in fields.items() if key in always or value != _DEFAULTS[key]}


def check(path: Path, begun: Beginning, *, resume: bool) -> None:
    """Raise DescriptionError where `opened` would, but for another process that uses the folder. Makes nothing."""
    _check_kind(path, resume)
    if path.exists():
        if resume:
            _check_same(path, begun)
        else:
            _check_new(path)
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise DescriptionError(f"--output: {path}: no files can be written to {there}", given=str(path))


@contextlib.contextmanager
def opened(path: Path, begun: Beginning, *, resume: bool) -> Iterator[None]:
    """Use the folder of a run in the block.

    Raises:
        DescriptionError: it holds a run and is not to be resumed, or none and is; the run was begun with something
            else; another process uses it.
        OSError: it cannot be made or written.
    """
    _check_kind(path, resume)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("a+", encoding="utf-8") as lock:
        _take(lock, path)
        if resume:
            _check_same(path, begun)
        else:
            _check_new(path)
            write_atomically(path / "run.json", msgspec.json.format(msgspec.json.encode(begun)))
        yield


def abandoned(path: Path) -> bool:
    """Remove what was begun with, where no pilot has been warm yet: there is nothing to continue. False: it was."""
    more = [one for one in path.iterdir() if one.name not in ("run.json", "session", ".lock")]
    if any(not one.is_dir() or [two.name for two in one.iterdir()] != ["session"] for one in more):  # runs of a series
        return False
    shutil.rmtree(path)
    return True


def _check_kind(path: Path, resume: bool) -> None:
    if resume and not (path / "run.json").exists():
        raise DescriptionError(f"--resume: {path} holds no run to continue; leave out --resume to begin one")
    if path.exists() and not path.is_dir():
        raise DescriptionError(f"--output: {path} is a file; give a folder", given=str(path))


def _take(lock: Any, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        who = lock.read().strip() or "another process"
        raise DescriptionError(
            f"--output: {path} is used by {who}; wait for its end, or give another folder", given=str(path)
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(f"process {os.getpid()}")
    lock.flush()


def _check_new(path: Path) -> None:
    there = [name for name in TRACES if (path / name).exists()]
    if there:
        raise DescriptionError(
            f"--output: {path} has a run already ({', '.join(there)}): --resume continues it; give another folder, or "
            "remove this one, to begin anew",
            given=str(path),
        )


def _check_same(path: Path, begun: Beginning) -> None:
    try:
        before = msgspec.json.decode((path / "run.json").read_bytes(), type=Beginning)
    except msgspec.MsgspecError as error:
        raise DescriptionError(f"--resume: {path / 'run.json'} is damaged: {error}") from error
    if different := before.differences(begun):
        raise DescriptionError(
            f"--resume: {path} was begun with something else: {'; '.join(different)}. It was: {before.command}"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "[" + ", ".join(_text(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={one}" for key, one in value.items())
    return "none" if value in (None, []) else str(value)
