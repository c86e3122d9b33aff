"""The routes of the vendor's cloud: ``pyqpanda3.qcloud``. The token stands in the header ``Authorization``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from pilot.service.access import User
from pilot.service.origin import replies
from pilot.service.origin.codes import ErrorCode, Machine, OriginError, TaskState
from pilot.service.origin.gateway import answered, body_of, gateway_of
from pilot.service.origin.submissions import cloud_submission
from pilot.service.problems import Problem

router = APIRouter(prefix="/oqcs/task", include_in_schema=False)

#: The vendor writes its key so, behind ``Authorization:``; a bearer's token is taken, too.
_SCHEMES = ("oqcs_auth=", "Bearer ")


def _refusal(error: OriginError | Problem) -> dict[str, Any]:
    code, message = int(replies.code_of(error)), str(error)
    return {"success": False, "message": message, "code": code, "obj": {"errCode": code, "errInfo": message}}


_answered = answered(_refusal)


def _done(obj: Any) -> dict[str, Any]:
    return {"success": True, "message": "", "code": 0, "obj": obj}


async def _user(request: Request) -> User:
    given = request.headers.get("authorization", "")
    token = next((given.removeprefix(one).strip() for one in _SCHEMES if given.startswith(one)), "")
    if not token:
        message = (
            "Authorization: no token; expected the header 'Authorization: oqcs_auth=TOKEN', with one of this service"
        )
        raise OriginError(message, code=ErrorCode.JSON_FIELD)
    return await gateway_of(request).user(token)


@router.get("/getResourceList.json")
@_answered
async def resources(request: Request) -> list[dict[str, Any]]:
    """The chips that there are. The client adds the simulators itself."""
    await _user(request)
    chips = gateway_of(request).chips()
    return [
        {"machineType": int(Machine.CHIP), "onlineFlag": chips.is_online(chip), "sinanChipId": chip}
        for chip in chips.ids()
    ]


@router.post("/origin/submit.json")
@_answered
async def submit(request: Request) -> dict[str, Any]:
    """A task for a chip, for the simulator of full amplitudes, or a state tomography."""
    user, body = await _user(request), await body_of(request)
    submission = cloud_submission(body)
    id = await gateway_of(request).accept(submission, user, body, request.state.received)
    reply = {"taskId": id, "taskState": str(int(TaskState.WAITING))}
    return _done(reply | ({"ignored": list(submission.ignored)} if submission.ignored else {}))


@router.post("/origin/taskDetail.json")
@_answered
async def detail(request: Request) -> dict[str, Any]:
    """The state and result of a task."""
    user, body = await _user(request), await body_of(request)
    gateway = gateway_of(request)
    return _done(_in_cloud(await gateway.reply_about(await gateway.find(body.get("taskId"), user))))


def _in_cloud(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply of the other face in this one's members."""
    changed = dict(reply)
    state, fidelity = changed.pop("qSTResult"), changed.pop("qSTFidelity")
    if state:
        changed["qstTaskResult"] = [state]
    if fidelity:
        changed["qstFidelity"] = fidelity
    return changed


@router.post("/cancelTask.json")
@_answered
async def cancel(request: Request) -> dict[str, Any]:
    """End a task; one that is over stays as it is."""
    user, body = await _user(request), await body_of(request)
    gateway = gateway_of(request)
    row = await gateway.find(body.get("taskId"), user)
    view = await gateway.service.cancel(user, row.id)
    if view.state != "cancelled":
        message = f"taskId: the task is {view.state}; only one that is not over can be cancelled"
        raise OriginError(message, code=ErrorCode.TERMINATED)
    return _done(True)


@router.post("/origin/chipInfo.json")
@_answered
async def chip_info(request: Request) -> dict[str, Any]:
    """The calibration of a chip."""
    await _user(request)
    body = await body_of(request)
    return _done(gateway_of(request).chips().information(body.get("ChipID")))


@router.post("/management/bestQubitBlocks.json")
@_answered
async def best_blocks(request: Request) -> dict[str, Any]:
    """The compiler chooses the best qubits for each program, by the calibration."""
    await _user(request)
    message = "blocks of qubits are not listed here; with mappingFlag true the compiler takes the best ones"
    raise OriginError(message, code=ErrorCode.TASK_TYPE)
