"""The engines' clients as Pilot-Quantum's programs use them."""

from __future__ import annotations

from types import ModuleType, TracebackType
from typing import Any


class RayContext:
    """The module ``ray``, connected to a pilot's cluster, in the place of the context of a Ray client.

    A ``with`` block may be entered any number of times, and leaves the process connected; `disconnect` ends that. All
    other names are the module's: ``context.get(reference)`` is ``ray.get(reference)``.
    """

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray

    def __enter__(self) -> RayContext:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stay connected."""

    def disconnect(self) -> None:
        """Disconnect this process from the cluster."""
        self._ray.shutdown()

    @property
    def address_info(self) -> dict[str, str]:
        """The address of the cluster, as the context of `ray.init` has it."""
        address = str(self._ray.get_runtime_context().gcs_address)
        return {"address": address, "gcs_address": address}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ray, name)


def client_of(client: Any) -> Any:
    """The client of a pilot's engine, as programs of Pilot-Quantum use it."""
    return RayContext(client) if isinstance(client, ModuleType) else client
