"""The route that single tasks come by, without the framework's dependencies: these take two thirds of its time.

What it takes and refuses is the same, and so is its description.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, TypeAdapter, ValidationError

from pilot.service.access import Access, User, current_user
from pilot.service.problems import Problem

_B = TypeVar("_B", bound=BaseModel)

#: What a key looks like.
KEY = "^[!-~]{1,255}$"
ABOUT_KEY = "What you call this submission. The same key and body again get the same tasks."
_MATCHES_KEY = re.compile(KEY).fullmatch


async def user_and_key(request: Request) -> tuple[User, str | None]:
    """Who asks, and what they call the submission.

    Raises:
        Problem: 401: there is no good token; 422: this is no key.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    access: Access = request.app.state.service.access
    user = access.trusted(token) if scheme.lower() == "bearer" else None
    if user is None:
        is_bearer = scheme.lower() == "bearer" and token
        given = HTTPAuthorizationCredentials(scheme=scheme, credentials=token) if is_bearer else None
        user = await current_user(request, given)
    key = request.headers.get("idempotency-key")
    if key is not None and _MATCHES_KEY(key) is None:
        detail = f"Idempotency-Key: 1 to 255 printable ASCII characters are expected ({KEY})"
        raise Problem(422, detail, field="Idempotency-Key", given=key)
    return user, key


async def body(request: Request, adapter: TypeAdapter[_B]) -> _B:
    """What is in the request.

    Raises:
        Problem: 415: it is not sent as JSON.
        RequestValidationError: it is not JSON, or a value is not valid.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise Problem(415, f"Content-Type: {kind[:100] or 'none'} given; application/json is expected")
    try:
        return adapter.validate_json(await request.body())
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise RequestValidationError(found) from None


def description(model: type[BaseModel]) -> dict[str, Any]:
    """For the OpenAPI description: the body, the key and the token."""
    schema = {"schema": model.model_json_schema(ref_template="#/components/schemas/{model}")}
    key = {"type": "string", "pattern": KEY}
    return {
        "requestBody": {"required": True, "content": {"application/json": schema}},
        "parameters": [{"name": "Idempotency-Key", "in": "header", "description": ABOUT_KEY, "schema": key}],
        "security": [{"HTTPBearer": []}],
    }
