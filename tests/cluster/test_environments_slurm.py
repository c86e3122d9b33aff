"""The example of environments runs as it stands on a real Slurm: modules, a virtual environment, conda, a container;
and pilots that are asked for together are one job array.

Modules are those of the host (Environment Modules or Lmod), the container is Charliecloud's, and the image is a folder
that sees this host's programs. conda itself cannot be installed here: its hook is written as conda writes it.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pilot_plugins.launchers.preparation import has_modules

from pilot import PilotDescription, PilotFailed, PilotManager, PilotState
from pilot.sites import SITES
from pilot.testing import polling
from pilot.wire.addresses import hosts, interfaces, split
from pilot.wire.session import AgentAddress, agent_path

SLURM = Path(__file__).parents[2] / "slurm"
#: A container's folders that Charliecloud fills.
IMAGE = ("etc", "dev", "proc", "sys", "tmp", "run", "mnt", "var")
#: The host's folders that hold programs and packages, wherever Python and this checkout are: a container mounts them.
MOUNTED = {"usr", "root", "home"} | {
    Path(path).resolve().parts[1] for path in (*sys.path, sys.prefix, sys.base_prefix, SLURM) if Path(path).is_dir()
} - {"tmp"}


CONDA = """#!/bin/sh
[ "$*" = "shell.bash hook" ] || exit 9
cat <<'HOOK'
conda() {{
    [ "$*" = "activate quantum" ] || {{ echo "EnvironmentNameNotFound: $2" >&2; return 1; }}
    export CONDA_DEFAULT_ENV=quantum PATH="{folder}/bin:$PATH"
}}
HOOK
"""


Found = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def folder(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has a virtual environment "own" that sees the packages of this one, an image, and a stand-in for conda."""
    folder = tmp_path_factory.mktemp("environments")
    venv.create(folder / "own", symlinks=True, with_pip=False)
    (packages,) = (folder / "own").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text("\n".join([*site.getsitepackages(), *filter(os.path.isdir, sys.path)]))
    for name in {*IMAGE, *MOUNTED}:
        (folder / "image" / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (folder / "image" / name).symlink_to(f"usr/{name}")
    for name in ("hosts", "resolv.conf", "passwd", "group"):
        (folder / "image/etc" / name).touch()
    (folder / "bin").mkdir()
    (folder / "bin/conda").write_text(CONDA.format(folder=folder / "own"))
    (folder / "bin/conda").chmod(0o755)
    shutil.copytree(SLURM / "modulefiles", folder / "modulefiles")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    """What slurm/environments.py prints of each table of its profile that can be tried here."""
    binds = [f"--bind=/{name}" for name in sorted(MOUNTED) if Path("/", name).is_dir()]
    text = (SLURM / "sites/environments.toml").read_text()
    for there, here in (
        ("$HOME/envs/quantum", str(folder / "own")),
        ('"--bind=$HOME", "$HOME/images/quantum"', str([*binds, str(folder / "image")])[1:-1].replace("'", '"')),
        ("/opt/quantum", str(folder / "own")),
    ):
        assert there in text
        text = text.replace(there, here)
    (folder / "site.toml").write_text(text)
    there = {"modules": has_modules(), "venv": True, "conda": True, "charliecloud": bool(shutil.which("ch-run"))}
    tables = [table for table, is_there in there.items() if is_there]
    variables = {
        "QUANTUM_PILOT_SESSIONS": str(folder / "sessions"),
        "MODULEPATH": str(folder / "modulefiles"),
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "USER": "root",
    }
    environment = {name: value for name, value in os.environ.items() if name != "CONDA_EXE"} | variables
    command = [sys.executable, SLURM / "environments.py", "site.toml", *tables]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if " python=" in line]
    return {table: dict(word.split("=", 1) for word in words) for table, *words in lines}


def test_an_environment(found: Found, folder: Path) -> None:
    assert found["venv"]["python"] == f"{folder}/own/bin/python"


def test_a_module(found: Found, left_out: Any) -> None:
    """The administrators' module file, loaded in the job; the agent's Python stays the manager's."""
    if "modules" not in found:
        left_out("modules", "no shell here has a command `module`")
    assert found["modules"]["LOADEDMODULES"] == "quantum-pilot/0.1"
    assert found["modules"]["python"] == sys.executable
    assert found["modules"]["SLURM_JOB_ID"] and found["venv"]["LOADEDMODULES"] == ""


def test_conda(found: Found, folder: Path) -> None:
    conda = found["conda"]
    assert (conda["python"], conda["CONDA_DEFAULT_ENV"]) == (f"{folder}/own/bin/python", "quantum")


def test_a_container(found: Found, folder: Path, left_out: Any) -> None:
    if "charliecloud" not in found:
        left_out("containers", "ch-run (Charliecloud) was not found")
    assert found["charliecloud"]["python"] == f"{folder}/own/bin/python"
    roots = {table: int(one["root"]) for table, one in found.items()}
    assert roots["charliecloud"] == (folder / "image").stat().st_ino
    assert roots["venv"] == Path("/").stat().st_ino != roots["charliecloud"]


SITE = """
resource = "slurm://"
walltime = "0:10:00"
scratch = "/tmp"
limits = { number_of_nodes = 2 }
[array]
cores_per_node = 2
[network]
partition = "all"
cores_per_node = 1
number_of_nodes = 2
interface = "INTERFACE"
"""


@pytest.fixture
def private_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile of this Slurm."""
    (tmp_path / "private.toml").write_text(SITE.replace("INTERFACE", next(iter(interfaces()), "none")))
    monkeypatch.setenv(SITES, str(tmp_path))


@pytest.mark.usefixtures("idle_cluster", "private_site")
def test_pilots_that_are_asked_for_together_are_one_array(
    cluster: Any, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    """Each is an element that ends by itself. They are of a site that has a profile."""
    with PilotManager(tmp_path / "session") as manager:
        pilots = [manager.submit_pilot({"site": "private:array"}) for _ in range(4)]
        assert [pilot.wait(90) for pilot in pilots] == [PilotState.ACTIVE] * 4

        def elements() -> list[str]:
            return sorted(cluster.run("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i").stdout.split())

        before = elements()
        assert len(before) == 4
        # one job each would be 4; the first may have been on its way before the others were asked for
        assert len({element.split("_")[0] for element in before}) <= 2, before
        pilots[1].cancel()
        eventually(lambda: len(elements()) == 3, complaint=elements)
        assert set(elements()) < set(before)
        assert manager.submit_task({"function": os.getpid, "pilot": pilots[3].id}).result(60)
        assert [pilot.state for pilot in pilots] == [PilotState.ACTIVE, PilotState.CANCELLED, *[PilotState.ACTIVE] * 2]


@pytest.mark.usefixtures("idle_cluster", "private_site")
def test_nodes_reach_each_other_over_the_interface_of_the_site(tmp_path: Path) -> None:
    if not interfaces():
        pytest.skip("this host has no network interface but loopback")
    with PilotManager(tmp_path / "session") as manager:
        good = manager.submit_pilot(PilotDescription(site="private:network"))
        bad = manager.submit_pilot(PilotDescription(site="private:network", interface="ib7", restarts=0))
        meeting = [manager.submit_task({"function": meet, "args": [tmp_path], "pilot": good.id}) for _ in range(2)]
        assert len({task.result(90) for task in meeting}) == 2
        told = msgspec.json.decode(agent_path(tmp_path / "session/pilots" / good.id).read_bytes(), type=AgentAddress)
        assert split(told.connection.addresses[0])[0] == hosts(interfaces()[0])[0]
        with pytest.raises(
            PilotFailed, match=rf"its network interface ib7 is not on .*, which has .*{interfaces()[0]}"
        ):
            bad.wait(90)


def meet(folder: Path) -> str:
    """The name of the node, when the other task has begun, too: so there are two."""
    own = os.environ["SLURMD_NODENAME"]
    (folder / f"{own}-{os.getpid()}.here").touch()
    polling.eventually(lambda: len(list(folder.glob("*.here"))) == 2, timeout=80)
    return own
