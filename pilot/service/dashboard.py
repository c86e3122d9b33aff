"""The dashboard of the manager's session, at the service's `/`, for administrators."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials
from starlette.responses import PlainTextResponse

from pilot.errors import PluginError
from pilot.service.access import Access, User, current_user
from pilot.service.problems import Problem

if TYPE_CHECKING:
    from pilot.dashboard.web import Application, Receive, Scope, Send
    from pilot.manager.manager import PilotManager

HELP = "The address of the dashboard is /?token=TOKEN, with the token of an administrator.\n"


def is_wanted(setting: bool | None) -> bool:
    """Whether the service has a dashboard. None: where it is installed.

    Raises:
        PluginError: it is wanted, and not installed.
    """
    is_installed = find_spec("nicegui") is not None
    if setting and not is_installed:
        message = "[server] dashboard: nicegui is not installed: pip install 'quantum-pilot[dashboard]'"
        raise PluginError(message, group="pilot", name="dashboard")
    return is_installed if setting is None else setting


class DashboardAtRoot:
    """Middleware: answers requests for `/` and for what its page loads; all others go to the application.

    It shows the tasks of all users, so it needs the token of an administrator: in the header ``Authorization``, or as
    ``/?token=…``, since a browser sends no such header. The session is looked at from the first such request on, so a
    service whose dashboard nobody opens has no cost of it.
    """

    def __init__(self, app: Application, manager: PilotManager) -> None:
        from pilot.dashboard.web import MAY_SEE, application, find_application, is_asset

        self._app, self._manager = app, manager
        self._is_asset, self._application, self._may_see = is_asset, application, MAY_SEE
        self._assets = find_application(lambda token: None)
        self._page: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer: Application = self._app
        if scope["type"] in ("http", "websocket"):
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if self._is_asset(path):
                answer = self._assets
            elif path == "/" and scope["type"] == "http" and scope["method"] == "GET":
                user = await _administrator(Request(scope))
                if isinstance(user, User):
                    access: Access = scope["app"].state.service.access
                    scope = {**scope, self._may_see: partial(access.is_good, user)}
                    answer = await run_in_threadpool(self._opened)
                else:
                    answer = user
        await answer(scope, receive, send)

    def _opened(self) -> Application:
        if self._page is None:
            from pilot.dashboard.live import LiveSource

            self._page = self._application(LiveSource(self._manager))
        return self._page


async def _administrator(request: Request) -> User | PlainTextResponse:
    """The administrator who asks, or the answer to somebody who may not see it."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token if scheme.lower() == "bearer" else request.query_params.get("token", "")
    given = HTTPAuthorizationCredentials(scheme="Bearer", credentials=token) if token else None
    try:
        user: User = await current_user(request, given)
    except Problem as problem:
        return PlainTextResponse(f"{problem}\n{HELP}", problem.status, problem.headers)
    return user if user.is_admin else PlainTextResponse(HELP, 403)
