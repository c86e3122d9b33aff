"""Pilots on PBS and LSF: what the schedulers read of the scripts that PSI/J's templates make, field by field; and jobs
that they run. The schedulers are not here: `batch_system.py` reads and runs the scripts."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pilot import PilotDescription
from pilot.errors import DescriptionError, JobRefused
from pilot.interfaces import Job, JobState
from pilot.wire.marks import MARK

if importlib.util.find_spec("psij") is None:
    pytest.skip("psij-python is not installed: pip install 'quantum-pilot[psij]'", allow_module_level=True)

import psij
from pilot_plugins.launchers.psij import executors as psij_executors
from pilot_plugins.launchers.psij import job as psij_job
from pilot_plugins.launchers.psij.launcher import PsijLauncher
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig

MakeJob = Callable[..., Job]
COMMANDS = {"pbs": "qsub", "pbs_classic": "qsub", "lsf": "bsub"}
FIELDS: dict[str, Any] = {"cores_per_node": 6, "walltime": 5400}

#: By executor, what a job asks for with these fields alone. LSF's walltime is hours:minutes, that of PBS has seconds.
PLAIN: dict[str, dict[str, Any]] = {
    "pbs": {"select": "1:ncpus=6:mpiprocs=6", "place": "scatter:shared", "walltime": "1:30:0"},
    "pbs_classic": {"nodes": "1:ppn=6", "walltime": "1:30:0"},
    "lsf": {"nnodes": "1", "n": "6", "W": "1:30", "env": "all"},
}
#: By executor: a field, its value, and what that changes. Memory is in bytes with PBS, where no unit is given.
CHANGED: dict[str, list[tuple[str, Any, dict[str, Any]]]] = {
    "pbs": [
        ("cores_per_node", 3, {"select": "1:ncpus=3:mpiprocs=3"}),
        ("memory", "3 GiB", {"select": f"1:ncpus=6:mpiprocs=6:mem={3 << 30}"}),
        ("walltime", "1-02:00:07", {"walltime": "26:0:7"}),
        ("walltime", None, {"walltime": None}),
        ("queue", "fast", {"q": "fast"}),
        ("project", "m1234", {"A": "m1234"}),
        ("reservation", "R17", {"q": "R17"}),
        ("exclusive", True, {"place": "scatter:exclhost"}),
        ("custom_attributes", {"pbs.W": "umask=077"}, {"W": "umask=077"}),
        ("custom_attributes", {"pbs.W": "depend=afterok:1 x"}, {"W": "depend=afterok:1 x"}),
        ("scheduler_script_commands", ["#PBS -l filesystems=home:eagle"], {"filesystems": "home:eagle"}),
        ("scheduler_script_commands", ["ulimit -c 0"], {}),
    ],
    "pbs_classic": [
        ("cores_per_node", 3, {"nodes": "1:ppn=3"}),
        ("gpus_per_node", 2, {"nodes": "1:ppn=6:gpus=2"}),
        ("memory", "3 GiB", {"nodes": f"1:ppn=6:mem={3 << 30}"}),
        ("walltime", 700, {"walltime": "0:11:40"}),
        ("queue", "fast", {"q": "fast"}),
        ("project", "m1234", {"A": "m1234"}),
        ("exclusive", True, {"n": ""}),
    ],
    "lsf": [
        ("cores_per_node", 3, {"n": "3"}),
        ("gpus_per_node", 2, {"gpu": "num=2/host"}),
        ("memory", "3 GiB", {"M": f"{3 << 20}KB"}),
        ("walltime", 700, {"W": "0:12"}),
        ("walltime", 5, {"W": "0:1"}),
        ("walltime", "2-00:00", {"W": "48:0"}),
        ("queue", "fast", {"q": "fast"}),
        ("project", "m1234", {"P": "m1234", "G": "m1234"}),
        ("reservation", "user1#0", {"U": "user1#0"}),
        ("custom_attributes", {"lsf.alloc_flags": "smt1"}, {"alloc_flags": "smt1"}),
        ("custom_attributes", {"lsf.R": "rusage[mem=100] span[ptile=2]"}, {"R": "rusage[mem=100] span[ptile=2]"}),
    ],
}
ROWS = [(name, *row) for name, rows in CHANGED.items() for row in rows]


@pytest.fixture(scope="module")
def system() -> Any:
    path = Path(__file__).with_name("batch_system.py")
    spec = importlib.util.spec_from_file_location("batch_system", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requested(system: Any, executor: psij.JobExecutor, spec: psij.JobSpec) -> dict[str, str]:
    """What a scheduler reads of the script that an executor makes, but for what PSI/J adds to every job."""
    one, text = psij.Job(spec), io.StringIO()
    one.executor = executor
    executor.generate_submit_script(one, executor._create_script_context(one), text)  # type: ignore[attr-defined]
    program = COMMANDS[executor.name]
    options = system.parsed(program, system.directives(program, text.getvalue()))
    assert {options.pop("o", None) == options.pop("e", None) == ["/dev/null"]} == {True}
    options.pop("V", None)
    assert all(len(values) == 1 for values in options.values()), options
    return {name: value for name, (value,) in options.items()}


def of_pilot(system: Any, make_job: MakeJob, name: str, fields: dict[str, Any]) -> dict[str, str]:
    wanted = PilotDescription(resource=f"psij://{name}", **{**FIELDS, **fields})
    launcher = PsijLauncher()
    launcher.check_fields(wanted)
    launcher.check(wanted)
    job = make_job(wanted, "true")
    return requested(system, psij_executors.make(name, job.folder), psij_job.spec(job, name, job.folder / "job.sh"))


@pytest.mark.parametrize(("name", "field", "value", "changed"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_what_each_field_becomes(
    system: Any, make_job: MakeJob, name: str, field: str, value: Any, changed: dict[str, Any]
) -> None:
    """A field changes its own part of the request, and no other."""
    assert of_pilot(system, make_job, name, {}) == PLAIN[name]
    expected = {key: one for key, one in {**PLAIN[name], **changed}.items() if one is not None}
    assert of_pilot(system, make_job, name, {field: value}) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_job_of_psijs_own_asks_for_the_same(system: Any, make_job: MakeJob, tmp_path: Path, name: str) -> None:
    """PSI/J's executor as it is, with a job written by its documentation: as many processes as the pilot has cores."""
    resources = psij.ResourceSpecV1(process_count=6, node_count=1, memory=3 << 30, exclusive_node_use=False)
    attributes = psij.JobAttributes(
        duration=timedelta(minutes=90), queue_name="fast", account="m1234", reservation_id=None
    )
    plain = psij.JobSpec(executable="/bin/true", resources=resources, attributes=attributes)
    executor = psij.JobExecutor.get_instance(name, config=BatchSchedulerExecutorConfig(work_directory=tmp_path))
    fields = {"memory": "3 GiB", "queue": "fast", "project": "m1234"}
    assert requested(system, executor, plain) == of_pilot(system, make_job, name, fields)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("pbs", {"number_of_nodes": 2}, "number_of_nodes: 2 .* ask for several pilots"),
        ("lsf", {"number_of_nodes": 2}, "number_of_nodes: 2 .* ask for several pilots"),
        ("pbs", {"gpus_per_node": 1}, r'gpus_per_node: 1 .* custom_attributes, as \{"pbs.OPTION": "VALUE"\}'),
        ("pbs", {"qos": "high"}, "qos: 'high' .* the option that pbs has for it in custom_attributes"),
        ("pbs", {"queue": "a", "reservation": "R1"}, "queue: 'a' .* none beside a reservation with psij://pbs"),
        ("lsf", {"exclusive": True}, "exclusive: True .* the option that lsf has for it in custom_attributes"),
        ("lsf", {"walltime": None}, "walltime: None .* a time with psij://lsf"),
        ("lsf", {"custom_attributes": {"pbs.W": "x"}}, "keys as lsf.OPTION; not 'pbs.W'"),
    ],
)
def test_what_psij_would_drop_is_refused(
    system: Any, make_job: MakeJob, name: str, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(DescriptionError, match=said):
        of_pilot(system, make_job, name, fields)


# ---- jobs that run --------------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of PBS and LSF are on PATH; the folder of their jobs."""
    for folder in ("bin", "jobs"):
        (tmp_path / folder).mkdir()
    text = Path(__file__).with_name("batch_system.py").read_text()
    for name in ("qsub", "qstat", "qdel", "bsub", "bjobs", "bkill"):
        (tmp_path / "bin" / name).write_text(f"#!{sys.executable} -SE\n{text}")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("BATCH_FOLDER", str(tmp_path / "jobs"))
    monkeypatch.setattr(psij_executors, "POLL_SECONDS", 1)
    return tmp_path / "jobs"


@pytest.mark.parametrize("name", ["pbs", "lsf"])
def test_jobs_run_end_and_are_cancelled(commands: Path, make_job: MakeJob, eventually: Any, name: str) -> None:
    wanted = PilotDescription(resource=f"psij://{name}", cores_per_node=2, walltime=120, queue="fast")
    launcher = PsijLauncher()
    launcher.check(wanted)
    short, long = make_job(wanted, "sh", "-c", "echo here; exit 3"), make_job(wanted, "sleep", "600")
    short_id, long_id = launcher.submit(short), launcher.submit(long)
    folders = {short_id: short.folder, long_id: long.folder}

    def states() -> tuple[tuple[JobState, str], JobState]:
        found = launcher.status(folders)
        return found[short_id], found[long_id][0]

    over = (JobState.ENDED, "the agent ended with code 3")
    eventually(lambda: states() == (over, JobState.RUNNING), complaint=states)
    assert short.log_path.read_text().splitlines()[-1] == "here"
    for id, job in ((short_id, short), (long_id, long)):
        launcher.cancel(id, job.environment[MARK])
    assert states()[0] == over and states()[1] in (JobState.ENDED, JobState.CANCELLED)
    files = sorted(commands.glob("*.json"))
    assert [json.loads(file.read_text())["options"]["q"] for file in files] == [["fast"], ["fast"]]


def test_an_option_that_pbs_refuses_is_told(commands: Path, make_job: MakeJob) -> None:
    wanted = PilotDescription(resource="psij://pbs", cores_per_node=1, custom_attributes={"pbs.Z": "1"})
    with pytest.raises(JobRefused, match="unrecognized arguments: -Z 1"):
        PsijLauncher().submit(make_job(wanted, "true"))
