"""`pilot doctor --site`: each launcher says what of a description does not fit; Slurm's with a simulated Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pilot_plugins.launchers.slurm.launcher import SlurmLauncher

from pilot.descriptions import PilotDescription
from pilot.errors import PilotError

ANSWERS = {
    "sinfo": "cpu*|4|8+|16000|1-00:00:00|a100,hbm|(null)\ncpu*|2|4|8000|1-00:00:00|plain|(null)\n"
    "gpu|1|16|64000|infinite|h200|gpu:h200:2(S:0)\n"
    "mixed|1|16|64000|infinite|mig=on|gpu:A100-SXM:2(S:0-1),gpu:1g.5gb:7(S:0,1),scratch:1T\n",
    "scontrol": "LicenseName=qpu_ibm Total=2 Used=0 Free=2 Remote=no\n",
    "sacctmgr": "m1234\nm5678\n",
    "sbatch": "Usage: sbatch ...\n  -A, --account=name\n      --nice[=value]\n",
}


def slurm(command: Sequence[str], input: str) -> tuple[int, str, str]:
    return 0, ANSWERS[command[0]], ""


@pytest.mark.parametrize(
    ("fields", "misfits"),
    [
        ({}, []),
        ({"number_of_nodes": 6, "cores_per_node": 8, "memory": "16000 MiB", "walltime": 86400}, []),
        ({"number_of_nodes": 7}, [("number_of_nodes", "7", "at most 6")]),
        ({"cores_per_node": 9}, [("cores_per_node", "9", "at most 8")]),
        ({"memory": "16 GiB"}, [("memory", "16384 MiB", "at most 16000 MiB")]),
        ({"walltime": 86401}, [("walltime", "1 day, 0:00:01", "at most 1-00:00:00")]),
        ({"queue": "gpu", "walltime": 10**7}, []),
        ({"queue": "nowhere"}, [("queue", "nowhere", "partitions: cpu, gpu, mixed")]),
        ({"constraint": "a100&hbm"}, []),
        ({"queue": "gpu", "constraint": "hbm"}, [("constraint", "hbm", "features of these nodes: h200")]),
        ({"queue": "gpu", "gpus_per_node": 2}, []),
        ({"gpus_per_node": 1}, [("gpus_per_node", "gpu:1", "generic resources of these nodes: none,none")]),
        (
            {"queue": "gpu", "gres": "gpu:h200:3"},
            [("gres", "gpu:h200:3", "generic resources of these nodes: gpu:h200:2(S:0)")],
        ),
        ({"queue": "gpu", "gres": "gres/gpu=2"}, []),
        ({"queue": "mixed", "gpus_per_node": 9, "gres": "gpu:A100-SXM:2,gpu:1g.5gb:7,scratch:900G"}, []),
        ({"queue": "mixed", "constraint": "[mig=on*1]"}, []),
        ({"project": "m5678"}, []),
        ({"project": "m0"}, [("project", "m0", "accounts that you may use: m1234, m5678")]),
        ({"licenses": "qpu_ibm:2"}, []),
        ({"licenses": "qpu_ibm=2"}, []),
        ({"licenses": "qpu_ibm:all"}, [("licenses", "qpu_ibm:all", "licences: qpu_ibm:2")]),
        ({"licenses": "qpu_ibm:3"}, [("licenses", "qpu_ibm:3", "licences: qpu_ibm:2")]),
        ({"scheduler_script_commands": ["#SBATCH --nice=1"]}, []),
    ],
)
def test_slurm_says_what_does_not_fit(fields: dict[str, Any], misfits: list[tuple[str, str, str]]) -> None:
    launcher = SlurmLauncher(slurm)
    assert launcher.preflight(PilotDescription(resource="slurm://", **fields)) == misfits


def test_slurm_is_asked_about_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    ((field, asked, _),) = SlurmLauncher(slurm).preflight(PilotDescription(resource="slurm://"))
    assert (field, asked) == ("queue", "nowhere")
    assert SlurmLauncher(slurm).preflight(PilotDescription(resource="slurm://", queue="cpu")) == []


def test_an_option_that_is_not_there() -> None:
    description = PilotDescription(resource="slurm://", scheduler_script_commands=["#SBATCH --qpu=a"])
    ((field, asked, there),) = SlurmLauncher(slurm).preflight(description)
    assert (field, asked) == ("scheduler_script_commands", "--qpu")
    assert "no such option" in there


def test_all_partitions_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also hidden ones, which their users may name, and those that SINFO_PARTITION would leave out."""
    (tmp_path / "sinfo").write_text(
        '#!/bin/sh\n[ -z "$SINFO_PARTITION" ] || exit 1\n'
        'echo "cpu*|4|8|16000|infinite|(null)|(null)"\n'
        '[ "$1" != --all ] || echo "own|1|8|16000|infinite|(null)|(null)"\n'
    )
    for name in ("scontrol", "sacctmgr", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    for path in tmp_path.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SINFO_PARTITION", "cpu")
    assert SlurmLauncher().preflight(PilotDescription(resource="slurm://", queue="own")) == []


def test_slurm_is_asked_once() -> None:
    calls: list[str] = []
    launcher = SlurmLauncher(lambda command, input: (calls.append(command[0]), slurm(command, input))[1])
    for _ in range(3):
        launcher.preflight(PilotDescription(resource="slurm://"))
    assert calls == ["sinfo", "scontrol", "sbatch", "sacctmgr"]


def test_a_slurm_that_does_not_answer() -> None:
    launcher = SlurmLauncher(lambda command, input: (1, "", "sinfo: error: Unable to contact slurm controller\n"))
    with pytest.raises(PilotError, match=r"Slurm cannot be asked: .*Unable to contact"):
        launcher.preflight(PilotDescription(resource="slurm://"))


#: The plugin of another package: a launcher that has one queue.
PLUGIN = """
from pilot.errors import PilotError
from pilot.interfaces import Launcher, Misfit, Refusal

class OtherLauncher(Launcher):
    def check(self, description): ...
    def submit(self, job): ...
    def status(self, jobs): ...
    def cancel(self, native_id, mark): ...

    def refusal(self, resource, field):
        return Refusal("none with other://, which has no licences", applies=False) if field == "licenses" else None

    def preflight(self, description):
        if description.queue == "away":
            raise PilotError("its controller does not answer")
        return [] if description.queue == "one" else [Misfit("queue", str(description.queue), "queues: one")]
"""
PROFILE = """
resource = "other://"
[good]
queue = "one"
[wrong]
queue = "two"
[unknown]
queue = "away"
[nowhere]
resource = "missing://"
[refused]
queue = "one"
licenses = "matlab:1"
"""


def test_the_launcher_of_another_package(tmp_path: Path) -> None:
    (tmp_path / "other_site.py").write_text(PLUGIN)
    about = tmp_path / "other_site-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-site\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pilot.launchers]\nother = other_site:OtherLauncher\n")
    (tmp_path / "site.toml").write_text(PROFILE)
    command = [sys.executable, "-m", "pilot.cli", "doctor", "--site", str(tmp_path / "site.toml"), "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    found = [(line["topic"], line["state"], line["what"], line["advice"]) for line in json.loads(done.stdout)]
    assert found[:3] == [
        ("good", "ok", "fits other://, queue one", ""),
        ("wrong", "broken", "queue = two", "queues: one"),
        ("unknown", "broken", "its controller does not answer", "run this on a login node"),
    ]
    assert "'missing'" in found[3][2] and found[3][3] == "correct the resource, or install its plugin"
    said = "PilotDescription.licenses: 'matlab:1' is not valid; expected none with other://, which has no licences"
    assert found[4][:3] == ("refused", "broken", said)
    command = [sys.executable, "-m", "pilot.cli", "doctor", "--fields", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    uses = {line["field"]: line["use"] for line in json.loads(done.stdout) if line["resource"] == "other://"}
    assert (uses["licenses"], uses["queue"]) == ("not applicable", "honoured")
