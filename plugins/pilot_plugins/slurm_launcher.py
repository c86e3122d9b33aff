"""The Slurm launcher: the placeholder job is submitted by ``sbatch``, here or on a login node.

``slurm://`` and ``slurm://localhost`` call Slurm's commands on this host; ``slurm://user@host`` (``slurm://host:2222``)
calls them through ``ssh``, one connection for all calls, without a question to the terminal. The session folder must
be there under the same path. QUANTUM_PILOT_SSH names another command than ``ssh``, such as ``ssh -F my_config``.

What a job does stands in ``slurm_job.sh``, a template. It leaves three files in the pilot's folder: ``started``,
``expiring`` (a signal came: the end is near; the agent looks for it) and ``ended`` (with the agents' exit code). They
are read at each `status`; ``squeue`` is asked once per `poll_interval` for all jobs, and ``sacct``, where there is
one, for those that squeue does not know any more. Sources of commands, options, states and reasons: sbatch(1),
squeue(1), srun(1), scancel(1), sacct(1).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

from pilot.descriptions import PilotDescription
from pilot.errors import JobRefused, PilotError
from pilot.interfaces import Job, JobState, Launcher
from pilot.processes import MARK, end_marked, remove_scratch

log = logging.getLogger(__name__)

#: Environment variable: the words of the command that is used as ``ssh``.
SSH = "QUANTUM_PILOT_SSH"
#: Seconds that one of Slurm's commands may take; without its controller they give up after 9 to 18 s by themselves.
COMMAND_SECONDS = 60.0
#: Seconds that `status` waits for an answer of squeue; after that it says what was known before.
STATUS_SECONDS = 2.0
#: Seconds before the next try when Slurm is too busy to take a command.
BACK_OFF = (1.0, 4.0)
#: Seconds that a cancelled job has to end by itself, before SIGKILL (of Slurm's own, that takes 6 to 10 s).
GRACE_SECONDS = 2.0
#: Seconds until a cancelled job must be gone.
CANCEL_SECONDS = 25.0
#: Seconds before drain at which Slurm's warning comes: it looks at limits every 30 s or so.
SIGNAL_MARGIN = 30
#: Polls that must not know a job before it counts as gone.
FORGOTTEN_POLLS = 2
#: Jobs in one array; Slurm's own default of MaxArraySize is 1001.
ARRAY_JOBS = 1000

#: Every state of squeue(1), "JOB STATE CODES". Not here, because it is no end yet: a job that is COMPLETING.
STATES = {
    "BOOT_FAIL": JobState.TAKEN,
    "CANCELLED": JobState.CANCELLED,
    "COMPLETED": JobState.ENDED,
    "COMPLETING": JobState.RUNNING,
    "CONFIGURING": JobState.QUEUED,
    "DEADLINE": JobState.EXPIRED,
    "FAILED": JobState.ENDED,
    "LAUNCH_FAILED": JobState.TAKEN,
    "NODE_FAIL": JobState.TAKEN,
    "OUT_OF_MEMORY": JobState.ENDED,
    "PENDING": JobState.QUEUED,
    "PREEMPTED": JobState.TAKEN,
    "RECONFIG_FAIL": JobState.TAKEN,
    "REQUEUED": JobState.TAKEN,
    "REQUEUE_FED": JobState.TAKEN,
    "REQUEUE_HOLD": JobState.TAKEN,
    "RESIZING": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.TAKEN,
    "REVOKED": JobState.TAKEN,
    "RUNNING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.TAKEN,
    "STAGE_OUT": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "TIMEOUT": JobState.EXPIRED,
}

_PARTITION = "it asks for more nodes, cores, memory or time than the partition has or allows (scontrol show partition)"
_HELD = "it is held: scontrol release {id}, by the one who holds it"
#: Reasons for which a pending job waits for ever, and what to do.
NEVER = {
    "AccountNotAllowed": "the partition does not take this project",
    "BadConstraints": "no node has what constraint, gres or cores_per_node ask for",
    "DependencyNeverSatisfied": "the job that it depends on has failed",
    "InvalidAccount": "project is no account that you may use (sacctmgr show associations user=$USER)",
    "InvalidQOS": "qos is none that you may use (sacctmgr show associations user=$USER)",
    "JobHeldAdmin": "an administrator holds it: ask there",
    "JobHeldUser": _HELD,
    "PartitionConfig": _PARTITION,
    "PartitionNodeLimit": "number_of_nodes is above the partition's limit (scontrol show partition)",
    "PartitionTimeLimit": "walltime is above the partition's limit (scontrol show partition)",
    "QOSNotAllowed": "the partition does not take this qos",
    "ReservationDeleted": "the reservation is gone",
}

_BUSY = re.compile(
    r"Socket timed out|Resource temporarily unavailable|Unable to contact slurm controller|try again|"
    r"Transport endpoint|Zero Bytes were transmitted",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?(?P<host>[A-Za-z0-9][\w.-]*)(?::(?P<port>\d+))?")
_NAME = re.compile(r"[A-Za-z_]\w*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: Code of our remote command for a folder that is not there (EX_NOINPUT of sysexits.h).
_NOT_VISIBLE = 66
#: Code of `run` for a command that takes too long, as of timeout(1); ssh's own for a connection that fails (ssh(1)).
_SLOW, _SSH_FAILED = 124, 255
_SEPARATOR = "|"
_SQUEUE = ("squeue", "--noheader", "--array", "--states=all", f"--format={_SEPARATOR.join(('%i', '%T', '%N', '%r'))}")
_SACCT = ("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State,NodeList,ExitCode")


class _Template(string.Template):
    """``%{name}`` is filled in, ``%%`` stands for one: the dollar is the shell's."""

    delimiter = "%"


#: One job as squeue or sacct shows it: its state, nodes and reason.
Shown = tuple[str, str, str]
#: Runs a command with this input: its exit code, output and errors.
Runner = Callable[[Sequence[str], str], tuple[int, str, str]]


def run(command: Sequence[str], input: str = "") -> tuple[int, str, str]:
    """Run one of Slurm's commands; code 124 when it takes too long, 127 when it is not there. Blocks."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key == "SLURM_CONF" or not key.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_"))
    }
    try:
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS,
            env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _SLOW, "", f"{command[0]} did not answer within {COMMAND_SECONDS:g} s"
    except FileNotFoundError:
        return 127, "", f"{command[0]} is not on PATH"
    return done.returncode, done.stdout, done.stderr


class SlurmLauncher(Launcher):
    """``slurm://`` and ``slurm://user@host``."""

    poll_interval = 5.0
    remote = True

    def __init__(self, runner: Runner = run) -> None:
        self._runner = runner
        self._clusters: dict[str, _Cluster] = {}
        self._folders: dict[str, Path] = {}

    # ---- the three verbs ----------------------------------------------------------------------------------------

    def check(self, description: PilotDescription) -> None:
        """Where, with how many cores, and nothing that would break the lines of a batch script."""
        host = _host(description)
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
                alike.setdefault((_host(job.description), script([job], plain=True)), []).append(number)
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

    def _cluster(self, host: str) -> _Cluster:
        if host not in self._clusters:
            self._clusters[host] = _Cluster(host, self._runner)
        return self._clusters[host]


class _Cluster:
    """One Slurm: its commands, and what is known of our jobs there."""

    def __init__(self, host: str, runner: Runner) -> None:
        self._host = host
        self._runner = runner
        self._prefix: tuple[str, ...] = _connection(self) if host else ()
        self._watched: dict[str, _Watched] = {}
        self._poll: _Poll | None = None
        self._asked = -math.inf
        self._has_sacct: bool | None = None

    def call(self, command: Sequence[str], input: str = "") -> tuple[int, str, str]:
        """Run one of Slurm's commands, where the cluster is."""
        words = (*self._prefix, shlex.join(command)) if self._host else tuple(command)
        return self._runner(words, input)

    def _patiently(self, command: Sequence[str], input: str = "") -> tuple[int, str, str]:
        """`call`, again after a while when Slurm is too busy."""
        for seconds in (*BACK_OFF, 0.0):
            code, output, errors = self.call(command, input)
            if not code or not _BUSY.search(errors) or not seconds:
                break
            log.warning("%s: %s; trying again in %g s", command[0], errors.strip(), seconds)
            time.sleep(seconds)
        return code, output, errors

    # ---- submit -------------------------------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> str:
        """The number of the job, or job array, that these have become."""
        folder = jobs[0].folder
        text = script(jobs)
        path = folder / "job.sh"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        if len(jobs) > 1:
            for index, job in enumerate(jobs):  # where sbatch's --output=…%a leads
                link = folder / f"array-{index}.log"
                link.unlink(missing_ok=True)
                link.symlink_to(job.log_path)
        sbatch = ("sbatch", "--parsable")
        if self._host:
            visible = f"test -r {shlex.quote(str(path))} || exit {_NOT_VISIBLE}; exec {shlex.join(sbatch)}"
            code, output, errors = self._patiently(("sh", "-c", visible), text)
        else:
            code, output, errors = self._patiently((*sbatch, str(path)))
        if code == _NOT_VISIBLE and self._host:
            raise JobRefused(
                f"the session folder is not visible on {self._host}: {path} cannot be read there. Give the manager a "
                "session_dir on a file system that this host, the login node and the compute nodes share"
            )
        if code:
            where = f" on {self._host}" if self._host else ""
            if _BUSY.search(errors) or code in (_SLOW, _SSH_FAILED if self._host else None):
                raise PilotError(f"sbatch{where} cannot be asked: {_words(errors)}")
            raise JobRefused(f"sbatch{where} refused the job: {_words(errors) or f'code {code}'} (script: {path})")
        number = output.split()[-1].partition(";")[0] if output.split() else ""
        if not number.isdigit():
            raise PilotError(f"sbatch gave no job id but {output!r}")
        return number

    # ---- status -------------------------------------------------------------------------------------------------

    def watch(self, ids: Sequence[str], folders: Sequence[Path]) -> None:
        """These jobs have just been submitted."""
        for id, folder in zip(ids, folders, strict=True):
            self._watched[id] = _Watched(id, folder)
            self._watched[id].is_new = True

    def look(self, folders: Mapping[str, Path], interval: float) -> dict[str, tuple[JobState, str]]:
        """What is known of these jobs; asks squeue when its last answer is older than ``interval`` seconds."""
        for id, folder in folders.items():
            self._watched.setdefault(id, _Watched(id, folder)).read()
        now = time.monotonic()
        open_ids = [id for id in folders if self._watched[id].open]
        idle = self._poll is None or self._poll.answered.is_set()
        if open_ids and idle and now - self._asked >= interval:
            self._asked = now
            self._poll = _Poll(self, open_ids)
        if self._poll is not None:
            self._poll.answered.wait(max(0.0, self._asked + STATUS_SECONDS - time.monotonic()))
            if self._poll.answered.is_set() and not self._poll.taken:
                self._poll.taken = True
                for id in self._poll.ids:
                    if id in self._watched:
                        self._watched[id].take(self._poll)
        return {id: self._watched[id].state() for id in folders}

    def ask(self, ids: Sequence[str]) -> tuple[dict[str, Shown], str]:
        """What squeue, then sacct, know of these jobs; and what is wrong when squeue cannot be asked."""
        code, output, errors = self.call((*_SQUEUE, f"--jobs={','.join(ids)}"))
        if code and "Invalid job id" not in errors:
            return {}, _words(errors) or f"squeue ended with code {code}"
        found = {}
        for line in output.splitlines():
            id, state, nodes, reason = (line.split(_SEPARATOR, 3) + [""] * 3)[:4]
            found[id] = (state, nodes, reason)
        missing = [id for id in ids if id not in found]
        if missing and self._has_sacct is not False:
            found |= self._account(missing)
        return {id: found[id] for id in ids if id in found}, ""

    def _account(self, ids: Sequence[str]) -> dict[str, Shown]:
        code, output, errors = self.call((*_SACCT, f"--jobs={','.join(ids)}"))
        if code:
            if not _BUSY.search(errors):
                self._has_sacct = False
            return {}
        self._has_sacct = True
        found = {}
        for line in output.splitlines():
            id, state, nodes, exit_code = (line.split(_SEPARATOR, 3) + [""] * 3)[:4]
            word, _, by = state.partition(" ")  # "CANCELLED by 1000"
            found[id] = (word, "" if nodes == "None assigned" else nodes, by or f"exit code {exit_code}")
        return found

    # ---- cancel -------------------------------------------------------------------------------------------------

    def cancel(self, folders: Mapping[str, Path | None]) -> None:
        """End these jobs; asks squeue only about those whose own file does not say that they have ended."""
        watched = {id: self._watched.get(id) or _Watched(id, folder) for id, folder in folders.items()}
        for id in watched:
            self._watched.pop(id, None)
        left = {id for id, one in watched.items() if not one.is_over()}
        if not left:
            return
        # A signal to a job that is pending would make scancel wait for its start: requeued ones are not among these.
        started = {id for id in left if watched[id].has_started() and not watched[id].is_pending()}
        self._scancel(left - started)
        self._scancel(started, "--state=RUNNING", "--signal=TERM", "--full")
        deadline = time.monotonic() + GRACE_SECONDS
        while not all(watched[id].has_ended() for id in started) and time.monotonic() < deadline:
            time.sleep(0.05)
        stubborn = {id for id in started if not watched[id].has_ended()}
        self._scancel(
            stubborn, "--state=RUNNING", "--signal=KILL", "--full"
        )  # scancel alone kills after 6 to 10 s, and nothing can be
        self._scancel(stubborn)  # sent to a job any more once it was cancelled
        left = stubborn | (left - started)
        deadline = time.monotonic() + CANCEL_SECONDS
        while left and (left := left & self._unfinished(left)):
            if time.monotonic() > deadline:
                raise PilotError(f"Slurm jobs {', '.join(sorted(left))} do not end: look at squeue, then scancel")
            time.sleep(0.5)

    def _scancel(self, ids: Iterable[str], *options: str) -> None:
        if not (ids := sorted(ids)):
            return
        code, _, errors = self._patiently(("scancel", *options, *ids))
        if code and not re.search("Invalid job id|already complet|not running", errors):
            raise PilotError(f"scancel failed, these jobs may still run: {', '.join(sorted(ids))}: {_words(errors)}")

    def _unfinished(self, ids: Iterable[str]) -> set[str]:
        found, trouble = self.ask(sorted(ids))
        if trouble:
            return set(ids)
        return {id for id, (state, *_) in found.items() if not _is_final(state)}


class _Poll:
    """One question to squeue, asked in a thread: without a controller it takes 18 s to fail."""

    def __init__(self, cluster: _Cluster, ids: Sequence[str]) -> None:
        self.ids = ids
        self.begun = time.monotonic()
        self.found: dict[str, Shown] = {}
        self.trouble = ""
        self.taken = False
        self.answered = threading.Event()
        threading.Thread(target=self._run, args=(cluster,), name="pilot-squeue", daemon=True).start()

    def _run(self, cluster: _Cluster) -> None:
        try:
            self.found, self.trouble = cluster.ask(self.ids)
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
        finally:
            self.answered.set()


class _Watched:
    """What is known of one job: what its own files say, and what squeue said last."""

    def __init__(self, id: str, folder: Path | None) -> None:
        self._id = id
        self._folder = folder
        #: It was submitted in this process.
        self.is_new = False
        self._started: list[str] | None = None
        self._seen_started = math.inf
        self._ended: list[str] | None = None
        self._shown: Shown | None = None
        self._asked = -math.inf
        self._unknown = 0
        self._trouble = ""
        self._warned = ""
        self._last: JobState | None = None

    def read(self) -> None:
        """Read the job's files."""
        if self._started is None and (words := self._file("started")) is not None:
            self._started, self._seen_started = words, time.monotonic()
        if self._ended is None:
            self._ended = self._file("ended")

    def _file(self, name: str) -> list[str] | None:
        """The words behind the id; None when there is no such file, or it is about an earlier job of this pilot."""
        if self._folder is None:
            return None
        try:
            id, *words = (self._folder / name).read_text().split()
        except (OSError, ValueError):
            return None
        return words if id == self._id else None

    def take(self, poll: _Poll) -> None:
        """Take over what a poll says."""
        self._trouble = poll.trouble
        if poll.trouble:
            return
        self._asked = poll.begun
        shown = poll.found.get(self._id)
        self._unknown = 0 if shown is not None else self._unknown + 1
        self._shown = shown or self._shown
        state, words = self._judge()
        reason = self._shown[2] if self._shown is not None else ""
        if state is JobState.QUEUED and reason in NEVER and reason != self._warned:
            self._warned = reason
            log.warning("Slurm job %s is %s", self._id, words)

    @property
    def open(self) -> bool:
        """True while squeue has something to say that its files and it have not said yet."""
        return self.state()[0] in (JobState.UNKNOWN, JobState.QUEUED, JobState.RUNNING)

    def is_over(self) -> bool:
        """True when nothing of it is left to be cancelled, as far as is known."""
        self.read()
        if self._shown is not None and _is_final(self._shown[0]):
            return True
        state, _ = self._judge()
        return state in (JobState.ENDED, JobState.EXPIRED)

    def has_started(self) -> bool:
        """True when its script runs or ran, as far as is known."""
        self.read()
        return self._started is not None or (self._shown is not None and self._shown[0] == "RUNNING")

    def is_pending(self) -> bool:
        """True when squeue said so after all that its files say."""
        return self._judge()[0] in (JobState.QUEUED, JobState.TAKEN)

    def has_ended(self) -> bool:
        """True when its script has come to its end."""
        self.read()
        return self._ended is not None

    def state(self) -> tuple[JobState, str]:
        """Its state, and the words for it."""
        state, words = self._judge()
        return state, f"Slurm job {self._id}: {words}"

    def _judge(self) -> tuple[JobState, str]:
        shown = self._shown
        name = shown[0] if shown is not None else ""
        state = STATES.get(name, JobState.UNKNOWN)
        if state in (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED):
            return state, self._describe_end(name)
        if self._ended is not None and "TERM" not in self._ended:
            if "USR1" in self._ended:
                return JobState.EXPIRED, "its walltime was nearly over, and the agents ended"
            return JobState.ENDED, f"the agents ended with code {self._ended[0]}"
        if self._unknown >= FORGOTTEN_POLLS:
            if self._ended is not None:
                return JobState.ENDED, f"the job was ended from outside, with code {self._ended[0]}"
            return JobState.ENDED, "Slurm does not know it any more"
        if self._trouble:
            return JobState.UNKNOWN, f"squeue cannot be asked: {self._trouble}"
        if state is JobState.QUEUED:
            return self._judge_queued(name)
        if self._ended is not None:
            return JobState.RUNNING, "was told to end, and ends"
        if state is JobState.RUNNING and shown is not None:
            return state, f"{name} on {shown[1]}" if shown[1] else name
        if name:
            return JobState.UNKNOWN, f"{name}, a state that is not known here"
        if self._started is not None:
            return JobState.RUNNING, f"RUNNING on {' '.join(self._started)}"
        if self.is_new:
            return JobState.QUEUED, "submitted"
        return JobState.UNKNOWN, "squeue has not said anything of it yet"

    def _judge_queued(self, name: str) -> tuple[JobState, str]:
        assert self._shown is not None
        reason = self._shown[2]
        if self._started is not None:
            if self._asked > self._seen_started:
                return JobState.TAKEN, f"it was requeued ({name}: {reason})"
            return JobState.RUNNING, f"RUNNING on {' '.join(self._started)}"
        if name == "CONFIGURING":
            return JobState.QUEUED, f"its nodes {self._shown[1]} are being started"
        if reason in ("", "None"):
            return JobState.QUEUED, "pending"
        advice = NEVER.get(reason, "").format(id=self._id)
        return JobState.QUEUED, f"pending: {reason}" + (f", it will never start like this: {advice}" if advice else "")

    def _describe_end(self, name: str) -> str:
        assert self._shown is not None
        _, nodes, reason = self._shown
        words = name
        if reason and reason != "None":
            words += f" {reason}" if reason.startswith("by ") else f" ({reason})"
        if nodes:
            words += f" on {nodes}"
        if self._ended is not None:
            words += f"; the agents ended with code {self._ended[0]}"
        return words


# ---- the batch script ---------------------------------------------------------------------------------------------


def script(jobs: Sequence[Job], *, plain: bool = False) -> str:
    """The batch script for jobs that differ in nothing but pilot, mark and folder; as an array when there are several.

    ``plain``: without what they may differ in, to find out which ones are alike.
    """
    wanted = jobs[0].description
    options = [] if plain else _identity(jobs)
    options += [f"#SBATCH {_option(option)}" for option in _options(wanted)]
    raw = wanted.scheduler_script_commands
    options += [line for line in raw if line.startswith("#SBATCH")]
    pilots = [] if plain else [_pilot(index, job) for index, job in enumerate(jobs)]
    prepare = [*_prepare(wanted), *(line for line in raw if not line.startswith("#SBATCH"))]
    if plain:
        prepare += [f"{name}={value}" for name, value in sorted(wanted.environment.items())]
    template = _Template(files(__package__).joinpath("slurm_job.sh").read_text())
    return template.substitute(
        options="\n".join(options),
        pilots="\n".join(pilots),
        prepare="\n".join(prepare),
        step=_step(wanted),
    )


def _identity(jobs: Sequence[Job]) -> list[str]:
    names = [job.description.name or job.pilot for job in jobs]
    output = str(jobs[0].log_path)
    lines = [f"--job-name={names[0] if len(jobs) == 1 else f'{names[0]}..{names[-1]}'}"]
    if len(jobs) > 1:
        lines.append(f"--array=0-{len(jobs) - 1}")
        output = str(jobs[0].folder / "array-").replace("%", "%%") + "%a.log"
    else:
        output = output.replace("%", "%%")
    return [f"#SBATCH {_option(line)}" for line in (*lines, f"--output={output}", "--open-mode=append")]


def _options(wanted: PilotDescription) -> list[str]:
    """sbatch's options for the fields of a description."""
    options = {
        "partition": wanted.queue,
        "qos": wanted.qos,
        "account": wanted.project,
        "reservation": wanted.reservation,
        "constraint": wanted.constraint,
        "gres": wanted.gres,
        "licenses": wanted.licenses,
        "nodes": wanted.number_of_nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": wanted.cores_per_node,
    }
    if wanted.gpus_per_node and "gpu" not in _gres_names(wanted.gres or ""):
        options["gpus-per-node"] = wanted.gpus_per_node
    if isinstance(wanted.memory, int):
        options["mem"] = f"{math.ceil(wanted.memory / 2**20)}M"
    if isinstance(wanted.walltime, timedelta):
        seconds = wanted.walltime.total_seconds()
        minutes = max(1, math.ceil(seconds / 60))
        early = math.ceil(wanted.drain_seconds)
        early += SIGNAL_MARGIN if early + SIGNAL_MARGIN < seconds else 0
        options |= {"time": minutes, "signal": f"B:USR1@{max(1, min(early, 65535))}"}
    lines = [f"--{name}={value}" for name, value in options.items() if value is not None]
    if wanted.exclusive:
        lines.append("--exclusive")
    lines.append("--no-requeue")  # the manager starts a pilot again by itself, sooner than Slurm, which waits for 120 s
    if wanted.number_of_nodes > 1:
        lines.append("--no-kill")
    return lines


def _gres_names(gres: str) -> set[str]:
    """What sbatch's ``--gres`` asks for: of ``[gres/]NAME[:TYPE][:NUMBER],…`` the names."""
    return {re.split("[:=]", one.strip().removeprefix("gres/").removeprefix("gres:"))[0] for one in gres.split(",")}


def _option(option: str) -> str:
    """An option as sbatch reads it in a script: in quotes when it has blanks, quotes or a comment's sign."""
    name, equals, value = option.partition("=")
    return f"{name}{equals}{shlex.quote(value)}" if equals else name


def _step(wanted: PilotDescription) -> str:
    """srun's options. All of them are given: from the job's environment it would take other ones."""
    nodes = wanted.number_of_nodes
    words = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={wanted.cores}"]
    words += ["--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--export=ALL", "--unbuffered"]
    return shlex.join([*words, "--no-kill"] if nodes > 1 else words)


def _prepare(wanted: PilotDescription) -> list[str]:
    lines = [f"module load {shlex.quote(module)}" for module in wanted.modules]
    if wanted.conda_environment:
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {shlex.quote(wanted.conda_environment)}"]
    if wanted.venv:
        lines.append(f". {shlex.quote(f'{wanted.venv}/bin/activate')}")
    return lines


def _pilot(index: int, job: Job) -> str:
    """The branch of the script that knows the folder, environment and command of one pilot."""
    environment = dict(job.environment)
    if _host(job.description) and (paths := os.environ.get("PYTHONPATH")):
        environment.setdefault("PYTHONPATH", paths)
    mark = [f"{MARK}={value}" for name, value in environment.items() if name == MARK]
    words = ["env", *mark, *_command(job)] if mark else _command(job)  # srun is not marked: the agent ends what is
    exports = [f"        export {name}={shlex.quote(value)}" for name, value in environment.items() if name != MARK]
    lines = [
        f"{index})",
        f"    folder={shlex.quote(str(job.folder))}",
        "    enter() {",
        *exports,
        f"        agent=({shlex.join(words)})",
        "    }",
        "    ;;",
    ]
    return "\n".join(lines)


def _command(job: Job) -> Sequence[str]:
    """The agent's command line, with the Python of the environment that the description names."""
    program, *arguments = job.command
    wanted = job.description
    if program == sys.executable:
        if wanted.venv:
            program = f"{wanted.venv}/bin/python"
        elif wanted.conda_environment:
            program = "python"
    return (*wanted.container, program, *arguments)


# ---- hosts --------------------------------------------------------------------------------------------------------


def _host(description: PilotDescription) -> str:
    """Where Slurm's commands run: ``user@host:port`` as it was given, "" for this host."""
    where = description.resource.partition("://")[2].rstrip("/")
    if where in ("", "localhost"):
        return ""
    if not _HOST.fullmatch(where):
        raise description.wrong("resource", "slurm://, slurm://localhost, slurm://host, or slurm://user@host:port")
    return where


def _is_final(state: str) -> bool:
    """True when a job in this state of Slurm's will never run (again)."""
    return STATES.get(state) in (JobState.ENDED, JobState.EXPIRED, JobState.CANCELLED) or state in (
        "BOOT_FAIL", "LAUNCH_FAILED", "NODE_FAIL", "PREEMPTED", "RECONFIG_FAIL", "REVOKED"
    )  # fmt: skip


def _by_host(native_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """By host, Slurm's ids with our native ids, which are ``17``, ``17_3``, or ``17@user@host``."""
    hosts: dict[str, dict[str, str]] = {}
    for native_id in native_ids:
        id, _, host = native_id.partition("@")
        hosts.setdefault(host, {})[id] = native_id
    return hosts


def _connection(owner: object) -> tuple[str, ...]:
    """Words of an ssh command line up to the remote command; the shared connection ends with ``owner``."""
    assert isinstance(owner, _Cluster)
    match = _HOST.fullmatch(owner._host)
    assert match is not None
    folder = tempfile.mkdtemp(prefix="pilot-ssh-")
    options = ("BatchMode=yes", "ControlMaster=auto", "ControlPersist=60", f"ControlPath={folder}/%C")
    command = [*shlex.split(os.environ.get(SSH, "ssh")), *(word for option in options for word in ("-o", option))]
    if match["port"]:
        command += ["-p", match["port"]]
    if match["user"]:
        command += ["-l", match["user"]]
    weakref.finalize(owner, _disconnect, [*command, "-O", "exit", match["host"]], folder)
    return (*command, match["host"], "--")


def _disconnect(command: Sequence[str], folder: str) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


def _words(errors: str) -> str:
    """What a command said, in one line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return "; ".join(line.removeprefix("sbatch: error: ").removeprefix("squeue: error: ") for line in lines)
