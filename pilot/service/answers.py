"""Answers about problems: application/problem+json (RFC 9457)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pilot.errors import did_you_mean
from pilot.service.models import BatchBody, EstimateBody, ProblemBody, SessionBody, TaskBody
from pilot.service.problems import STORE_ERRORS, Problem, store_away

PROBLEM, _PLAIN = "application/problem+json", "application/json"
#: Of a value that stands in a message: so many characters at most.
SHOWN = 100
#: In the place of an error: which of several types it is about.
_BRANCH = re.compile(r"bool|int|float|str|constrained-\w+|(?:list|dict|union|function-\w+)\[.*\]")
#: Fields of all bodies.
_FIELDS = sorted({name for kind in (TaskBody, BatchBody, EstimateBody, SessionBody) for name in kind.model_fields})


def body(status: int, detail: str, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """What an answer about a problem has."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return content | ({"errors": errors} if errors else {})


def response(status: int, detail: str, errors: list[dict[str, str]] | None = None, **headers: str) -> JSONResponse:
    """The answer about a problem."""
    return JSONResponse(
        body(status, detail, errors),
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        PROBLEM,
    )


def install(app: FastAPI) -> None:
    """Have the application answer so."""

    async def problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        field = error.data.get("field")
        errors = None
        if field is not None:
            errors = [{"field": str(field), "message": str(error)}]
            if "given" in error.data:
                errors[0]["given"] = shown(error.data["given"])
        return response(error.status, str(error), errors, **error.headers)

    async def away(request: Request, error: Exception) -> JSONResponse:
        return await problem(request, store_away(error))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = _merged([_described(one) for one in error.errors()])
        first = errors[0]
        return response(422, f"{first['field']}: {first['message']}", errors)

    async def plain(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"there is no {request.method} {request.url.path}"
        return response(error.status_code, detail, None, **dict(error.headers or {}))

    async def gone(request: Request, error: Exception) -> JSONResponse:
        return response(400, "the connection ended within the body")  # which nobody reads

    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Problem, problem)
    for kind in STORE_ERRORS:
        app.add_exception_handler(kind, away)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)


def shown(given: object) -> str:
    """A value, shortened, as messages have it."""
    text = repr(given)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _described(error: Any) -> dict[str, str]:
    """One error of the types of the request: the field as a path, what is expected, and what was given."""
    place = [str(part) for part in error["loc"] if _BRANCH.fullmatch(str(part)) is None]
    if len(place) > 1 and place[0] in ("body", "query", "path", "header", "cookie"):
        place = place[1:]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":  # Pydantic says less
        message = f"there is no such field{did_you_mean(place[-1], _FIELDS)}"
    return {
        "field": ".".join(place),
        "message": message,
        "given": shown(error.get("input")),
    }


def _merged(errors: list[dict[str, str]]) -> list[dict[str, str]]:
    """Of a field that may have one of several types, one error with what each of them expects."""
    found: dict[str, dict[str, str]] = {}
    for one in errors:
        before = found.setdefault(one["field"], one)
        if before is not one and one["message"] not in before["message"]:
            before["message"] += f"; or: {one['message']}"
    return list(found.values())


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI description: the problems that a route may answer with."""
    return {status: {"description": _MEANINGS[status], "model": ProblemBody} for status in statuses}


def with_problems(openapi: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI description in which problems have their own type, not that of other answers."""
    for methods in openapi["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                if status >= "400" and _PLAIN in content:
                    content[PROBLEM] = content.pop(_PLAIN)
    return openapi


_MEANINGS = {
    400: "The request cannot be read.",
    401: "There is no token, or it is not good.",
    403: "This user may not do that.",
    404: "There is no such thing, or it is another user's.",
    409: "The task has no result, or not yet.",
    413: "The body, or a program in it, is too large.",
    415: "The body is not JSON.",
    422: "A value is not valid; the answer names it.",
    429: "Too many requests, or tasks.",
    503: "The service is starting or going to end, or cannot write.",
}
