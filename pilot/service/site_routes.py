"""API v1: pilots, QPUs, estimates and sessions."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request

from pilot.resources import QPUInfo
from pilot.service.access import CurrentUser
from pilot.service.answers import described
from pilot.service.models import EstimateBody, EstimateView, PilotView, QPUView, SessionBody, SessionView
from pilot.service.problems import Problem
from pilot.service.service import Service

router = APIRouter(prefix="/v1", tags=["site"], responses=described(401))

SessionId = Annotated[str, Path(pattern="^[0-9A-F]{32}$")]


@router.get("/pilots")
async def pilots(request: Request, user: CurrentUser) -> list[PilotView]:
    """The pilots of the service, those that are over included."""
    return [
        PilotView(
            id=one.id,
            name=one.name,
            state=one.state.value,
            reason=one.reason,
            job=one.job,
            resource=one.description.resource,
            engine=one.description.engine,
            cores=one.description.cores,
            nodes=list(one.nodes),
            qpus=list(one.description.qpus),
        )
        for one in _service(request).manager.pilots
    ]


@router.get("/qpus")
async def qpus(request: Request, user: CurrentUser) -> list[QPUView]:
    """The QPUs that the active pilots have, with their status and queue."""
    return [_view(info) for info in _service(request).manager.qpus.values()]


@router.get("/qpus/{name:path}", responses=described(404, 422))
async def qpu(request: Request, user: CurrentUser, name: str) -> QPUView:
    """One QPU, with its calibration."""
    known = _service(request).manager.qpus
    if name not in known:
        raise Problem(404, f"there is no QPU {name[:64]!r} now; there are: {', '.join(known) or 'none'}")
    info = known[name]
    calibration = None if info.calibration is None else _by_name(info.calibration)
    return _view(info).model_copy(update={"calibration": calibration})


def _by_name(value: Any) -> Any:
    """Structs as mappings, also those that are lists elsewhere."""
    if isinstance(value, msgspec.Struct):
        return {name: _by_name(one) for name, one in msgspec.structs.asdict(value).items()}
    return [_by_name(one) for one in value] if isinstance(value, list | tuple) else value


def _view(info: QPUInfo) -> QPUView:
    plain = {name: getattr(info, name) for name in QPUView.model_fields if name != "calibration"}
    coupling = None if info.coupling is None else [list(pair) for pair in info.coupling]
    return QPUView(**{**plain, "gates": list(info.gates), "coupling": coupling})


@router.post("/estimates", responses=described(400, 413, 422, 429, 503))
async def estimate(request: Request, user: CurrentUser, body: EstimateBody) -> list[EstimateView]:
    """What is expected of a circuit on each QPU, before it is submitted. Takes a second or more."""
    return [EstimateView(**one) for one in await _service(request).estimates.ask(user, body)]


@router.post("/sessions", status_code=201, responses=described(400, 413, 422, 429))
async def open_session(request: Request, user: CurrentUser, body: SessionBody) -> SessionView:
    """Open a session: a name for a group of tasks."""
    return await _service(request).sessions.open(user, body.name)


@router.get("/sessions", responses=described(422))
async def sessions(
    request: Request, user: CurrentUser, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> list[SessionView]:
    """Your sessions, the newest first, without those behind ``limit``."""
    return await _service(request).sessions.all(user, limit)


@router.get("/sessions/{id}", responses=described(404, 422))
async def session(request: Request, user: CurrentUser, id: SessionId) -> SessionView:
    """One of your sessions. Its tasks are ``GET /v1/tasks?session=…``."""
    return await _service(request).sessions.find(user, id)


@router.post("/sessions/{id}/close", responses=described(404, 422))
async def close_session(request: Request, user: CurrentUser, id: SessionId) -> SessionView:
    """Close a session: its tasks that are not over are cancelled, and it takes no others."""
    return await _service(request).sessions.close(user, id)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
