"""PSI/J's executors as we use them: no work for its own signal handler, and a Slurm one that tells the truth.

What is wrong with `SlurmJobExecutor` of psij-python 0.9.11, and is put right here:

- ``squeue``'s table is split at blanks: one job of the user's with a reason of several words ("Nodes required for job
  are DOWN...") stops all news for ever; so does a state or reason that is in no table, such as ``None`` of a preempted
  job. Here: ``squeue -o '%i|%T|%r'``, and unknown words are passed on as they are.
- Pending reasons, requeues, and why a job ended are lost. Here: `SlurmExecutor.reports` has Slurm's last words.
- Two polls that ``slurmctld`` does not answer make all jobs FAILED. Here: no number of them does.
- ``#SBATCH`` values are quoted twice, and options without a value cannot be given. Here: they are written as they are.
"""

from __future__ import annotations

import io
import logging
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
from pilot_plugins.slurm_states import STATES, is_final

# psij.executors.local takes SIGCHLD when it is imported in the main thread, and complains in any other; it does not
# need it: without, it looks every 0.1 s.
logging.getLogger("psij.executors.local").setLevel(logging.ERROR)
_sigchld = signal.getsignal(signal.SIGCHLD)

import psij  # noqa: E402
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig  # noqa: E402
from psij.executors.batch.slurm import SlurmExecutorConfig, SlurmJobExecutor  # noqa: E402
from psij.executors.local import LocalJobExecutor  # noqa: E402

if threading.current_thread() is threading.main_thread() and _sigchld is not None:
    signal.signal(signal.SIGCHLD, _sigchld)

__all__ = ["POLL_SECONDS", "LocalExecutor", "SlurmExecutor", "common", "make", "names", "psij"]

log = logging.getLogger(__name__)

#: Seconds between two looks at a queue, for all its jobs together.
POLL_SECONDS = 5
#: Seconds that a command of the resource manager's may take.
COMMAND_SECONDS = 30.0


class SlurmExecutor(SlurmJobExecutor):
    """PSI/J's Slurm executor with the repairs that the module's text lists."""

    _NAME_ = "slurm"
    _VERSION_ = psij.__version__

    def __init__(self, config: SlurmExecutorConfig) -> None:
        #: Slurm's last words by job id: state, reason, and when it was asked (`time.monotonic`).
        self.reports: dict[str, tuple[str, str, float]] = {}
        #: Lines for the batch script, by PSI/J's own id of a job that is about to be submitted.
        self.lines: dict[str, tuple[str, ...]] = {}
        self._asked = threading.local()  # when the thread began to ask: PSI/J's, or the one that calls `ask`
        super().__init__(config=config)

    def get_status_command(self, native_ids: Collection[str]) -> list[str]:
        self._asked.at = time.monotonic()
        return ["squeue", "--noheader", "--me", "--states=all", "--format=%i|%T|%r"]

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, psij.JobStatus]:
        if exit_code != 0:
            raise RuntimeError(f"squeue ended with code {exit_code}: {out.strip()}")
        found = {}
        for line in out.splitlines():
            if line.count("|") < 2:
                continue
            native_id, state, reason = line.split("|", 2)
            if self._asked.at >= self.reports.get(native_id, ("", "", 0.0))[2]:  # not older than what is known
                self.reports[native_id] = (state, reason, self._asked.at)
            found[native_id] = psij.JobStatus(psij.JobState[common(state)], message=reason)
        return found

    def generate_submit_script(self, job: psij.Job, context: dict[str, object], submit_file: IO[str]) -> None:
        given: Any = context.get("custom_attributes") or {}
        options = [_option(one["key"], str(one["value"])) for one in given.pop("slurm", ())]
        text = io.StringIO()
        super().generate_submit_script(job, context, text)
        shebang, rest = text.getvalue().split("\n", 1)
        submit_file.write("\n".join([shebang, *options, *self.lines.pop(job.id, ()), rest]))

    def ask(self) -> dict[str, psij.JobStatus] | None:
        """What Slurm says now of this user's jobs, by their ids; None when it does not answer."""
        command = self.get_status_command(())
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
            return self.parse_status_output(done.returncode, done.stdout or done.stderr)
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            log.warning("squeue cannot be asked: %s", error)
            return None


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


def make(name: str, folder: Path) -> psij.JobExecutor:
    """A new executor that keeps its files below ``folder``, which the jobs' hosts must see; or below ~/.psij when that
    path has blanks or the like, with which PSI/J's scripts do not work.

    Raises:
        ValueError: PSI/J cannot load it; the message says why.
    """
    options: dict[str, Any] = {"queue_polling_interval": POLL_SECONDS, "initial_queue_polling_delay": 1}
    work = folder / "psij"
    if shutil.which("bash") is None:
        raise ValueError("PSI/J's launchers need bash, which is not there")
    if shlex.quote(str(work)) != str(work):  # its scripts do not quote their own path
        work = psij.JobExecutorConfig.DEFAULT_WORK_DIRECTORY
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    if name == "slurm":
        config = SlurmExecutorConfig(work_directory=work, queue_polling_error_threshold=10**9, **options)
        return SlurmExecutor(config)
    if name == "local":
        return LocalExecutor(config=psij.JobExecutorConfig(work_directory=work))
    others = BatchSchedulerExecutorConfig(work_directory=work, queue_polling_error_threshold=10**9, **options)
    return psij.JobExecutor.get_instance(name, config=others)


def common(state: str) -> str:
    """The name of PSI/J's state for a state of Slurm's (squeue(1), JOB STATE CODES)."""
    if is_final(state):
        return {"COMPLETED": "COMPLETED", "CANCELLED": "CANCELED"}.get(state, "FAILED")
    return "QUEUED" if STATES.get(state) in (JobState.QUEUED, JobState.TAKEN) else "ACTIVE"
