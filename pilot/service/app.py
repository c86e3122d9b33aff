"""`create_app`: the application, with the routes of all interfaces. ``pilot serve`` gives it to uvicorn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from pilot.service import answers, health, site_routes, task_routes
from pilot.service.access import CurrentUser
from pilot.service.dashboard import DashboardAtRoot, is_wanted
from pilot.service.limiting import BodyLimit
from pilot.service.origin import cloud, machine
from pilot.service.origin.gateway import Gateway
from pilot.service.service import Service
from pilot.service.settings import Settings
from pilot.service.store import Store
from pilot.version import __version__

if TYPE_CHECKING:
    from pilot.manager.manager import PilotManager

ABOUT = """Circuits and functions for the pilots of this service. All tasks run as the account of the service.

Every route needs a token, in the header `Authorization: Bearer TOKEN`, but for `/health`."""


def create_app(settings: Settings, manager: PilotManager, store: Store) -> FastAPI:
    """The application. While it is served it takes tasks to the manager; it closes neither the manager nor the store.

    Args:
        settings: of the service.
        manager: with the pilots of the service.
        store: where tasks and results are kept.
    """
    service = Service(settings, manager, store)
    has_dashboard = is_wanted(settings.server.dashboard)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        async with AsyncExitStack() as stack:
            if has_dashboard:
                from pilot.dashboard.web import running

                await stack.enter_async_context(running())
            yield
        if settings.origin.enabled:
            app.state.origin.close()

    app = FastAPI(
        title="quantum-pilot",
        version=__version__,
        description=ABOUT,
        lifespan=lifespan,
        root_path=settings.server.root_path,
        openapi_url=None,  # below, with a token
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        redirect_slashes=False,  # behind a proxy it leads to another host, without its path, and without TLS
    )
    app.state.service = service
    answers.install(app)
    app.add_middleware(BodyLimit, most=settings.limits.body_bytes)
    if has_dashboard:
        app.add_middleware(DashboardAtRoot, manager=manager)
    app.include_router(task_routes.router)  # first: where most requests go
    app.include_router(health.router)
    app.include_router(site_routes.router)
    if settings.origin.enabled:
        app.state.origin = Gateway(service)
        app.include_router(machine.router)
        app.include_router(cloud.router)

    @app.get("/v1/openapi.json", include_in_schema=False)
    def openapi(user: CurrentUser) -> JSONResponse:
        return JSONResponse(answers.with_problems(app.openapi()))

    return app
