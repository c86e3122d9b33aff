"""What each launcher does with each field of a pilot's description: the table of ``pilot doctor --fields`` is true."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilot_plugins.launchers import local as local_launcher
from pilot_plugins.launchers.local import LocalLauncher
from pilot_plugins.launchers.slurm.script import script as slurm_script
from pilot_plugins.launchers.ssh import scripts as ssh_scripts

from pilot import PilotDescription, PilotManager
from pilot.cli import main as cli
from pilot.cli.fields import HONOURED, REFUSED, SIGNS, cell, fields, resources
from pilot.errors import DescriptionError, PilotFailed
from pilot.interfaces import Job, JobState, Launcher
from pilot.manager.jobs import PlaceholderJobs
from pilot.registry import devices
from pilot.scheduling.fitting import described
from pilot.testing.world import World
from pilot.wire.session import SessionFolder

pytestmark = pytest.mark.skipif(importlib.util.find_spec("psij") is None, reason="psij-python is not installed")

MakeJob = Callable[..., Job]
#: Executors of PSI/J's whose packages are not here: what they would submit is PSI/J's own description of the job.
NOT_HERE = ("flux", "rp")
#: What has to be given as well.
WITH = {"renewals": {"walltime": 700}, "drain": {"walltime": 700}}


@pytest.fixture
def job_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[PilotDescription], tuple[Launcher, Job, str]]:
    """A description's launcher, its job, and the settings of its agent, as a manager makes them."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    for program in ("srun", "sbatch", "ssh"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("pilot.manager.jobs.new_mark", lambda: "0" * 32)
    folder = SessionFolder(tmp_path / "session")
    jobs = PlaceholderJobs(folder)

    def make(wanted: PilotDescription) -> tuple[Launcher, Job, str]:
        launcher = jobs.launcher(wanted)
        launcher.check_fields(wanted)
        launcher.check(wanted)
        job, _ = jobs.describe("pilot-1", wanted)
        return launcher, job, (job.folder / "agent.json").read_text()

    return make


def submitted(launcher: Launcher, job: Job, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the launcher hands over for a job, as a text."""
    scheme, _, rest = job.description.resource.partition("://")
    if scheme == "slurm":
        text = slurm_script([job])
    elif scheme == "ssh":
        text = ssh_scripts.start(job, None)
    elif scheme == "psij":
        text = of_psij(job, rest)
    else:
        calls: list[Any] = []
        with monkeypatch.context() as patch:
            patch.setattr(local_launcher, "start_apart", lambda *args: calls.append(args[:2]) or Process())
            launcher.submit(job)
        ((command, variables),) = calls
        text = f"{command} {sorted(set(variables.items()) - set(os.environ.items()))}"
    return text


class Process:
    pid = os.getpid()

    def poll(self) -> int:
        return 0


def of_psij(job: Job, executor: str) -> str:
    from pilot_plugins.launchers.psij import executors
    from pilot_plugins.launchers.psij import job as psij_job
    from pilot_plugins.launchers.psij.executors import psij

    text = io.StringIO(psij_job.script(job, executor))
    text.seek(0, io.SEEK_END)
    one = psij.Job(psij_job.spec(job, executor, job.folder / "job.sh"))
    assert one.spec is not None and one.spec.attributes is not None
    if executor in NOT_HERE or executor == "local":
        resources = vars(one.spec.resources)
        text.write(f"{resources} {one.spec.attributes.duration}")
    else:
        made: Any = executors.make(executor, job.folder)
        one.executor = made
        if executor == "slurm":
            made.lines[one.id] = psij_job.directives(job.description, executor)
            text.write(psij_job.job_name(job))
        made.generate_submit_script(one, made._create_script_context(one), text)
    return text.getvalue().replace(one.id, "ID")


def decided(wanted: PilotDescription) -> str:
    """What the manager makes of a description, whatever the launcher: which tasks may run there, whether it asks for a
    successor, and whether the pilot starts again."""
    names = (wanted.name,) if wanted.name else ()
    capacity = described(wanted, wanted.memory or 0, names, wanted.name or "", devices(wanted))  # type: ignore[arg-type]
    world = World()
    fields = {"renewals": wanted.renewals, "restarts": wanted.restarts, "walltime": wanted.seconds}
    world.pilot(**{name: value for name, value in fields.items() if value is not None})
    world.tick(699.0 if wanted.seconds else 0.0)
    asked = len(world.asked)
    world = World()
    world.pilot(restarts=wanted.restarts)
    world.end()
    return f"{capacity} {asked} {world.pilot_state()}"


def attributes_for(resource: str) -> dict[str, str]:
    """PSI/J's attributes for this executor."""
    executor = resource.partition("://")[2] or "slurm"
    return {f"{executor.partition('_')[0]}.option": "value"}


#: For each field a value that is not its default.
SAMPLES: dict[str, Any] = {
    "engine": "dask",
    "name": "special",
    "number_of_nodes": 3,
    "cores_per_node": 5,
    "gpus_per_node": 1,
    "memory": "3 GiB",
    "walltime": 700,
    "drain": 7,
    "renewals": 1,
    "queue": "fast",
    "qos": "high",
    "project": "m1234",
    "reservation": "mine",
    "constraint": "skylake",
    "gres": "fpga:3",
    "licenses": "matlab:2",
    "exclusive": True,
    "modules": ["cuda/12"],
    "venv": "/some/venv",
    "conda_environment": "quantum",
    "container": ["apptainer", "exec", "image.sif"],
    "scheduler_script_commands": ["echo prepared"],
    "custom_attributes": attributes_for,
    "ports": (51000, 51099),
    "interface": "ib0",
    "tunnel": ["ssh", "gate"],
    "qpus": ["aer"],
    "mpi": ["mpirun"],
    "labels": ["fast"],
    "environment": {"CUDA_VISIBLE_DEVICES": "0,1", "WORD": "yes"},
    "working_directory": "/some/where",
    "scratch": "/local/$USER",
    "restarts": 0,
    "orphan_timeout": 77.0,
}


#: What has to be in the job; and what of it a batch system has to know that hands out parts of nodes.
OF_JOBS = (*fields()[fields().index("queue") : fields().index("ports")], "number_of_nodes")
SIZES = ("cores_per_node", "gpus_per_node", "memory", "walltime")
HANDING_OUT = ("slurm://", "psij://slurm", "psij://pbs", "psij://pbs_classic", "psij://lsf")


def is_of_job(resource: str, field: str) -> bool:
    return field in OF_JOBS or (field in SIZES and resource in HANDING_OUT)


@pytest.mark.parametrize("resource", resources())
def test_the_table_is_true(resource: str, job_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field is honoured when its value arrives in what is submitted, in what the agent reads, or in what the manager
    decides; else it is refused with its name, with what was given, and with what is valid."""
    needed = {"walltime": 600} if resource == "psij://lsf" else {}
    base: dict[str, Any] = {
        **needed,
        "resource": "ssh://far" if resource == "ssh://" else resource,
        "cores_per_node": 2,
        "environment": {"CUDA_VISIBLE_DEVICES": "0,1"},
    }

    def evidence(**fields: Any) -> tuple[str, str]:
        wanted = PilotDescription(**{**base, **fields})
        launcher, job, settings = job_of(wanted)
        return submitted(launcher, job, monkeypatch), f"{settings} {decided(wanted)}"

    plain = {len(others): evidence(**others) for others in ({}, *WITH.values())}
    assert plain[0] == evidence(), "what differs by itself is no evidence"
    honoured = 0
    for field, sample in SAMPLES.items():
        value = sample(resource) if callable(sample) else sample
        others = WITH.get(field, {})
        if field == "modules" and resource.startswith("local"):
            monkeypatch.setenv("BASH_FUNC_module%%", "() { :; }")
        found = cell(resource, field)
        if found.use == HONOURED:
            parts = 1 if is_of_job(resource, field) else 2
            seen = evidence(**{**others, field: value})
            assert seen[:parts] != plain[len(others)][:parts], f"{field} changes nothing with {resource}"
            honoured += 1
            continue
        wanted = PilotDescription(**{**base, **others, field: value})
        with pytest.raises(DescriptionError, match=rf"PilotDescription\.{field}: .* is not valid; expected ") as caught:
            job_of(wanted)
        assert str(caught.value).endswith(f"expected {found.expected}")
        assert caught.value.given == getattr(wanted, field)
    assert honoured >= 15


def test_what_is_installed_here_hides_no_package_of_an_environment(job_of: Any) -> None:
    """Its workers get the user's folders of sys.path, and those of packages only where they run with this Python."""
    paths = {}
    for name, given in {"here": {}, "there": {"venv": "/some/venv"}}.items():
        settings = job_of(PilotDescription(**given))[2]
        paths[name] = json.loads(settings)["sys_path"]
    installed = sysconfig.get_path("purelib")
    assert installed in paths["here"] and installed not in paths["there"]
    assert str(Path(__file__).parent) in paths["there"], "pytest has put it there"
    assert set(paths["there"]) < set(paths["here"])


def test_samples_are_of_all_fields() -> None:
    assert list(SAMPLES) == fields()


def test_the_doctor_prints_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASH_FUNC_module%%", "() { :; }")
    assert cli.main(["doctor", "--fields"]) == 0
    printed = capsys.readouterr().out
    _, table, notes = printed.split("\n\n")
    head, *rows = table.splitlines()
    assert [word for word in head.split() if "://" in word] == resources()
    assert [row.split()[0] for row in rows] == list(SAMPLES)
    assert next(row for row in rows if row.startswith("container ")).split()[1] == SIGNS[REFUSED]
    assert "container with local://: expected none with local://" in notes


# ---- local:// -------------------------------------------------------------------------------------------------------


def venv_in(folder: Path, *paths: str) -> Path:
    """A virtual environment that sees these folders, too."""
    import venv

    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "paths.pth").write_text("\n".join(paths))
    (packages / "only_there.py").write_text("HERE = 'the environment'\n")
    return folder


def told() -> tuple[str, str, str, str | None, str | None]:
    import only_there  # type: ignore[import-not-found]

    return sys.prefix, str(Path.cwd()), only_there.HERE, os.environ.get("CONDA_DEFAULT_ENV"), os.environ.get("LOADED")


CONDA = """#!/bin/sh
[ "$1" = shell.bash ] || exit 9
cat <<'HOOK'
conda() {{
    [ "$2" = {name} ] || {{ echo "EnvironmentNameNotFound: Could not find conda environment: $2" >&2; return 1; }}
    export CONDA_DEFAULT_ENV="$2" PATH="{folder}/bin:$PATH"
}}
HOOK
"""


@pytest.fixture
def conda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for conda with one environment, "quantum"; its folder. The shells have modules as well."""
    folder = venv_in(tmp_path / "quantum", *filter(None, sys.path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/conda").write_text(CONDA.format(name="quantum", folder=folder))
    (tmp_path / "bin/conda").chmod(0o755)
    monkeypatch.delenv("CONDA_EXE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    load = '[ "$2" = good ] || { echo "ERROR: Unable to locate a modulefile for \'$2\'" >&2; return 1; }'
    monkeypatch.setenv("BASH_FUNC_module%%", f'() {{  {load}; export LOADED="$2";\n}}')
    return folder


def test_pilots_with_environments_of_their_own(tmp_path: Path, conda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agent and workers run with their Python, and find their packages. Relative paths are the manager's. The TMPDIR
    that jobs inherit need not be there where they run."""
    (tmp_path / "with a blank").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    own = venv_in(tmp_path / "own", *filter(None, sys.path))
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot(
            PilotDescription(name="venv", cores_per_node=1, venv="own", working_directory="with a blank")
        )
        manager.submit_pilot(
            PilotDescription(name="conda", cores_per_node=1, conda_environment="quantum", modules=["good"])
        )
        tasks = [manager.submit_task({"function": told, "pilot": name}) for name in ("venv", "conda")]
        assert tasks[0].result(60) == (str(own), f"{tmp_path}/with a blank", "the environment", None, None)
        assert tasks[1].result(60) == (str(conda), str(tmp_path), "the environment", "quantum", "good")


def test_temporary_files_are_in_the_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task's, and those of its pilot, which are gone with it. A folder that is not there ends the pilot."""
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    with PilotManager(tmp_path / "session") as manager:
        manager.submit_pilot(PilotDescription(name="disk", cores_per_node=1, scratch="$NODE_DISK"))
        none = manager.submit_pilot(PilotDescription(cores_per_node=1, scratch="$NODE_DISK/none", restarts=0))
        where = manager.submit_task({"function": tempfile.gettempdir, "pilot": "disk"}).result(60)
        assert Path(where).is_relative_to(tmp_path / "disk") and Path(where).is_dir()
        said = (
            rf"its scratch folder \$NODE_DISK/none \({tmp_path}/disk/none\) is no folder on .* where files can be made"
        )
        with pytest.raises(PilotFailed, match=said):
            none.wait(60)
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"modules": ["bad"]}, r"PilotDescription\.modules: `module load bad` ended with code 1: ERROR: Unable to loc"),
        (
            {"conda_environment": "bad"},
            r"PilotDescription\.conda_environment: `conda activate bad` ended with code 1: EnvironmentNameNotFound",
        ),
        ({"venv": "/no/venv"}, "there is no Python /no/venv/bin/python on .*: set venv or conda_environment"),
        ({"venv": "EMPTY"}, "cannot load quantum-pilot: ModuleNotFoundError: No module named '.*': install it there"),
        ({"venv": "OLD"}, r"has cloudpickle 1\.0; needed, as here: Python 3\.\d+, quantum-pilot .*, cloudpickle "),
    ],
    ids=["module", "conda", "no venv", "empty venv", "other version"],
)
def test_what_cannot_be_prepared_is_refused_once(
    tmp_path: Path, conda: Path, make_job: MakeJob, eventually: Any, fields: dict[str, Any], said: str
) -> None:
    if fields.get("venv") == "EMPTY":
        fields = {"venv": str(venv_in(tmp_path / "own"))}
    elif fields.get("venv") == "OLD":
        fields = {"venv": str(venv_in(tmp_path / "own", *filter(None, sys.path)))}
        (packages,) = tmp_path.glob("own/lib/python*/site-packages")
        (packages / "cloudpickle.py").write_text(f"import sys; sys.path.remove({str(packages)!r})\n")
        old = "del sys.modules['cloudpickle']; import cloudpickle; cloudpickle.__version__ = '1.0'\n"
        with (packages / "cloudpickle.py").open("a") as file:
            file.write(old)
    job = make_job(PilotDescription(**fields), sys.executable, "-c", "print('ran')")
    launcher = LocalLauncher()
    id = launcher.submit(job)
    eventually(lambda: launcher.status({id: job.folder})[id][0] is not JobState.RUNNING)
    state, words = launcher.status({id: job.folder})[id]
    assert state is JobState.REFUSED, (words, job.log_path.read_text())
    assert re.search(said, words), words
    assert "ran" not in job.log_path.read_text()
