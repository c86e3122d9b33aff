"""Native ids of jobs: number, cluster, host and name; no other job has that name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from pilot.interfaces import Job
from pilot.wire.marks import MARK

#: Characters of a pilot's name that a job's name keeps: squeue and scancel take lists with commas.
_ODD = re.compile(r"[^A-Za-z0-9_.+-]+")
_ID = re.compile(r"(?P<number>\d+(?:_\d+)?)(?:;(?P<cluster>[\w.-]+))?(?:@(?P<host>[^#]+))?(?:#(?P<name>.+))?")


class SlurmId(NamedTuple):
    """A job of ours, written ``17_3;CLUSTER@USER@HOST#NAME``; all but the number may be missing."""

    #: ``17``, or ``17_3`` in a job array.
    number: str
    #: As sbatch prints it for another cluster than its own; "": that one.
    cluster: str = ""
    #: Where Slurm's commands run, as `host_of` has it; "": here.
    host: str = ""
    #: The job's name, which `unique_name` made; "": not known, as of a job that an older version submitted.
    name: str = ""

    def __str__(self) -> str:
        parts = ((";", self.cluster), ("@", self.host), ("#", self.name))
        return self.number + "".join(f"{sign}{value}" for sign, value in parts if value)

    @property
    def array(self) -> str:
        """The number of the job array that it is in; "": in none."""
        array, line, _ = self.number.partition("_")
        return array if line else ""

    @classmethod
    def read(cls, native_id: str) -> SlurmId:
        """The other way round.

        Raises:
            ValueError: it is not a native id of this launcher.
        """
        if (match := _ID.fullmatch(native_id)) is None:
            raise ValueError(f"{native_id!r} is not a job of Slurm")
        return cls(*match.groups(default=""))


def unique_name(name: str, mark: str) -> str:
    """A name for a job that no other job has: the pilot's, and 12 hexadecimal digits that follow from its mark, which
    is a secret and does not show."""
    return f"{_ODD.sub('-', name)[:64]}.{hashlib.sha256(mark.encode()).hexdigest()[:12]}"


def name_of(jobs: Sequence[Job]) -> str:
    """The name of the job, or job array, that these become."""
    names = [job.description.name or job.pilot for job in jobs]
    mark = jobs[0].environment.get(MARK) or str(jobs[0].folder)
    return unique_name(names[0] if len(jobs) == 1 else f"{names[0]}..{names[-1]}", mark)
