"""`/health`, which needs no token, and `/metrics`, for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from pilot.service.access import CurrentUser
from pilot.service.models import Health, ProblemBody
from pilot.service.service import Service
from pilot.version import __version__

router = APIRouter(tags=["service"])


@router.get("/health")
async def health(request: Request) -> Health:
    """Answers as soon as the service listens, also before its pilots are there."""
    service: Service = request.app.state.service
    active = service.active_pilots
    status: Literal["starting", "ok", "draining"] = (
        "draining" if service.is_draining else "ok" if active else "starting"
    )
    return Health(status=status, version=__version__, active_pilots=active)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        401: {"description": "There is no token, or it is not good.", "model": ProblemBody},
    },
)
def metrics(request: Request, user: CurrentUser) -> Response:
    """Figures of the whole service, in Prometheus's text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(request.app.state.service))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Figures:
    """Reads the figures when they are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Prometheus's collector."""
        service = self._service
        tasks = GaugeMetricFamily("pilot_service_tasks", "Tasks in the store, by state.", labels=["state"])
        for state, count in service.store.counts().items():
            tasks.add_metric([state], count)
        yield tasks
        coordinator = service.coordinator
        yield GaugeMetricFamily(
            "pilot_service_coordinated", "Tasks that the coordinator has.", value=len(coordinator.active)
        )
        yield CounterMetricFamily(
            "pilot_service_cache_lookups", "Deterministic tasks that were looked up.", value=coordinator.looked_up
        )
        yield CounterMetricFamily(
            "pilot_service_cache_hits", "Results that were taken from equal tasks.", value=coordinator.reused
        )
        pilots = GaugeMetricFamily("pilot_service_pilots", "Pilots, by state.", labels=["state"])
        for state, count in Counter(pilot.state.value for pilot in service.manager.pilots).items():
            pilots.add_metric([state], count)
        yield pilots
        waits = GaugeMetricFamily("pilot_service_qpu_wait_seconds", "What a QPU says of its queue.", labels=["qpu"])
        for name, info in service.manager.qpus.items():
            if info.expected_wait is not None:
                waits.add_metric([name], info.expected_wait)
        yield waits
