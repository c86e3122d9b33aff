"""The environment variables and the working directory of one task, in a process that runs other tasks before and after
it."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilot.interfaces import WorkFunction
from pilot.wire import payload
from pilot.worker import task_process


@dataclass(frozen=True)
class InSurroundings(WorkFunction):
    """A function that runs with environment variables and a working directory of its own.

    It is loaded for each task, with the variables set: what it imports finds them. What a library reads when it is
    loaded stays as it is in a worker that has loaded the library before.
    """

    #: The function, as `payload.dump_function` has pickled it.
    code: bytes
    name: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(
        self,
        environment: Mapping[str, str],
        working_directory: str | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """``function(*args, **kwargs)``. The variables are as before afterwards; the worker goes back to its own
        directory after each task.

        Raises:
            OSError: as `directory`.
        """
        folder = directory(working_directory)
        with _set(environment):
            if folder is not None:
                os.chdir(folder)
            return task_process.call(payload.load(self.code), args, kwargs)


@contextlib.contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def directory(working_directory: str | None) -> str | None:
    """Where a task runs; None: in the worker's directory. A ~ at the beginning stands for the home directory.

    Raises:
        OSError: FileNotFoundError, NotADirectoryError or PermissionError; the message names field, host and directory.
    """
    if working_directory is None:
        return None
    folder = os.path.expanduser(working_directory)  # noqa: PTH111
    try:
        os.stat(os.path.join(folder, "."))  # noqa: PTH116, PTH118 - a Path loses the dot, which asks for a folder
    except OSError as error:
        what = f"TaskDescription.working_directory on {platform.node()}: {error.strerror}"
        raise type(error)(error.errno, what, folder) from None
    return folder
