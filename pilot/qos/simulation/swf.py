"""Logs of clusters in the Standard Workload Format, version 2.2.

The format: https://www.cs.huji.ac.il/labs/parallel/workload/swf.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pilot.errors import DescriptionError, file_error
from pilot.qos import text_files
from pilot.qos.simulation.jobs import Job, Kind
from pilot.qos.simulation.simulator import LONGEST
from pilot.resources import Resources, Terms
from pilot.scheduling.records import FunctionRecord

#: Numbers of fields, from 0: submission and run time in seconds, processors allocated and requested.
SUBMITTED, RUN_TIME, ALLOCATED, REQUESTED = 1, 3, 4, 7
FIELDS = 18


def read(path: str | Path) -> list[Job]:
    """The jobs of a log, in the order of their submission: MPI tasks with a rank for each processor.

    Jobs without a submission, a run time or processors are left out. The file may be packed (``.xz``).

    Raises:
        DescriptionError: it cannot be read, or a line is not valid.
    """
    file = Path(path)
    try:
        with text_files.opened(file) as lines:
            found = list(_read(lines, str(path)))
    except text_files.ERRORS as error:
        raise DescriptionError(
            f"swf: {path} cannot be read: {file_error(error)}", field="swf", given=str(path)
        ) from error
    if not found:
        raise DescriptionError(f"swf: {path} has no jobs with a run time", field="swf", given=str(path))
    return sorted(found, key=lambda job: job.time)


def _read(lines: Iterable[str], path: str) -> Iterator[Job]:
    kinds: dict[int, Kind] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith(";"):
            continue
        try:
            submitted, seconds = float(words[SUBMITTED]), float(words[RUN_TIME])
            if len(words) != FIELDS or not (submitted <= LONGEST and seconds <= LONGEST):
                raise ValueError
            processors = next((count for at in (REQUESTED, ALLOCATED) if (count := int(words[at])) > 0), 0)
        except (ValueError, IndexError):
            raise DescriptionError(
                f"swf: line {number} of {path} is {line.strip()!r}; expected {FIELDS} numbers, with "
                f"seconds of at most {LONGEST:g}: those of the submission count from the beginning of the log",
                field="swf",
                given=path,
            ) from None
        if submitted < 0 or seconds < 0 or not processors:
            continue
        if processors not in kinds:
            kinds[processors] = Kind(
                name=f"{processors} processors",
                terms=Terms(Resources(num_cpus=1.0, ranks=processors)),
                function=FunctionRecord(1, "swf", "swf"),
            )
        yield Job(submitted, kinds[processors], seconds)
