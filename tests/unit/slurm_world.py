"""Slurm's commands, played: what a launcher is answered, by a Slurm and by sites that change what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Answer = tuple[int, str, str]

INVALID = "slurm_load_jobs error: Invalid job id specified"


@dataclass
class PlayedJob:
    name: str
    cluster: str = ""
    state: str = "PENDING"


@dataclass
class Played:
    """Slurm's commands on a list of jobs. A site's ways are functions that change an answer."""

    jobs: dict[str, PlayedJob] = field(default_factory=dict)
    #: Where jobs go that are submitted without --clusters.
    cluster: str = ""
    sbatch: Callable[[Answer], Answer] = lambda answer: answer
    squeue: Callable[[Answer], Answer] = lambda answer: answer
    scontrol: Callable[[Answer], Answer] = lambda answer: answer
    calls: list[tuple[str, ...]] = field(default_factory=list)
    next: int = 17

    def __call__(self, command: Sequence[str], input: str = "") -> Answer:
        self.calls.append(tuple(command))
        options = dict(one.partition("=")[::2] for one in command[1:] if one.startswith("--"))
        words = [one for one in command[1:] if not one.startswith("--")]
        answer: Answer = getattr(self, f"_{command[0]}")(options, words)
        change: Callable[[Answer], Answer] | None = getattr(self, command[0], None)
        return change(answer) if change else answer

    def _sbatch(self, options: dict[str, str], words: list[str]) -> Answer:
        number, self.next = str(self.next), self.next + 1
        cluster = options.get("--clusters", self.cluster).partition(",")[0]
        self.jobs[number] = PlayedJob(options["--job-name"], cluster)
        return 0, number + (f";{cluster}" if cluster else "") + "\n", ""

    def _of(self, options: dict[str, str]) -> dict[str, PlayedJob]:
        cluster = options.get("--clusters", "")
        return {number: job for number, job in self.jobs.items() if job.cluster == cluster}

    def _squeue(self, options: dict[str, str], words: list[str]) -> Answer:
        jobs = self._of(options)
        wanted = options.get("--jobs", ",".join(jobs)).split(",")
        lines = [
            f"{number}|{number}|{job.state}|{job.name}||None\n"
            for number, job in jobs.items()
            if number in wanted and options.get("--name", job.name) == job.name
        ]
        return (0, "".join(lines), "") if lines or len(wanted) > 1 else (1, "", INVALID)

    def _scontrol(self, options: dict[str, str], words: list[str]) -> Answer:
        jobs = self._of(options)
        wanted = words[2:] or list(jobs)
        lines = [
            f"JobId={number} JobName={job.name} JobState={job.state} Reason=None ReqNodeList=c9 NodeList=(null)\n"
            for number, job in jobs.items()
            if number in wanted
        ]
        return (0, "".join(lines), "") if lines else (1, "", INVALID)

    def _sacct(self, options: dict[str, str], words: list[str]) -> Answer:
        return 1, "", "Slurm accounting storage is disabled"

    def _sinfo(self, options: dict[str, str], words: list[str]) -> Answer:
        return 0, "debug\nregular\n", ""

    def _sacctmgr(self, options: dict[str, str], words: list[str]) -> Answer:
        return 0, {"format=account": "m1\nm2\nm1\n", "format=qos": "normal,high\n"}[words[2]], ""

    def _scancel(self, options: dict[str, str], words: list[str]) -> Answer:
        for number, job in self._of(options).items():
            if number in words and options.get("--name", job.name) == job.name and "--signal" not in options:
                job.state = "CANCELLED"
        return 0, "", ""


#: What a site may make of squeue's answer: it says nothing of a job that runs.
NOTHING_OF_IT: dict[str, Callable[[Answer], Answer]] = {
    "empty": lambda answer: (0, "", ""),
    "blank lines": lambda answer: (0, "\n \n", ""),
    "invalid job id": lambda answer: (1, "", INVALID),
    "another code": lambda answer: (3, "", ""),
    "no controller": lambda answer: (1, "", "slurm_load_jobs error: Unable to contact slurm controller"),
    "too slow": lambda answer: (124, "", "squeue did not answer within 60 s"),
    "not there": lambda answer: (127, "", "squeue is not on PATH"),
    "killed": lambda answer: (-9, "", ""),
    "a page of HTML": lambda answer: (0, "<html><body>502|Bad|Gateway</body></html>\n", ""),
    "half a line": lambda answer: (0, answer[1][:6], ""),
    "without a state": lambda answer: (0, re.sub(r"\|[A-Z]+\|", "||", answer[1]), ""),
    "others' jobs": lambda answer: (0, "25|25|COMPLETED|foreign|c1|None\n", ""),
    "our number, another's name": lambda answer: (0, "17|17|COMPLETED|foreign|c1|None\n", ""),
    "a header": lambda answer: (0, "JOBID|ARRAY|STATE|NAME|NODES|REASON\n", ""),
    "in the queue again": lambda answer: (0, answer[1].replace("RUNNING", "PENDING"), ""),
}

#: What a site may make of sbatch's answer, when the job was taken.
PRINTED: dict[str, Callable[[Answer], Answer]] = {
    "as it is": lambda answer: answer,
    "text behind": lambda answer: (0, f"{answer[1]} *** Remaining balance: low ***\n", ""),
    "a number behind": lambda answer: (0, f"{answer[1]}Core hours left in project demo: 25\n", ""),
    "a number alone behind": lambda answer: (0, f"{answer[1]}25\n", ""),
    "a number alone before": lambda answer: (0, f"25\n{answer[1]}", ""),
    "numbers alone around": lambda answer: (0, f"25\n{answer[1]}5\n", ""),
    "a banner before": lambda answer: (0, f"*********\n* Welcome to cluster 25 *\n*********\n{answer[1]}", ""),
    "colours": lambda answer: (0, f"\x1b[32mOK\x1b[0m 25\n{answer[1]}\x1b[0m\n", ""),
    "ends of line of DOS": lambda answer: (0, f"Hello\r\n{answer[1].strip()}\r\n", ""),
    "not parsable": lambda answer: (0, f"Submitted batch job {answer[1]}", ""),
    "nothing": lambda answer: (0, "", ""),
    "only another number": lambda answer: (0, "Budget left:\n25\n", ""),
    "fails behind": lambda answer: (1, answer[1], "accounting.sh: line 3: no such project\n"),
    "fails behind, silent": lambda answer: (1, "", ""),
    "killed behind": lambda answer: (-15, "", ""),
    "too slow": lambda answer: (124, "", "sbatch did not answer within 60 s"),
    "a lost answer": lambda answer: (
        1,
        "",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (receive failure)\n",
    ),
    "no answer of the controller": lambda answer: (
        1,
        "",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    ),
}
