"""The Slurm launcher: the placeholder job is submitted by ``sbatch``, here or on a login node.

``slurm://`` and ``slurm://localhost`` call Slurm's commands on this host; ``slurm://user@host`` (``slurm://host:2222``)
calls them through ``ssh``, one connection for all calls, without a question to the terminal. The session folder must
be there under the same path. QUANTUM_PILOT_SSH names another command than ``ssh``, such as ``ssh -F my_config``.

What a job does stands in ``slurm_job.sh``, a template. It leaves three files in the pilot's folder: ``started``,
``expiring`` (a signal came: the end is near; the agent looks for it) and ``ended`` (with the agents' exit code). They
are read at each `status`; ``squeue`` is asked once per `poll_interval` for all jobs, and ``sacct``, where there is
one, for those that squeue does not know any more. Sources of commands, options, states and reasons: sbatch(1),
squeue(1), srun(1), scancel(1), sacct(1).

Read next: `slurm_script` (what is submitted), `slurm_cluster` (how Slurm is asked), `slurm_states` (what it says),
`slurm_hosts` (where its commands run).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pilot.descriptions import PilotDescription
from pilot.errors import PilotError
from pilot.interfaces import Job, JobState, Launcher
from pilot.processes import end_marked, remove_scratch
from pilot_plugins.slurm_cluster import Cluster
from pilot_plugins.slurm_hosts import SSH, Runner, host_of, run
from pilot_plugins.slurm_script import script

#: Jobs in one array; Slurm's own default of MaxArraySize is 1001.
ARRAY_JOBS = 1000

_NAME = re.compile(r"[A-Za-z_]\w*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class SlurmLauncher(Launcher):
    """``slurm://`` and ``slurm://user@host``."""

    poll_interval = 5.0
    remote = True

    def __init__(self, runner: Runner = run) -> None:
        self._runner = runner
        self._clusters: dict[str, Cluster] = {}
        self._folders: dict[str, Path] = {}

    # ---- the three verbs ----------------------------------------------------------------------------------------

    def check(self, description: PilotDescription) -> None:
        """Where, with how many cores, and nothing that would break the lines of a batch script."""
        host = host_of(description)
        if description.cores_per_node is None:
            raise description.wrong(
                "cores_per_node", "with slurm:// a whole number: how many cores of each node the pilot asks for"
            )
        for field in ("name", "queue", "qos", "project", "reservation", "constraint", "gres", "licenses", "venv",
                      "conda_environment"):  # fmt: skip
            if _CONTROL.search(getattr(description, field) or ""):
                raise description.wrong(field, "a text of one line")
        for field in ("modules", "scheduler_script_commands"):
            if any(_CONTROL.search(line.replace("\t", " ")) for line in getattr(description, field)):
                raise description.wrong(field, "texts of one line each")
        if wrong := [name for name in description.environment if not _NAME.fullmatch(name)]:
            raise description.wrong("environment", f"names that a shell can export; not {wrong[0]!r}")
        program = shlex.split(os.environ.get(SSH, "ssh"))[0] if host else "sbatch"
        if shutil.which(program) is None:
            hint = f"install OpenSSH's client, or name another in {SSH}" if host else (
                "run the manager on a login node of the cluster, or use slurm://user@login-node"
            )  # fmt: skip
            raise description.wrong("resource", f"{description.resource} where {program} is on PATH: {hint}")
        if not host and (conf := os.environ.get("SLURM_CONF")) and not Path(conf).is_file():  # sbatch tries for 60 s
            raise description.wrong("resource", f"{description.resource} where SLURM_CONF is a file: {conf} is none")

    def submit(self, job: Job) -> str:
        (answer,) = self.submit_many([job])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def submit_many(self, jobs: Sequence[Job]) -> list[str | Exception]:
        """Jobs with equal scripts become one job array, others one ``sbatch`` each."""
        alike: dict[tuple[str, str], list[int]] = {}
        answers: list[str | Exception] = [PilotError("it was not submitted")] * len(jobs)
        for number, job in enumerate(jobs):
            try:
                alike.setdefault((host_of(job.description), script([job], plain=True)), []).append(number)
            except Exception as error:
                answers[number] = error
        for (host, _), numbers in alike.items():
            for start in range(0, len(numbers), ARRAY_JOBS):
                some = numbers[start : start + ARRAY_JOBS]
                for number, answer in zip(some, self._submit(host, [jobs[one] for one in some]), strict=True):
                    answers[number] = answer
        return answers

    def _submit(self, host: str, jobs: Sequence[Job]) -> Sequence[str | Exception]:
        try:
            number = self._cluster(host).submit(jobs)
        except Exception as error:
            return [error] * len(jobs)
        ids = [number] if len(jobs) == 1 else [f"{number}_{index}" for index in range(len(jobs))]
        self._cluster(host).watch(ids, [job.folder for job in jobs])
        ids = [f"{id}@{host}" if host else id for id in ids]
        self._folders.update(zip(ids, (job.folder for job in jobs), strict=True))
        return ids

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        """From the jobs' own files and the last answer of squeue. Blocks for `STATUS_SECONDS` at most, and only when
        it is time to ask squeue again."""
        self._folders.update(jobs)
        answers: dict[str, tuple[JobState, str]] = {}
        for host, ids in _by_host(jobs).items():
            cluster = self._cluster(host)
            seen = cluster.look({id: jobs[native_id] for id, native_id in ids.items()}, self.poll_interval)
            answers |= {ids[id]: answer for id, answer in seen.items()}
        return answers

    def cancel(self, native_id: str, mark: str) -> None:
        self.cancel_many({native_id: mark})

    def cancel_many(self, marks: Mapping[str, str]) -> None:
        """End jobs (native id → mark) together, with one ``scancel``, and their processes that run on this host.

        Blocks until they are gone, about `CANCEL_SECONDS` at most.

        Raises:
            PilotError: Slurm cannot be reached, or a job does not end.
        """
        try:
            for host, ids in _by_host(marks).items():
                folders = {id: self._folders.get(native_id) for id, native_id in ids.items()}
                self._cluster(host).cancel(folders)
        finally:
            for native_id, mark in marks.items():
                self._folders.pop(native_id, None)
                end_marked(mark)
                remove_scratch(mark)

    def _cluster(self, host: str) -> Cluster:
        if host not in self._clusters:
            self._clusters[host] = Cluster(host, self._runner)
        return self._clusters[host]


def _by_host(native_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """By host, Slurm's ids with our native ids, which are ``17``, ``17_3``, or ``17@user@host``."""
    hosts: dict[str, dict[str, str]] = {}
    for native_id in native_ids:
        id, _, host = native_id.partition("@")
        hosts.setdefault(host, {})[id] = native_id
    return hosts
