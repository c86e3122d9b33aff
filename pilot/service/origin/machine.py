"""The routes of a pilot machine: ``pyqpanda3.pilot_service``, and the API's documented requests."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from pilot.service.access import User
from pilot.service.origin import replies
from pilot.service.origin.codes import ErrorCode, OriginError, TaskState
from pilot.service.origin.gateway import answered, body_of, gateway_of
from pilot.service.origin.submissions import Submission, chip_submission, simulator_submission

router = APIRouter(include_in_schema=False)
_answered = answered(replies.refusal)


@router.post("/management/pilotosmachinelogin")
@_answered
async def log_in(request: Request) -> dict[str, Any]:
    """The token of the service is the ``apiKey``, and the token that the reply has; so two logins give the same."""
    body = await body_of(request)
    return await _logged_in(request, body.get("apiKey"))


@router.post("/management/login")
@_answered
async def log_in_by_name(request: Request) -> dict[str, Any]:
    """The password is the token of the service."""
    body = await body_of(request)
    reply = await _logged_in(request, body.get("password"))
    user = await gateway_of(request).user(body.get("password"))
    if body.get("username", user.name) != user.name:
        message = "username: not the user whom this token stands for"
        raise OriginError(message, code=ErrorCode.APPLICATION_NOT_FOUND)
    return reply


async def _logged_in(request: Request, token: object) -> dict[str, Any]:
    address = request.client.host if request.client is not None else ""
    await gateway_of(request).log_in(token, address)
    return {"errCode": 0, "errInfo": "", "token": token}


@router.post("/task/realQuantum/run")
@_answered
async def run(request: Request) -> dict[str, Any]:
    """A task for a chip."""
    body = await body_of(request)
    user = await gateway_of(request).user(body.get("token"))
    return await _accepted(request, user, body, chip_submission(body))


@router.post("/task/run")
@_answered
async def run_simulator(request: Request) -> dict[str, Any]:
    """A task for the simulator of full amplitudes."""
    body = await body_of(request)
    user = await gateway_of(request).user(body.get("token"))
    return await _accepted(request, user, body, simulator_submission(body))


async def _accepted(request: Request, user: User, body: dict[str, Any], submission: Submission) -> dict[str, Any]:
    id = await gateway_of(request).accept(submission, user, body, request.state.received)
    reply = {"errCode": 0, "errInfo": "", "taskId": id, "taskState": str(int(TaskState.WAITING))}
    if submission.ignored:
        reply["ignored"] = list(submission.ignored)
    return reply


@router.post("/task/realQuantum/query")
@answered(replies.query_refusal)
async def query(request: Request) -> dict[str, Any]:
    """The state and result of a task. Without a token only where the site allows it, and nothing else of the task."""
    gateway, body = gateway_of(request), await body_of(request)
    is_open = gateway.settings.results_without_token and not body.get("token")
    user = None if is_open else await gateway.user(body.get("token"))
    reply = await gateway.reply_about(await gateway.find(body.get("taskId"), user))
    return replies.result_alone(reply) if is_open else reply


@router.post("/management/query/taskinfo")
@answered(replies.query_refusal)
async def task_info(request: Request) -> dict[str, Any]:
    """As `query`, with numbers where that has texts, and the result as one text."""
    gateway, body = gateway_of(request), await body_of(request)
    user = await gateway.user(body.get("token"))
    reply = await gateway.reply_about(await gateway.find(body.get("taskid", body.get("taskId")), user))
    results = reply["taskResult"]
    return reply | {
        "TaskType": int(reply["taskType"]),
        "taskState": int(reply["taskState"]),
        "taskResult": f"[{','.join(results)}]" if results else "",
        "without_compensate_prog": reply["qProg"],
    }


@router.post("/task/realQuantum/chip_config_query")
@_answered
async def chip_configuration(request: Request) -> dict[str, Any]:
    """Calibrations of chips. The vendor's client sends what it is given: ``{"ChipID": [72], "token": ...}`` will do."""
    gateway, body = gateway_of(request), await body_of(request)
    await gateway.user(body.get("token"))
    found = gateway.chips().configurations(body.get("ChipID", -1))
    return {"errCode": 0, "errInfo": "", "configuration": found}


#: Routes that are not offered, and what to do instead.
_NOT_OFFERED = {
    "/task/realQuantum/em_compute": "error mitigation is not offered here; amendFlag corrects the readout",
    "/task/realQuantum/noise_learning": "noise learning is not offered here; amendFlag corrects the readout",
    "/session/apply": "sessions are not offered here; send tasks to /task/realQuantum/run",
    "/session/append_task": "parametric tasks (17) are not offered here; bind the parameters and send tasks",
}


async def not_offered(request: Request) -> dict[str, Any]:
    """Refuse what the route is for."""
    body = await body_of(request)
    await gateway_of(request).user(body.get("token", body.get("Token")))
    path = request.scope["route"].path
    raise OriginError(_NOT_OFFERED[path], code=ErrorCode.TASK_TYPE)


for _path in _NOT_OFFERED:
    router.post(_path)(_answered(not_offered))


@router.post("/task/realQuantum/run_bin_ir")
@_answered
async def run_binary(request: Request) -> dict[str, Any]:
    """Binary OriginIR has no public description."""
    message = "binary OriginIR is not read here; send OriginIR as a text to /task/realQuantum/run"
    raise OriginError(message, code=ErrorCode.ORIGINIR)
