"""API v1: tasks, their results and events."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import TypeAdapter

from pilot.errors import did_you_mean
from pilot.service import direct
from pilot.service.access import TRUSTED_SECONDS, CurrentUser, User
from pilot.service.active import state_after
from pilot.service.answers import described
from pilot.service.models import (
    Accepted,
    BatchBody,
    Counts,
    Explanation,
    TaskBody,
    TaskList,
    TaskView,
)
from pilot.service.problems import Problem
from pilot.service.service import Service
from pilot.service.store import Filter, NewTask

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

router = APIRouter(prefix="/v1", tags=["tasks"], responses=described(401))

_TASK = TypeAdapter(TaskBody)
Id = Annotated[str, Path(pattern="^[0-9A-F]{32}$", description="32 hexadecimal digits.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=direct.KEY,
        description=direct.ABOUT_KEY,
    ),
]
Seconds = Annotated[float | None, Query(ge=0, le=1e11, allow_inf_nan=False, description="Since the epoch.")]


@router.post(
    "/tasks",
    status_code=202,
    responses={202: {"model": Accepted}, **described(400, 413, 415, 422, 429, 503)},
    openapi_extra=direct.description(TaskBody),
)
async def submit(request: Request) -> Response:
    """Submit a task. The answer comes when it is on disk."""
    user, key = await direct.user_and_key(request)
    accepted = await _submit(request, user, [await direct.body(request, _TASK)], key)
    return Response(accepted.model_dump_json(), 202, media_type="application/json")


@router.post("/batches", status_code=202, responses=described(400, 413, 422, 429, 503))
async def submit_many(request: Request, user: CurrentUser, body: BatchBody, key: Key = None) -> Accepted:
    """Submit several tasks: all are accepted, or none is."""
    most = _service(request).settings.limits.tasks_per_request
    if len(body.tasks) > most:
        raise Problem(422, f"tasks: {len(body.tasks)} given; at most {most}", field="tasks")
    return await _submit(request, user, body.tasks, key)


async def _submit(request: Request, user: User, bodies: Sequence[TaskBody], key: str | None) -> Accepted:
    service, now = _service(request), time.time()
    await service.sessions.check(user, {body.session for body in bodies if body.session})
    tasks = [
        NewTask(
            user=user.name,
            programs=() if body.program is None else (body.program,),
            format=body.format or "",
            function=body.function or "",
            options=body.options(),
            name=body.name,
            project=body.project,
            session=body.session,
            may_reuse=body.reuse,
            received=now,
        )
        for body in bodies
    ]
    digest = hashlib.sha256(await request.body()).hexdigest() if key else ""
    return Accepted(ids=await service.submit(tasks, key=key or "", digest=digest))


def _known(request: Request) -> None:
    """A word in the query that means nothing is refused: the answer would be about other tasks than those wanted."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            detail = f"{name}: there is no such filter{did_you_mean(name, known)}; there are {', '.join(sorted(known))}"
            raise Problem(422, detail, field=name, given=request.query_params[name])


@router.get("/tasks", responses=described(422), dependencies=[Depends(_known)])
async def list_tasks(
    request: Request,
    user: CurrentUser,
    state: Annotated[Literal["active", "done", "failed", "cancelled", "invalid"] | None, Query()] = None,
    project: Annotated[str | None, Query(max_length=64)] = None,
    qpu: Annotated[str | None, Query(max_length=200)] = None,
    session: Annotated[str | None, Query(pattern="^[0-9A-F]{32}$")] = None,
    since: Seconds = None,
    until: Seconds = None,
    before: Annotated[str | None, Query(pattern="^[0-9A-F]{32}$", description="Tasks older than this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    everybody: Annotated[bool, Query(description="Of all users; administrators only.")] = False,
) -> TaskList:
    """Tasks, the newest first, without those behind ``limit``; ``active`` are those that are not over."""
    if everybody and not user.is_admin:
        raise Problem(422, "everybody: only for administrators", field="everybody")
    wanted = Filter(
        user=None if everybody else user.name,
        state=state,
        project=_written(project, "project"),
        qpu=_written(qpu, "qpu"),
        session=session,
        since=since,
        until=until,
        before=before,
    )
    tasks = await _service(request).page(wanted, limit + 1)
    return TaskList(tasks=tasks[:limit], next=tasks[limit - 1].id if len(tasks) > limit else None)


def _written(text: str | None, field: str) -> str | None:
    if text is not None and "\0" in text:
        raise Problem(422, f"{field}: a text without the character NUL is expected", field=field)
    return text


@router.get("/counts")
def counts(request: Request, user: CurrentUser) -> Counts:
    """How many of your tasks there are in each state."""
    return Counts(**_service(request).store.counts(user.name))


@router.get("/tasks/{id}", responses=described(404, 422))
async def task(request: Request, user: CurrentUser, id: Id) -> TaskView:
    """A task as it is now."""
    return await _service(request).view(user, id)


@router.get(
    "/tasks/{id}/result",
    response_class=Response,
    responses={
        200: {
            "description": "A list, with a result for each program.",
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
        },
        **described(404, 409, 422),
    },
)
async def result(request: Request, user: CurrentUser, id: Id) -> Response:
    """The result of a task that is done."""
    return Response(await _service(request).result(user, id), media_type="application/json")


@router.post("/tasks/{id}/cancel", responses=described(404, 422, 503))
async def cancel(request: Request, user: CurrentUser, id: Id) -> TaskView:
    """End a task. One that is over stays as it is."""
    return await _service(request).cancel(user, id)


@router.get("/tasks/{id}/explain", responses=described(404, 422))
async def explain(request: Request, user: CurrentUser, id: Id) -> Explanation:
    """Why a task went where it went, or why it waits."""
    return Explanation(text=await _service(request).explain(user, id))


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **described(404, 422, 429),
    },
    dependencies=[Depends(_known)],
)
async def events(
    request: Request,
    user: CurrentUser,
    task: Annotated[str | None, Query(pattern="^[0-9A-F]{32}$", description="Only of this task, to its end.")] = None,
) -> StreamingResponse:
    """The steps that your tasks take from now on, as server-sent events; of one task also those that it has taken."""
    service = _service(request)
    if task is not None:
        await service.find(user, task)
    return _Stream(service, user, task)


class _Stream(StreamingResponse):
    """The answer with the steps. It is counted from its beginning to its end."""

    def __init__(self, service: Service, user: User, task: str | None) -> None:
        super().__init__(_events(service, user, task), media_type="text/event-stream")
        self._opened = service.streams.opened(user.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened:
            await super().__call__(scope, receive, send)


async def _events(service: Service, user: User, task: str | None) -> AsyncIterator[bytes]:
    whose = None if task is not None and user.is_admin else user.name
    with service.steps.listener(whose, task) as listener:
        seen: set[str] = set()
        if task is not None:
            view = await service.view(user, task)
            for one in view.steps:
                seen.add(one.step)
                yield _event(task, one.step, state_after(one.step, view.state), one.time)
            if "retired" in seen:
                return
        yield b": connected\n\n"
        looked = time.monotonic()
        async for step in listener.steps():
            if time.monotonic() > looked + TRUSTED_SECONDS:
                if not await run_in_threadpool(service.access.is_good, user):
                    return
                looked = time.monotonic()
            if listener.missed:
                missed, listener.missed = listener.missed, 0
                yield format_sse_event(data_str=json.dumps({"missed": missed}), event="missed")
            if step is None:
                yield b": nothing new\n\n"
            elif task is None or step.step not in seen:
                yield _event(step.task, step.step, step.state, step.time)


def _event(task: str, step: str, state: str, when: float) -> bytes:
    return format_sse_event(
        data_str=json.dumps({"task": task, "step": step, "state": state, "time": when}), event="step"
    )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
