"""A job is submitted: ``sbatch``, its answer, and where that is no plain number, the job found by its name.

A site's own ``sbatch`` may print lines before and after the number, with numbers in them, or fail after Slurm took the
job; Slurm may take a job and answer too late. The name of a job is unique (`ids.unique_name`), so ``squeue --name``
finds it. Jobs that appear later are found by the next polls (`Loose`).
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from pilot.errors import JobRefused, PilotError
from pilot_plugins.launchers.slurm import hosts
from pilot_plugins.launchers.slurm.answers import (
    SQUEUE,
    clusters_named,
    is_plain,
    numbers,
    scontrol_lines,
    squeue_lines,
)
from pilot_plugins.launchers.slurm.hosts import Host, in_one_line, is_busy
from pilot_plugins.launchers.slurm.states import is_final
from pilot_plugins.launchers.ssh_client import SSH_FAILED

log = logging.getLogger(__name__)

#: Seconds between two searches for a job whose number is not known, and after which none is begun.
LOOKS, LOOK_SECONDS = (1.0, 2.0, 4.0), 20.0
#: Seconds in which a job may still appear whose submission was not answered.
LOOSE_SECONDS = 900.0
#: Code of our remote command for a folder that is not there (EX_NOINPUT of sysexits.h).
_NOT_VISIBLE = 66
#: Errors of sbatch for a job that it refuses.
_REFUSED = re.compile(r"^sbatch: (error|fatal):", re.MULTILINE)

#: A job's number, and its cluster when that is not Slurm's own choice.
Found = tuple[str, str]


class Loose:
    """Names under which there may be more jobs than the one that is known, if any is."""

    def __init__(self, host: Host) -> None:
        self._host = host
        #: By name: the job that may have it, clusters, and until when (`time.monotonic`).
        self._names: dict[str, tuple[Found | None, tuple[str, ...], float]] = {}

    def add(self, name: str, known: Found | None, clusters: Sequence[str]) -> None:
        self._names[name] = (known, tuple(clusters), time.monotonic() + LOOSE_SECONDS)

    def end(self) -> None:
        """Cancel the jobs that have appeared under these names. Blocks for one command each."""
        for name, (known, clusters, until) in list(self._names.items()):
            if time.monotonic() > until:
                self._names.pop(name, None)
                continue
            for one in find(self._host, name, clusters, unfinished=True):
                if one != known:
                    end_job(self._host, name, *one)


def submit(host: Host, loose: Loose, path: Path, name: str, clusters: Sequence[str]) -> Found:
    """The number, and the cluster if it is another one, of the job that this script has become. Blocks.

    Args:
        host: where sbatch runs.
        loose: gets names that may have jobs that are not known.
        path: of the script.
        name: of the job; no other has it.
        clusters: where it may go; none: Slurm's own choice.

    Raises:
        JobRefused: Slurm refuses such a job.
        PilotError: Slurm does not answer, or it is not known whether it has the job.
    """
    command = ["sbatch", "--parsable", f"--job-name={name}"]
    if clusters:
        command.append(f"--clusters={','.join(clusters)}")
    is_in_doubt = False  # an earlier try may have made a job
    for seconds in (*hosts.BACK_OFF, None):
        code, output, errors = _sbatch(host, command, path)
        if not code and is_plain(output) and not is_in_doubt:
            return numbers(output)[0]
        is_in_doubt = is_in_doubt or host.is_unanswered(code, errors)
        one = _made(host, name, clusters, (code, output, errors))
        if one is not None:
            if is_in_doubt:
                loose.add(name, one, (*clusters, one[1]))
            return one
        if not is_busy(errors) or seconds is None:
            break
        log.warning("sbatch: %s; trying again in %g s", errors.strip(), seconds)
        time.sleep(seconds)
    if is_in_doubt or not _REFUSED.search(errors):
        loose.add(name, None, clusters)
    raise _refusal(host, path, name, (code, output, errors))


def _sbatch(host: Host, command: Sequence[str], path: Path) -> tuple[int, str, str]:
    if not host.name:
        return host.call((*command, str(path)))
    visible = f"test -r {shlex.quote(str(path))} || exit {_NOT_VISIBLE}; exec {shlex.join(command)}"
    return host.call(("sh", "-c", visible), path.read_text())


def _made(host: Host, name: str, clusters: Sequence[str], answer: tuple[int, str, str]) -> Found | None:
    """The job that a call of sbatch with this answer has made, if any; of several all but the first are cancelled."""
    code, output, errors = answer
    is_unanswered = host.is_unanswered(code, errors)
    if code == _NOT_VISIBLE or (code and is_busy(errors) and not is_unanswered):
        return None  # nothing has reached Slurm
    candidates = numbers(output)
    is_refused = bool(code) and not is_unanswered and _REFUSED.search(errors) is not None
    clusters = (*clusters, *clusters_named(output))
    found: list[Found] = []
    is_plainly_over = is_refused or code == SSH_FAILED
    deadline = time.monotonic() + LOOK_SECONDS
    for seconds in (None,) if is_plainly_over else (*LOOKS, None):
        found = find(host, name, clusters)
        if found or seconds is None or time.monotonic() > deadline:
            break
        time.sleep(seconds)
    if not found and not is_refused:
        found = _find_by_scontrol(host, name, clusters)
    if not found:
        return candidates[0] if len(candidates) == 1 and not is_refused else None
    log.warning("sbatch answered %r with code %d; by its name %s the job is %s", output, code, name, found[0][0])
    for other in found[1:]:
        end_job(host, name, *other)
    return found[0]


def find(host: Host, name: str, clusters: Sequence[str], *, unfinished: bool = False) -> list[Found]:
    """The jobs with this name that squeue shows, first submitted first. Blocks.

    Args:
        host: where squeue runs.
        name: of the jobs.
        clusters: to ask; none, or "": Slurm's own choice.
        unfinished: leave out those that have ended.
    """
    found: list[Found] = []
    for cluster in dict.fromkeys(clusters or ("",)):
        _, output, _ = host.call(("squeue", *on(cluster), *SQUEUE, f"--name={name}"))
        lines = [line for line in squeue_lines(output) if line.name == name]
        found += [(line.submitted, cluster) for line in lines if not (unfinished and is_final(line.shown[0]))]
    return _in_order(found)


def _find_by_scontrol(host: Host, name: str, clusters: Sequence[str]) -> list[Found]:
    """As `find`, when squeue shows nothing. On a large cluster the answer is long, so this comes last."""
    found: list[Found] = []
    for cluster in dict.fromkeys(clusters or ("",)):
        code, output, _ = host.call(("scontrol", *on(cluster), "--oneliner", "show", "job"))
        lines = () if code else scontrol_lines(output)
        found += [(line.submitted, cluster) for line in lines if line.name == name]
    return _in_order(found)


def _in_order(found: list[Found]) -> list[Found]:
    return sorted(dict.fromkeys(found), key=lambda one: (one[1], int(one[0])))


def end_job(host: Host, name: str, number: str, cluster: str) -> None:
    """Cancel a job, or job array, if it has this name."""
    log.warning("Slurm job %s has our job's name %s and is another one of ours: it is cancelled", number, name)
    host.call(("scancel", *on(cluster), *only(host, name), number))


def on(cluster: str) -> tuple[str, ...]:
    """The option with which Slurm's commands ask another cluster."""
    return (f"--clusters={cluster}",) if cluster else ()


def only(host: Host, name: str) -> tuple[str, ...]:
    """Options with which scancel ends only our jobs, also when a number was given to another job."""
    user = host.name.rpartition("@")[0] if host.name else str(os.geteuid())
    return (*([f"--name={name}"] if name else ()), *([f"--user={user}"] if user else ()))


def _refusal(host: Host, path: Path, name: str, answer: tuple[int, str, str]) -> PilotError:
    code, output, errors = answer
    where = f" on {host.name}" if host.name else ""
    words = in_one_line(errors)
    if code == _NOT_VISIBLE and host.name:
        return JobRefused(
            f"the session folder is not visible on {host.name}: {path} cannot be read there. Give the manager a "
            "session_dir on a file system that this host, the login node and the compute nodes share"
        )
    if not code:
        return PilotError(
            f"sbatch{where} gave no job number but {output!r}, and squeue shows no job named {name}. `sbatch "
            "--parsable` has to print the number on a line of its own: check which sbatch is used (type sbatch)"
        )
    if is_busy(errors) or host.is_unanswered(code, errors):
        return PilotError(f"sbatch{where} cannot be asked: {words or f'it ended with code {code}'}")
    return JobRefused(f"sbatch{where} refused the job: {words or f'code {code}'} (script: {path})")
