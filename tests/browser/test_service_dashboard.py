"""The dashboard at the address of a service, in a real browser."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pilot.service.access import Access
from pilot.service.client import ServiceClient
from pilot.service.store import Store
from pilot.testing.services import ServiceProcess

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'


@pytest.mark.timeout(300)
def test_an_administrator_sees_the_tasks_of_users(browser: Any, tmp_path: Path) -> None:
    with ServiceProcess(tmp_path, '[[pilots]]\nname = "small"\ncores_per_node = 1\n') as service:
        alice = ServiceClient(service.url, service.new_token("alice"))
        alice.submit_task({"program": BELL, "shots": 10, "qpu": "aer", "name": "first"}).result(120)
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{service.url}/?token={service.token}")
        page.get_by_text("first").first.wait_for(timeout=120_000)
        alice.submit_task({"program": BELL, "shots": 11, "qpu": "aer", "name": "second"}).result(120)
        page.get_by_text("second").first.wait_for(timeout=120_000)  # pushed: the page is not loaded again
        token = service.new_token("boss", is_admin=True)
        other = browser.new_page()
        other.goto(f"{service.url}/?token={token}")
        other.get_by_text("first").first.wait_for(timeout=120_000)
        with closing(Store(service.store)) as store:
            Access(store).revoke(token.split("_")[1])
        other.get_by_text("not shown any more").wait_for(timeout=60_000)
        assert other.get_by_text("first").count() == 0
        assert page.get_by_text("first").count() and not problems  # that of another token goes on
        page.close()
        other.close()
        alice.close()
