"""The Slurm launcher: the placeholder job is submitted by ``sbatch``, here or on a login node.

``slurm://`` and ``slurm://localhost`` call Slurm's commands on this host; ``slurm://user@host`` (``slurm://host:2222``)
calls them through ``ssh``, one connection for all calls, without a question to the terminal. The session folder must
be there under the same path. QUANTUM_PILOT_SSH names another command than ``ssh``, such as ``ssh -F my_config``.

The template ``job.sh`` has what a job does. It leaves three files in the pilot's folder: ``started``,
``expiring`` (a signal came: the end is near; the agent reads it) and ``ended`` (with the agents' exit code). They
are read at each `status`; ``squeue`` is asked once per `poll_interval` for all jobs, and ``sacct``, where there is
one, for those that squeue no longer knows. Sources of commands, options, states and reasons: sbatch(1),
squeue(1), srun(1), scancel(1), sacct(1).

Read next: ``script.py`` (what is submitted), ``cluster.py`` (how Slurm is asked), ``states.py`` (what it answers),
``hosts.py`` (where its commands run).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused, PilotError, SessionError, invalid
from pilot.interfaces import Job, JobState, Launcher, Misfit, Refusal
from pilot.wire.folders import remove_scratch
from pilot.wire.processes import end_marked
from pilot_plugins.launchers.slurm.cluster import Cluster
from pilot_plugins.launchers.slurm.hosts import Host, Runner, host_of, run
from pilot_plugins.launchers.slurm.ids import SlurmId, name_of, unique_name
from pilot_plugins.launchers.slurm.names import explained
from pilot_plugins.launchers.slurm.preflight import Site
from pilot_plugins.launchers.slurm.script import check_options, clusters_of, completed, script, write
from pilot_plugins.launchers.slurm.submission import Loose, find, submit
from pilot_plugins.launchers.ssh_client import SSH

#: Jobs in one array; Slurm's own default of MaxArraySize is 1001.
ARRAY_JOBS = 1000

_CLUSTER = re.compile(r"[\w.-]+")
_NAME = re.compile(r"[A-Za-z_]\w*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class SlurmLauncher(Launcher):
    """``slurm://`` and ``slurm://user@host``."""

    poll_interval = 5.0
    remote = True

    def __init__(self, runner: Runner = run) -> None:
        self._runner = runner
        self._hosts: dict[str, tuple[Host, Loose]] = {}
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._folders: dict[str, Path] = {}
        self._sites: dict[str, Site] = {}

    def refusal(self, resource: str, field: str) -> Refusal | None:
        if field == "custom_attributes":
            return Refusal(
                "none with slurm://, they are PSI/J's: give #SBATCH lines in scheduler_script_commands, or use "
                "psij://slurm",
                applies=False,
            )
        return None

    # ---- launcher ------------------------------------------------------------------------------------------------

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
        check_options(description)
        _check_clusters(description)
        if wrong := [name for name in description.environment if not _NAME.fullmatch(name)]:
            raise description.wrong("environment", f"names that a shell can export; not {wrong[0]!r}")
        program = shlex.split(os.environ.get(SSH, "ssh"))[0] if host else "sbatch"
        if shutil.which(program) is None:
            hint = f"install OpenSSH's client, or name another in {SSH}" if host else (
                "run the manager on a login node of the cluster, or use slurm://user@login-node"
            )  # fmt: skip
            raise description.wrong("resource", f"{description.resource} on a host with {program} on PATH: {hint}")
        if not host and (conf := os.environ.get("SLURM_CONF")) and not Path(conf).is_file():  # sbatch tries for 60 s
            raise description.wrong(
                "resource", f"{description.resource} with SLURM_CONF naming a file: {conf} is not a file"
            )

    def preflight(self, description: PilotDescription) -> list[Misfit]:
        """As `Launcher.preflight`, by Slurm's first answer."""
        host = host_of(description)
        if host not in self._sites:
            self._sites[host] = Site(self._host(host)[0])
        return self._sites[host].misfits(completed(description))

    def check_folder(self, folder: Path) -> None:
        """The name must be one that sbatch does not change: a backslash in ``--output`` turns off replacement of
        patterns (sbatch(1), "FILENAME PATTERN"), and the options of a batch script are lines."""
        path = str(folder)
        if "\\" in path or _CONTROL.search(path) or not _is_text(path):
            expected = "with slurm:// a path in UTF-8 without backslashes and control characters, which sbatch misreads"
            raise invalid("session_dir", path, expected, SessionError)

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
            name = name_of(jobs)
            number, cluster = submit(*self._host(host), write(jobs), name, _clusters(jobs[0].description))
        except JobRefused as error:
            return [explained(error, completed(jobs[0].description), self._host(host)[0])] * len(jobs)
        except Exception as error:
            return [error] * len(jobs)
        numbers = [number] if len(jobs) == 1 else [f"{number}_{index}" for index in range(len(jobs))]
        ids = [SlurmId(one, cluster, host, name) for one in numbers]
        self._cluster(host, cluster).watch(ids, [job.folder for job in jobs])
        self._folders.update((str(id), job.folder) for id, job in zip(ids, jobs, strict=True))
        return [str(id) for id in ids]

    def find(self, description: PilotDescription, pilot: str, mark: str) -> str | None:
        """By its name, which follows from the mark. Not one that was submitted in an array with others."""
        host, name = host_of(description), unique_name(description.name or pilot, mark)
        found = find(self._host(host)[0], name, _clusters(description), unfinished=True)
        return str(SlurmId(*found[0], host, name)) if found else None

    def status(self, jobs: Mapping[str, Path]) -> Mapping[str, tuple[JobState, str]]:
        """From the jobs' own files and the last answer of squeue. Blocks for `STATUS_SECONDS` at most, and only when
        it is time to ask squeue again."""
        self._folders.update(jobs)
        answers: dict[str, tuple[JobState, str]] = {}
        for where, ids in _by_cluster(jobs).items():
            seen = self._cluster(*where).look({id: jobs[str(id)] for id in ids}, self.poll_interval)
            answers |= {str(id): answer for id, answer in seen.items()}
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
            for where, ids in _by_cluster(marks).items():
                self._cluster(*where).cancel({id: self._folders.get(str(id)) for id in ids})
        finally:
            for native_id, mark in marks.items():
                self._folders.pop(native_id, None)
                end_marked(mark)
                remove_scratch(mark)

    def _host(self, name: str) -> tuple[Host, Loose]:
        if (known := self._hosts.get(name)) is None:
            host = Host(name, self._runner)
            known = self._hosts.setdefault(name, (host, Loose(host)))  # another thread may have made one meanwhile
        return known

    def _cluster(self, host: str, name: str) -> Cluster:
        if (known := self._clusters.get((host, name))) is None:
            known = self._clusters.setdefault((host, name), Cluster(*self._host(host), name))
        return known


def _is_text(words: str) -> bool:
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True


def _by_cluster(native_ids: Iterable[str]) -> dict[tuple[str, str], list[SlurmId]]:
    """By host and cluster, its jobs."""
    clusters: dict[tuple[str, str], list[SlurmId]] = {}
    for id in map(SlurmId.read, native_ids):
        clusters.setdefault((id.host, id.cluster), []).append(id)
    return clusters


def _clusters(wanted: PilotDescription) -> tuple[str, ...]:
    """The clusters of which Slurm takes one: the description's, else, on this host, the environment's (sbatch(1))."""
    given = clusters_of(wanted)
    if given or host_of(wanted):
        return given
    words = os.environ.get("SBATCH_CLUSTERS") or os.environ.get("SLURM_CLUSTERS") or ""
    return tuple(one for one in words.split(",") if one)


def _check_clusters(wanted: PilotDescription) -> None:
    if wrong := [one for one in _clusters(wanted) if one == "all" or not _CLUSTER.fullmatch(one)]:
        raise wanted.wrong(
            "scheduler_script_commands",
            f"with --clusters (or SBATCH_CLUSTERS, SLURM_CLUSTERS in the environment) names of clusters with commas "
            f"between them; not {wrong[0]!r}",
        )
