"""Replies about tasks: the vendor's states, times and members.

The vendor's client finds a reply without one of these members empty, and asks for ever; so all are always there. It
reads no blanks between them either: replies are compact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pilot.service.models import TaskView
from pilot.service.origin.codes import ErrorCode, OriginError, TaskState
from pilot.service.origin.results import Forms
from pilot.service.origin.tasks import Kept
from pilot.service.problems import Problem

#: The vendor's state for each of the service's.
STATES = {
    "received": TaskState.WAITING,
    "queued": TaskState.QUEUING,
    "running": TaskState.COMPUTING,
    "done": TaskState.FINISHED,
    "failed": TaskState.FAILED,
    "invalid": TaskState.FAILED,
    "cancelled": TaskState.CANCELLED,
}
#: The vendor's code for the class of an error that a task ended with; others are the backend's.
_CODES = {
    "ProgramError": ErrorCode.ORIGINIR,
    "DescriptionError": ErrorCode.TASK_CONFIGURATION,
    "NoPilotError": ErrorCode.CHIP_OFFLINE,
    "PilotFailed": ErrorCode.CHIP_OFFLINE,
    "QPUUnavailable": ErrorCode.CHIP_OFFLINE,
    "QPUCancelled": ErrorCode.TERMINATED,
    "TaskTimeout": ErrorCode.SYSTEM_TIMEOUT,
}
#: The vendor's code for the status of a request that the service refuses; others are undefined errors.
_STATUSES = {
    404: ErrorCode.TASK_NOT_FOUND,
    413: ErrorCode.PROGRAM_LENGTH,
    422: ErrorCode.PARAMETER,
    429: ErrorCode.TASK_BUFFER_FULL,
    503: ErrorCode.DATABASE,
}

#: Members of a reply about a task that are never there when it has not ended well.
_EMPTY: dict[str, Any] = {
    "taskResult": [],
    "probCount": [],
    "qSTResult": "",
    "qSTFidelity": "",
}
_TIMES = (
    *("startTime", "endTime", "totalTime", "queueTime", "compileTime", "pulseTime", "cirExecuteTime"),
    *("aioExecuteTime", "aioCompileTime", "aioPendingTime", "aioMeasureTime", "aioPostProcessTime"),
)


def code_of(error: OriginError | Problem) -> ErrorCode:
    """The vendor's code of a refusal."""
    if isinstance(error, Problem):
        return _STATUSES.get(error.status, ErrorCode.UNDEFINED)
    code: ErrorCode = error.code
    return code


def refusal(error: OriginError | Problem) -> dict[str, Any]:
    """The reply to a request that is refused."""
    return {"errCode": int(code_of(error)), "errInfo": str(error)}


def query_refusal(error: OriginError | Problem) -> dict[str, Any]:
    """The same for a query, in the form of a reply about a task that failed: the client asks again until there is one
    about a task that is over."""
    code = code_of(error)
    state = TaskState.WAITING if code is ErrorCode.DATABASE else TaskState.FAILED  # not known now: ask again
    return _about("", state, int(code), str(error))


def _about(task: str, state: TaskState, code: int, info: str) -> dict[str, Any]:
    """A reply about a task of which nothing else is known."""
    return {
        "taskId": task,
        "taskState": str(int(state)),
        "taskType": "0",
        "errCode": code,
        "errInfo": info,
        **_EMPTY,
        "qProg": [],
        "qProgLength": 0,
        "configuration": "",
        "convertQProg": [],
        "mappingQProg": [],
        "mappingQubit": [],
        "requiredCore": 0,
        **dict.fromkeys(_TIMES, 0),
    }


def task_reply(
    view: TaskView, kept: Kept, programs: Sequence[str], forms: Forms | None, backends: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The reply to a query.

    Args:
        view: the task.
        kept: with it.
        programs: texts, those that run.
        forms: of its result; None: it has none, or not yet.
        backends: what its QPUs, as far as they are there, say of themselves now.
    """
    state = STATES[view.state]
    reply = _about(view.id, state, *_error(view))
    reply |= {
        "taskType": str(kept.type),
        "qProg": list(kept.programs or programs),
        "qProgLength": len(programs),
        "configuration": msgspec.json.encode(kept.configuration).decode(),
        "convertQProg": list(programs),
        "requiredCore": max((one[0] for one in kept.estimates), default=0),
        **_times(view),
        "backend": view.qpu,
        "backendStatus": backends,
        "estimates": [{"qubits": one[0], "depth": one[1], "seconds": one[2]} for one in kept.estimates],
        "steps": [{"step": one.step, "time": one.time} for one in view.steps],
    }
    if forms is not None:
        reply |= {"taskResult": forms.results, "probCount": forms.counts, **forms.more}
    return reply


def result_alone(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply without the programs and what else was sent with them."""
    return {**reply, "qProg": [], "convertQProg": [], "configuration": ""}


def _error(view: TaskView) -> tuple[int, str]:
    if view.state == "cancelled":
        return int(ErrorCode.TERMINATED), "the task was cancelled"
    if view.error is None:
        return int(ErrorCode.NO_ERROR), ""
    return int(_CODES.get(view.error.kind, ErrorCode.BACKEND)), view.error.message


def _times(view: TaskView) -> dict[str, int]:
    """Times in milliseconds, as far as its steps are known: the begin and end since the epoch, the others spans."""
    when = {one.step: one.time for one in view.steps}

    def span(first: str, last: str) -> int:
        return round(1000 * (when[last] - when[first])) if first in when and last in when else 0

    return {
        "startTime": round(1000 * when.get("received", view.submitted)),
        "endTime": round(1000 * view.ended) if view.ended is not None else 0,
        "queueTime": span("queued", "scheduled"),
        "aioPendingTime": span("scheduled", "dispatched"),
        "cirExecuteTime": span("dispatched", "corrected"),
        "aioExecuteTime": span("scheduled", "corrected"),
        "totalTime": span("received", "stored"),
    }


def encoded(reply: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """JSON without blanks."""
    return msgspec.json.encode(reply)
