"""The batch script of a pilot's placeholder job, or of a job array for several: ``job.sh``, filled in."""

from __future__ import annotations

import math
import os
import re
import shlex
import string
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import msgspec

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job
from pilot.wire.marks import MARK
from pilot_plugins.launchers import preparation
from pilot_plugins.launchers.slurm.hosts import host_of

#: Seconds before drain at which Slurm's warning comes: it looks at limits every 30 s or so.
SIGNAL_MARGIN = 30

#: Options of sbatch, long and short, that a pilot's job cannot have, and what to do.
_NOT_A_PILOTS = {
    ("array", "a"): "ask for several pilots",
    ("job-name", "J"): "give the pilot a name",
    ("nodes", "N"): "give number_of_nodes",
    ("signal", ""): "give walltime, and drain for how long before its end nothing new is started",
    ("test-only", ""): "see `pilot doctor --site`",
    ("time", "t"): "give walltime",
    ("wait", "W"): "see Pilot.wait",
}
#: The variables of sbatch(1) for fields that a description does not need to give.
_VARIABLES = {
    "queue": "SBATCH_PARTITION",
    "qos": "SBATCH_QOS",
    "project": "SBATCH_ACCOUNT",
    "reservation": "SBATCH_RESERVATION",
    "constraint": "SBATCH_CONSTRAINT",
}
#: What was meant as an option of the batch system's, and is a comment to sbatch or no command to the shell.
_NO_OPTION = re.compile(r"\s+#SBATCH\b.*|\s*#(?!SBATCH)(?i:SBATCH|PBS|BSUB|COBALT)\b.*|\s*-.*")


class _Template(string.Template):
    """``%{name}`` is filled in, ``%%`` stands for one: the dollar is the shell's."""

    delimiter = "%"


def script(jobs: Sequence[Job], *, plain: bool = False) -> str:
    """The batch script for jobs that differ only in pilot, mark and folder; as an array when there are several.

    ``plain``: without the parts that may differ, to find equal ones.
    """
    wanted = jobs[0].description
    options = [] if plain else _identity(jobs)
    options += [f"#SBATCH {_option(option)}" for option in _options(wanted)]
    raw = wanted.scheduler_script_commands
    options += [line for line in raw if line.startswith("#SBATCH")]
    pilots = [] if plain else [_pilot(index, job) for index, job in enumerate(jobs)]
    prepare = [*preparation.prepare(wanted), *(line for line in raw if not line.startswith("#SBATCH"))]
    own = preparation.has_own_python(wanted) and jobs[0].command[0] == sys.executable
    if plain:
        prepare += [f"{name}={value}" for name, value in sorted(wanted.environment.items())]
    template = _Template(files(__package__).joinpath("job.sh").read_text())
    return template.substitute(
        options="\n".join(options),
        pilots="\n".join(pilots),
        functions=preparation.FUNCTIONS if preparation.lines(jobs[0]) else "",
        prepare="\n".join(prepare),
        look="\n".join(preparation.look_at_python(wanted) if own else ()),
        step=_step(wanted),
    )


def write(jobs: Sequence[Job]) -> Path:
    """The file with the batch script of these jobs, in the folder of the first, for its owner alone."""
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
    return path


def completed(wanted: PilotDescription) -> PilotDescription:
    """The description with what the environment of this process says, on this host, of fields that are not given."""
    values = {} if host_of(wanted) else {field: os.environ.get(name) or None for field, name in _VARIABLES.items()}
    return msgspec.structs.replace(
        wanted, **{field: value for field, value in values.items() if value and getattr(wanted, field) is None}
    )


def given_options(wanted: PilotDescription) -> list[tuple[str, str]]:
    """sbatch's options that the description has as ``#SBATCH`` lines: name, long or one letter, and value."""
    options: list[tuple[str, str]] = []
    for line in wanted.scheduler_script_commands:
        words = shlex.split(line.removeprefix("#SBATCH"), comments=True) if line.startswith("#SBATCH") else []
        for word in words:
            if word.startswith("--"):
                name, _, value = word[2:].partition("=")
                options.append((name, value))
            elif word.startswith("-") and len(word) > 1:
                options.append((word[1], word[2:].removeprefix("=")))
            elif options and not options[-1][1]:
                options[-1] = (options[-1][0], word)
    return options


def check_options(wanted: PilotDescription) -> None:
    """Raise DescriptionError for ``#SBATCH`` lines under which the pilot's job could not be followed, and for those
    that Slurm would not read."""
    for line in wanted.scheduler_script_commands:
        if _NO_OPTION.fullmatch(line):
            expected = f'commands, and options of sbatch in lines that begin with "#SBATCH "; not {line!r}'
            raise wanted.wrong("scheduler_script_commands", expected)
    try:
        given = given_options(wanted)
    except ValueError as error:
        raise wanted.wrong("scheduler_script_commands", f"#SBATCH lines that a shell can read: {error}") from None
    if any(re.match(r"#SBATCH\s+(het|pack)job\b", line) for line in wanted.scheduler_script_commands):
        raise wanted.wrong("scheduler_script_commands", "#SBATCH lines of one job: ask for another pilot")
    for name, _ in given:
        for (long, short), advice in _NOT_A_PILOTS.items():
            if name == short or (len(name) > 2 and long.startswith(name)):
                raise wanted.wrong("scheduler_script_commands", f"#SBATCH lines without --{long}: {advice}")


def clusters_of(wanted: PilotDescription) -> tuple[str, ...]:
    """The clusters of which Slurm takes one for the pilot, as the description names them."""
    given = [value for name, value in given_options(wanted) if name in ("clusters", "M")]
    return tuple(one for one in given[-1].split(",") if one) if given else ()


def _identity(jobs: Sequence[Job]) -> list[str]:
    output = str(jobs[0].log_path)
    lines = []
    if len(jobs) > 1:
        lines.append(f"--array=0-{len(jobs) - 1}")
        output = str(jobs[0].folder / "array-").replace("%", "%%") + "%a.log"
    else:
        output = output.replace("%", "%%")
    return [f"#SBATCH {_option(line)}" for line in (*lines, f"--output={output}", "--open-mode=append")]


def _options(wanted: PilotDescription) -> list[str]:
    """sbatch's options for the fields of a description."""
    wanted = completed(wanted)
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
    if (seconds := wanted.seconds) is not None:
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
    """srun's options. All of them are given: otherwise srun takes them from the job's environment."""
    nodes = wanted.number_of_nodes
    words = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={wanted.cores}"]
    words += ["--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--export=ALL", "--unbuffered"]
    return shlex.join([*words, "--no-kill"] if nodes > 1 else words)


def _pilot(index: int, job: Job) -> str:
    """The branch of the script that knows the folder, environment and command of one pilot."""
    environment = dict(job.environment)
    if host_of(job.description) and (paths := os.environ.get("PYTHONPATH")):
        environment.setdefault("PYTHONPATH", paths)
    mark = [f"{MARK}={value}" for name, value in environment.items() if name == MARK]
    words = (
        ["env", *mark, *preparation.command(job)] if mark else preparation.command(job)
    )  # srun is not marked: the agent ends what is
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
