"""`PilotComputeService`: what a program of Pilot-Quantum begins with."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from pilot.errors import PilotError, SessionError, invalid
from pilot.manager.manager import PilotManager
from pilot.pilot_compute_service.descriptions import pilot_description
from pilot.pilot_compute_service.homes import Homes
from pilot.pilot_compute_service.metrics import MetricsFile
from pilot.pilot_compute_service.pilots import PilotCompute
from pilot.pilot_compute_service.submission import METRICS, Core, PilotComputeBase
from pilot.pilot_enums_exceptions import ExecutionEngine
from pilot.states import PilotState, is_final

#: The manager's own ids of pilots, which it takes for no name.
_IDS = re.compile(r"pilot-\d+")


class PilotComputeService(PilotComputeBase):
    """Gets pilots of one engine, and runs tasks on them.

    Its folder is ``pcs-<uuid>`` in the working directory. ``metrics.csv`` stays there when the service ends; the
    folder ``session`` in it is removed then, unless a pilot failed. `cancel` ends the service, at the latest the end of
    the program does.
    """

    def __init__(
        self,
        execution_engine: ExecutionEngine | str = ExecutionEngine.DASK,
        working_directory: str | os.PathLike[str] = "/tmp",
    ) -> None:
        """Begin. Starts nothing but a thread.

        Args:
            execution_engine: what runs the tasks.
            working_directory: where the service's folder goes; the nodes of its pilots must see it.

        Raises:
            DescriptionError: there is no such engine, or no such folder can be made.
            SessionError: the folder cannot be used.
        """
        try:
            engine = ExecutionEngine(execution_engine)
        except ValueError:
            known = ", ".join(str(one) for one in ExecutionEngine)
            raise invalid("execution_engine", execution_engine, known) from None
        if not isinstance(working_directory, str | os.PathLike):
            raise invalid("working_directory", working_directory, "a path")
        folder = Path(working_directory).expanduser().absolute() / f"pcs-{uuid.uuid4()}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise SessionError(f"working_directory: {folder} cannot be made: {error}", path=str(folder)) from error
        manager = PilotManager(folder / "session")
        names: dict[str, str] = {}
        metrics = MetricsFile(manager, names, folder / METRICS)
        super().__init__(Core(manager, Homes(manager, engine, metrics.wait), engine, folder, metrics, {}, names))
        #: By name.
        self.pilots: dict[str, PilotCompute] = {}
        self._is_over = False
        atexit.register(self.cancel)

    def create_pilot(self, pilot_compute_description: Mapping[str, Any]) -> PilotCompute:
        """Ask for a pilot. Does not wait for it: `PilotCompute.wait` does.

        Args:
            pilot_compute_description: a dict with Pilot-Quantum's keys and those of `PilotDescription`; it is not
                changed.

        Raises:
            DescriptionError: a value is not valid, or another pilot has this name.
            PluginError: there is no launcher for its resource.
            SessionError: the service was cancelled.
        """
        wanted = pilot_description(pilot_compute_description, self.execution_engine)
        id = f"pilot-{uuid.uuid4()}"
        name = wanted.name or id
        if name in self._core.pilots and not is_final(self._core.pilots[name].state):
            raise wanted.wrong("name", "a name that no other pilot of this service has")
        if _IDS.fullmatch(name):
            wanted = msgspec.structs.replace(wanted, name=f"{name}-{id[-12:]}")
        pilot = self._manager.submit_pilot(wanted)
        self._core.names[pilot.id] = name
        self._core.pilots[id] = self._core.pilots[name] = pilot
        made = self.pilots[name] = PilotCompute(self._core, pilot, id, name)
        return made

    def get_pilots(self) -> list[str]:
        """The names of its pilots, in the order of their creation."""
        return list(self.pilots)

    def get_pilot(self, name: str) -> PilotCompute:
        """The pilot with this name.

        Raises:
            PilotError: there is none.
        """
        if name not in self.pilots:
            raise PilotError(f"pilot {name!r} not found; there are: {', '.join(self.pilots) or 'none'}")
        return self.pilots[name]

    def cancel(self) -> None:
        """Cancel what is not finished, and end all pilots. Blocks. Nothing happens the second time."""
        if self._is_over:
            return
        self._is_over = True
        atexit.unregister(self.cancel)
        failed = any(pilot.state is PilotState.FAILED for pilot in self._manager.pilots)
        self._homes.close()
        self._manager.close()
        self._core.metrics.close()
        if not failed:
            shutil.rmtree(self._manager.session_dir, ignore_errors=True)

    def __enter__(self) -> PilotComputeService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
