"""The native clients that the user's process has of a pilot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pilot import registry
from pilot.descriptions import PilotDescription
from pilot.errors import PilotError, SessionError
from pilot.interfaces import Engine
from pilot.manager.clients import Clients
from pilot.manager.pilots import Pilot, change_pilot, close_clients, update_pilot
from pilot.states import PilotState

Eventually = Callable[..., Any]
said: list[tuple[str, str]] = []


class Cluster(Engine):
    """Writes down who is connected; a client is the address."""

    @classmethod
    def connect(cls, client: Mapping[str, str]) -> Any:
        said.append(("connected", client["address"]))
        return client["address"]

    @classmethod
    def disconnect(cls, client: Mapping[str, str], connected: Any) -> None:
        assert connected == client["address"]
        said.append(("disconnected", connected))
        if connected == "gone":
            raise OSError("no such cluster")


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    said.clear()


def test_clients_are_closed_once_the_last_one_first() -> None:
    clients = Clients()
    for address in ("a", "gone", "b"):
        clients.open(Cluster, {"address": address}, lambda: None)
    clients.close()
    clients.close()
    assert said[3:] == [("disconnected", "b"), ("disconnected", "gone"), ("disconnected", "a")]


@pytest.mark.parametrize("state", [PilotState.QUEUED, PilotState.FAILED, PilotState.DONE, PilotState.CANCELLED])
def test_clients_are_closed_when_the_cluster_ends(state: PilotState, tmp_path: Path, eventually: Eventually) -> None:
    pilot = Pilot(None, "pilot-1", PilotDescription(cores_per_node=1), tmp_path)  # type: ignore[arg-type]
    change_pilot(pilot, PilotState.ACTIVE, "")
    pilot._clients.open(Cluster, {"address": "a"}, lambda: None)
    change_pilot(pilot, PilotState.DRAINING, "")
    assert said == [("connected", "a")]
    change_pilot(pilot, state, "")
    eventually(lambda: said[1:] == [("disconnected", "a")], 60)


class Slow(Cluster):
    """The pilot, or its manager, ends while a client connects."""

    end: Callable[[], None]

    @classmethod
    def connect(cls, client: Mapping[str, str]) -> Any:
        cls.end()
        return super().connect(client)


@pytest.mark.parametrize("what", ["pilot", "manager"])
def test_no_client_is_left_that_connected_while_its_cluster_ended(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper: Any = Mock()
    pilot = Pilot(keeper, "pilot-1", PilotDescription(cores_per_node=1), tmp_path)
    change_pilot(pilot, PilotState.ACTIVE, "")
    update_pilot(pilot, {"address": "a"}, (), ())

    def end() -> None:
        if what == "pilot":
            change_pilot(pilot, PilotState.CANCELLED, "")
        else:
            keeper.check_open.side_effect = SessionError("the manager is closed")
            close_clients(pilot)

    monkeypatch.setattr(Slow, "end", end, raising=False)
    monkeypatch.setattr(registry, "load", lambda group, name: Slow)
    with pytest.raises(PilotError, match=r"has no client any more|manager is closed"):
        pilot.get_client()
    assert said == [("connected", "a"), ("disconnected", "a")]
