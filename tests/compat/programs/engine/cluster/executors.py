"""Executors in the style of the mini-apps: one pilot, or several pilots of one service."""

from __future__ import annotations

from typing import Any

import dask.bag

from pilot.pilot_compute_service import PilotComputeService
from pilot.pilot_enums_exceptions import ExecutionEngine


class OnePilot:
    def __init__(self, cluster_config: dict[str, Any]) -> None:
        self.cluster_config = cluster_config
        self.type = cluster_config["config"]["type"]
        config = cluster_config["config"]
        service = PilotComputeService(ExecutionEngine(self.type), config["working_directory"])
        self.pilot = service.create_pilot(pilot_compute_description=config)
        self.pilot.wait()
        self.client = self.pilot.get_client()

    def submit_task(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self.pilot.submit_task(function, *args, **kwargs)

    def submit_tasks(self, function: Any, entries: Any, *args: Any, **kwargs: Any) -> Any:
        if self.type == "dask":
            bag = dask.bag.from_sequence(entries)
            return bag.map(lambda entry: self.pilot.submit_task(function, entry, *args, **kwargs))
        return [self.pilot.submit_task(function, entry, *args, **kwargs) for entry in entries]

    def wait(self, futures: Any) -> None:
        self.pilot.wait_tasks(futures)

    def get_results(self, futures: Any) -> Any:
        return self.pilot.get_results(futures)

    def close(self) -> None:
        if self.type == "dask":
            self.client.close()
        else:
            import ray

            ray.shutdown()
        self.pilot.cancel()


class ManyPilots:
    def __init__(self, cluster_config: dict[str, Any]) -> None:
        self.type = cluster_config["type"]
        self.pcs = PilotComputeService(
            execution_engine=ExecutionEngine(self.type), working_directory=cluster_config["working_directory"]
        )
        for name, description in cluster_config["config"].items():
            description["name"] = name
            self.pcs.create_pilot(pilot_compute_description=description)
        self.pilots = self.pcs.get_pilots()

    def submit_task(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self.pcs.submit_task(function, *args, **kwargs)

    def submit_tasks(self, function: Any, entries: Any, *args: Any, **kwargs: Any) -> Any:
        return [self.submit_task(function, entry, *args, **kwargs) for entry in entries]

    def wait(self, futures: Any) -> None:
        self.pcs.wait_tasks(futures)

    def get_results(self, futures: Any) -> Any:
        return self.pcs.get_results(futures)

    def close(self) -> None:
        self.pcs.cancel()
