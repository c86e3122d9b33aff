"""Which GPUs of its node a pilot may use, and their names."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Mapping

from pilot.resources import Node
from pilot.worker import gpus

log = logging.getLogger(__name__)

#: Seconds that nvidia-smi has to answer; it takes some where the driver is not kept loaded.
SMI_SECONDS = 20.0


def gpu_facts(count: int, environment: Mapping[str, str] = os.environ) -> tuple[list[str], tuple[str, ...]]:
    """The names of the GPUs that a process with this environment may use, ``count`` at most; and the variables that
    hold such names (`gpus.assigned`). Blocks while nvidia-smi is asked, unless ``count`` is 0.

    ``CUDA_VISIBLE_DEVICES``, which resource managers set for a job with GPUs, or AMD's variable lists them; where none
    is set, nvidia-smi does. They have their uuids as names where nvidia-smi knows these. Where neither knows any, there
    are none.
    """
    if not count:
        return [], (gpus.CUDA,)
    uuids = _uuids()
    variables = gpus.chosen(environment, bool(uuids))
    names = gpus.visible(environment, variables[0])
    if names is None:
        names = list(uuids)
    return list(dict.fromkeys(uuids.get(name, name) for name in names))[:count], variables


def lacks_gpus(node: Node, asked: int) -> str | None:
    """Which GPUs the node lacks, as a text; None when it has all that the pilot's description asks for."""
    if len(node.gpus) >= asked:
        return None
    listed = f" ({', '.join(node.gpus)})" if node.gpus else ""
    return (
        f"node {node.name} has {len(node.gpus)} GPUs{listed} that the pilot may use, but gpus_per_node={asked}; "
        f"they are those in {node.gpu_variables[0]}, or else those that nvidia-smi lists"
    )


def _uuids() -> dict[str, str]:
    """GPU index → uuid (nvidia-smi(1), ``--query-gpu``); blocks for `SMI_SECONDS` at most."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    answer = ""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            answer = process.communicate(timeout=SMI_SECONDS)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs may hold it for ever
                process.wait(1.0)
            assert process.stdout is not None
            process.stdout.close()
            log.warning("nvidia-smi did not answer for %.0f s: GPUs are named by their numbers", SMI_SECONDS)
    except OSError as error:
        log.info("no uuids of GPUs: %s", error)
    lines = (line.partition(",") for line in answer.splitlines())
    return {index.strip(): uuid.strip() for index, _, uuid in lines if index.strip().isdecimal() and uuid.strip()}
