"""PSI/J's executors as we use them: no work for its own signal handler, and a Slurm one that reports states correctly.

Faults of `SlurmJobExecutor` of psij-python 0.9.11 that are corrected here:

- ``squeue``'s table is split at blanks: one job of the user's with a reason of several words ("Nodes required for job
  are DOWN...") stops all further updates; so does a state or reason that is in no table, such as ``None`` of a
  preempted job. Here: `slurm.cluster.Cluster` asks, and unknown states are passed on unchanged.
- A job that ``squeue`` does not show counts as completed. Here: it is missing, which is not an end.
- The last word that ``sbatch`` prints is the job's number. Here: `slurm.submission.submit` submits, and ``scancel`` is
  given the job's name too.
- Pending reasons, requeues, and why a job ended are lost. Here: `SlurmExecutor.reports` has Slurm's last report.
- Two polls that ``slurmctld`` does not answer make all jobs FAILED. Here: no number of them does.
- ``#SBATCH`` values are quoted twice, and options without a value cannot be given. Here: they are written as they are.

Its templates for PBS, LSF and Cobalt quote some values twice as well, such as "rusage[mem=1]": see `_quote_once`.
"""

from __future__ import annotations

import io
import logging
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from pilot.interfaces import JobState
from pilot_plugins.launchers.slurm.cluster import Cluster
from pilot_plugins.launchers.slurm.hosts import Host, run
from pilot_plugins.launchers.slurm.ids import SlurmId
from pilot_plugins.launchers.slurm.states import FORGOTTEN_POLLS, STATES, is_final
from pilot_plugins.launchers.slurm.submission import Loose, only, submit

# psij.executors.local takes SIGCHLD when it is imported in the main thread, and complains in any other; it does not
# need it: without, it looks every 0.1 s.
logging.getLogger("psij.executors.local").setLevel(logging.ERROR)
_sigchld = signal.getsignal(signal.SIGCHLD)

import psij  # noqa: E402
from psij.executors.batch.batch_scheduler_executor import (  # noqa: E402
    BatchSchedulerExecutor,
    BatchSchedulerExecutorConfig,
)
from psij.executors.batch.slurm import SlurmExecutorConfig, SlurmJobExecutor  # noqa: E402
from psij.executors.local import LocalJobExecutor  # noqa: E402

if threading.current_thread() is threading.main_thread() and _sigchld is not None:
    signal.signal(signal.SIGCHLD, _sigchld)

__all__ = ["POLL_SECONDS", "LocalExecutor", "SlurmExecutor", "common", "make", "names", "psij"]

log = logging.getLogger(__name__)

#: Seconds between two polls of a queue, for all its jobs together.
POLL_SECONDS = 5
#: A value in two pairs of quotes.
_TWICE = re.compile(r"""\"'([^'"\n]*)'\"""")


class SlurmExecutor(SlurmJobExecutor):
    """PSI/J's Slurm executor with the corrections in the module's docstring."""

    _NAME_ = "slurm"
    _VERSION_ = psij.__version__

    def __init__(self, config: SlurmExecutorConfig) -> None:
        #: Slurm's last report by job id: state, reason, and when it was asked (`time.monotonic`).
        self.reports: dict[str, tuple[str, str, float]] = {}
        #: Polls in a row that did not show a job, by its id.
        self.missing: dict[str, int] = {}
        #: Lines for the batch script, by PSI/J's own id of a job that is about to be submitted.
        self.lines: dict[str, tuple[str, ...]] = {}
        #: Names of jobs, by PSI/J's own id before they are submitted, and by Slurm's.
        self.names: dict[str, str] = {}
        self._host = Host("", run)
        self._loose = Loose(self._host)
        self._cluster = Cluster(self._host, self._loose)
        super().__init__(config=config)

    def _run_command(self, cmd: list[str]) -> str:
        """PSI/J runs all commands through this method."""
        program, *words = cmd
        if program == "sbatch":
            name, path = words
            return submit(self._host, self._loose, Path(path), name, ())[0]
        if program == "squeue":
            self._ask(words)
            self._loose.end()
            return ""
        code, output, errors = self._host.call(cmd)
        if code:
            raise subprocess.CalledProcessError(code, cmd, output=errors or output or f"{program} ended with {code}")
        return output

    def get_submit_command(self, job: psij.Job, submit_file_path: Path) -> list[str]:
        return ["sbatch", self.names[job.id], str(submit_file_path.absolute())]

    def job_id_from_submit_output(self, out: str) -> str:
        return out

    def get_cancel_command(self, native_id: str) -> list[str]:
        return ["scancel", "-Q", *only(self._host, self.names.get(native_id, "")), native_id]

    def get_status_command(self, native_ids: Collection[str]) -> list[str]:
        return ["squeue", *native_ids]

    def _ask(self, native_ids: Collection[str]) -> None:
        asked = time.monotonic()
        found, trouble = self._cluster.ask({SlurmId(id, name=self.names.get(id, "")) for id in native_ids})
        if trouble:
            raise subprocess.CalledProcessError(1, "squeue", output=trouble)
        for id in native_ids:
            self.missing[id] = self.missing.get(id, 0) + 1
        for (id, *_), (state, _, reason) in found.items():
            self.missing[id] = 0
            if asked >= self.reports.get(id, ("", "", 0.0))[2]:  # not older than what is known
                self.reports[id] = (state, reason, asked)

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, psij.JobStatus]:
        """What is known of every job that was asked about: PSI/J takes one that is not among them for completed."""
        if exit_code != 0:
            raise RuntimeError(f"squeue ended with code {exit_code}: {out.strip()}")
        states = {id: self.reports[id][0] if id in self.reports else "PENDING" for id in list(self.missing)}
        return {id: psij.JobStatus(psij.JobState[common(state)]) for id, state in states.items()}

    def generate_submit_script(self, job: psij.Job, context: dict[str, object], submit_file: IO[str]) -> None:
        given: Any = context.get("custom_attributes") or {}
        options = [_option(one["key"], str(one["value"])) for one in given.pop("slurm", ())]
        text = io.StringIO()
        super().generate_submit_script(job, context, text)
        shebang, rest = text.getvalue().split("\n", 1)
        submit_file.write("\n".join([shebang, *options, *self.lines.pop(job.id, ()), rest]))

    def is_missing(self, native_id: str) -> bool:
        """True when several polls in a row did not show a job that has not ended, as far as is known."""
        state, *_ = self.reports.get(native_id, ("", "", 0.0))
        return self.missing.get(native_id, 0) >= FORGOTTEN_POLLS and not is_final(state)

    def is_over(self, native_id: str) -> bool:
        """True when Slurm reports that the job will never run (again), or does not know it."""
        try:
            self._ask([native_id])
        except subprocess.CalledProcessError as error:
            log.warning("squeue cannot be asked: %s", error.output)
            return False
        return self.missing[native_id] > 0 or is_final(self.reports[native_id][0])


class LocalExecutor(LocalJobExecutor):
    """PSI/J's local executor, which leaves no pipe open behind a job."""

    _NAME_ = "local"
    _VERSION_ = psij.__version__

    def _process_done(self, p: Any) -> None:
        try:
            super()._process_done(p)
        except Exception as error:  # it would end PSI/J's thread that waits for all processes
            self._set_job_status(p.job, psij.JobStatus(psij.JobState.FAILED, message=str(error)))
        if (output := getattr(p.process, "stdout", None)) is not None:
            output.close()


def _option(key: str, value: str) -> str:
    return f'#SBATCH --{key}="{value}"' if value else f"#SBATCH --{key}"


def names() -> list[str]:
    """The executors that PSI/J has here; some of them cannot be loaded without their own packages."""
    return sorted(psij.JobExecutor.get_executor_names())


def make(name: str, folder: Path | None) -> psij.JobExecutor:
    """A new executor that keeps its files below ``folder``, which the jobs' hosts must see; or below ~/.psij when there
    is none, or when its path has blanks or the like, with which PSI/J's scripts do not work.

    Raises:
        ValueError: PSI/J cannot load it; the message says why.
    """
    options: dict[str, Any] = {"queue_polling_interval": POLL_SECONDS, "initial_queue_polling_delay": 1}
    work = psij.JobExecutorConfig.DEFAULT_WORK_DIRECTORY if folder is None else folder / "psij"
    if shutil.which("bash") is None:
        raise ValueError("PSI/J's launchers need bash, which was not found")
    if shlex.quote(str(work)) != str(work):  # its scripts do not quote their own path
        work = psij.JobExecutorConfig.DEFAULT_WORK_DIRECTORY
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    if name == "slurm":
        config = SlurmExecutorConfig(work_directory=work, queue_polling_error_threshold=10**9, **options)
        return SlurmExecutor(config)
    if name == "local":
        return LocalExecutor(config=psij.JobExecutorConfig(work_directory=work))
    others = BatchSchedulerExecutorConfig(work_directory=work, queue_polling_error_threshold=10**9, **options)
    executor = psij.JobExecutor.get_instance(name, config=others)
    if isinstance(executor, BatchSchedulerExecutor):
        _quote_once(executor)
    return executor


def _quote_once(executor: BatchSchedulerExecutor) -> None:
    """Have an executor's scripts without quotes around what is in quotes, in directives."""
    generate = executor.generate_submit_script

    def generated(job: psij.Job, context: dict[str, object], submit_file: IO[str]) -> None:
        text = io.StringIO()
        generate(job, context, text)
        for line in text.getvalue().splitlines(keepends=True):
            submit_file.write(_TWICE.sub(r'"\1"', line) if line.startswith("#") else line)

    executor.generate_submit_script = generated  # type: ignore[method-assign]


def common(state: str) -> str:
    """The name of PSI/J's state for a state of Slurm's (squeue(1), JOB STATE CODES)."""
    if is_final(state):
        return {"COMPLETED": "COMPLETED", "CANCELLED": "CANCELED"}.get(state, "FAILED")
    return "QUEUED" if STATES.get(state) in (JobState.QUEUED, JobState.TAKEN) else "ACTIVE"
