"""What goes into a task and comes out of it: arguments are loaded, results are pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pilot.errors import SessionError
from pilot.results import OK, RAISED, REFUSED, UNAVAILABLE, UNWRITTEN
from pilot.wire import payload
from pilot.wire.messages import Work
from pilot.wire.spool import Spool
from pilot.worker import device
from pilot.worker.batch import HeldBatch


def arguments_of(batch: HeldBatch, work: Work, spool: Spool) -> Any:
    """The arguments of a task: args and kwargs.

    Raises:
        SessionError: a file of theirs cannot be read.
        Exception: what a class raises when it is unpickled.
    """
    try:
        return payload.load(work.payload, batch.values if work.values is None else work.values, spool)
    except OSError as error:
        if Path(str(error.filename)).parent != spool.folder:
            raise
        path = str(error.filename)  # not the function's own error
        raise SessionError(f"an argument cannot be read from {path}: {error.strerror}", path=path) from error


def kept(result: Any, spool: Spool) -> tuple[int, Any]:
    """A status, and the result as it travels; or that there is no room for it.

    Raises:
        NotPicklable: it cannot be pickled.
        SessionError: it cannot be written, for another reason.
    """
    try:
        return OK, payload.dump(result, spool, "the result")
    except SessionError as error:
        if (unwritten := payload.dump_unwritten(error)) is None:
            raise
        return UNWRITTEN, unwritten


def dumped(result: Any, spool: Spool) -> tuple[int, Any]:
    """The same for a result or what was raised; says where the worker's QPU takes no jobs now, or not this one."""
    try:
        if isinstance(result, BaseException):
            raise result
        return kept(result, spool)
    except BaseException as error:
        if device.held is not None:
            if (refused := payload.dump_refused(error)) is not None:
                return REFUSED, refused
            if device.held.is_down_after(error):
                return UNAVAILABLE, payload.dump_exception(error)
        return RAISED, payload.dump_exception(error)
