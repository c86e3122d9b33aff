"""The pages about the service run beside one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import page_blocks
import pytest
from page_blocks import Block

from pilot.service.settings import Settings
from pilot.testing.polling import eventually
from pilot.testing.services import ServiceProcess

STATE = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1];'
BELL = f"{STATE} measure q -> c;"
SETTINGS = """
[[pilots]]
name = "small"
cores_per_node = 2
qpus = ["fake:manila"]
[origin]
chips = { 72 = "fake:manila" }
"""
Ran = Callable[[list[Block]], None]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path_factory.mktemp("service"), SETTINGS) as process:
        yield process


@pytest.fixture
def shell(service: ServiceProcess, tmp_path: Path, ran: Ran) -> Callable[[str], str]:
    """``shell(page)``: what the page's commands print."""

    def run(page: str) -> str:
        blocks = [block for block in page_blocks.blocks(page) if block.language == "sh"]
        environment = {**os.environ, "URL": service.url, "TOKEN": service.token}
        command = ["bash", "-euc", "".join(block.text for block in blocks)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        ran(blocks)
        return done.stdout

    return run


def test_service(service: ServiceProcess, shell: Callable[[str], str], tmp_path: Path, ran: Ran) -> None:
    page = "docs/service.md"
    (table,) = [block for block in page_blocks.blocks(page) if block.language == "toml"]
    settings = Settings.build(tomllib.loads(table.text))
    assert (settings.limits.seconds, settings.server.retention_seconds) == (3600, 30 * 86400)
    printed = shell(page)
    assert '"counts"' in printed
    assert "about:blank" not in printed  # a problem
    assert (tmp_path / "steps.txt").read_text().count('"step": "retired"') == 1
    begin = f"url, token, circuit, measured = {(service.url, service.token, STATE, BELL)!r}"
    code = "\n".join([begin, *(block.text for block in page_blocks.python(page))])
    python = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert python.returncode == 0, python.stderr
    last = json.loads(python.stdout.splitlines()[-1])
    assert last == [pytest.approx([1, 1])] * 3
    ran(page_blocks.python(page))


def test_origin(service: ServiceProcess, shell: Callable[[str], str], tmp_path: Path) -> None:
    def is_known() -> bool:
        body = json.dumps({"token": service.token, "ChipID": 72})
        answer = httpx.post(f"{service.url}/task/realQuantum/chip_config_query", content=body, timeout=60)
        return bool(answer.json()["errCode"] == 0)

    eventually(is_known, 120)  # the chip has reported what it is
    shell("docs/origin-api.md")
    found = json.loads(json.loads((tmp_path / "result.json").read_text())["taskResult"][0])
    weights = dict(zip(found["key"], found["value"], strict=True))
    assert weights["00"] + weights["11"] > 0.85
