"""What PSI/J gets for a pilot's job: its `JobSpec`, lines for the batch scheduler, and the script that runs."""

from __future__ import annotations

import math
import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

from pilot.descriptions import PilotDescription
from pilot.interfaces import Job
from pilot.wire.marks import MARK
from pilot_plugins.launchers import preparation
from pilot_plugins.launchers.psij.executors import psij
from pilot_plugins.launchers.slurm.ids import unique_name

#: Fields without a name in PSI/J, and the custom attribute of each executor for them.
OPTIONS = ("constraint", "gres", "licenses", "qos")
#: PSI/J asks these for as many cores as processes; so a pilot's cores are given as processes, and it has one node.
_CORES_ARE_PROCESSES = frozenset({"pbs", "pbs_classic", "lsf"})
#: How one copy of the command is started on each node; flux does so itself, and the others have one node.
LAUNCHERS = {"slurm": "srun", "cobalt": "mpirun", "flux": "single"}
#: A line for the batch scheduler as custom attribute: ``#PBS -l foo=1``.
_DIRECTIVE = re.compile(r"#(?:PBS|BSUB|COBALT)\s+--?([\w-]+)[=\s]\s*(.+)")


def spec(job: Job, name: str, script: Path) -> psij.JobSpec:
    description = job.description
    nodes, cores, memory = description.number_of_nodes, description.cores_per_node, description.memory
    sizes: dict[str, Any] = {"node_count": nodes, "process_count": nodes, "cpu_cores_per_process": cores}
    if name in _CORES_ARE_PROCESSES:
        sizes = {"node_count": 1, "process_count": cores or 1}
    elif name == "local":
        sizes = {"process_count": 1}
    resources = psij.ResourceSpecV1(
        **sizes,
        gpu_cores_per_process=None if name == "lsf" else description.gpus_per_node or None,
        exclusive_node_use=description.exclusive,
        memory=memory
        if isinstance(memory, int)
        else None,  # PSI/J passes it on as each node's, unlike its documentation
    )
    custom: dict[str, object] = dict(description.custom_attributes)
    custom.pop("slurm.job-name", None)  # `job_name` has it
    if name == "lsf" and description.gpus_per_node:  # of the host; PSI/J asks for them for each process
        custom = {"lsf.gpu": f"num={description.gpus_per_node}/host", **custom}
    for field in OPTIONS:
        if value := getattr(description, field):
            custom[f"{name}.{field}"] = value
    if name != "slurm":
        for line in description.scheduler_script_commands:
            if match := _DIRECTIVE.fullmatch(line.strip()):
                custom[f"{name.partition('_')[0]}.{match[1]}"] = match[2]
    attributes: Any = psij.JobAttributes(
        queue_name=description.queue,
        account=description.project,
        reservation_id=description.reservation,
        custom_attributes=custom,
    )
    if description.seconds is not None:
        unit = 60 if name == "lsf" else 1  # PSI/J rounds down: the job would end before the pilot's walltime
        attributes.duration = timedelta(seconds=unit * math.ceil(description.seconds / unit))
    else:
        attributes.duration = timedelta(0) if name == "flux" else None
    program, *arguments = ["/bin/bash", str(script)]
    if name == "local":  # out of reach of the terminal's Ctrl-C
        program, arguments = "setsid", [program, *arguments]
    return psij.JobSpec(
        executable=program,
        arguments=arguments,
        resources=resources,
        attributes=attributes,
        launcher=LAUNCHERS[name] if description.number_of_nodes > 1 else "single",
    )


def job_name(job: Job) -> str:
    """The name of a job of Slurm's, which no other job has."""
    given = job.description.custom_attributes.get("slurm.job-name")
    return unique_name(str(given or job.description.name or job.pilot), job.environment.get(MARK) or str(job.folder))


def directives(description: PilotDescription, name: str) -> tuple[str, ...]:
    """Those of scheduler_script_commands that are for the batch scheduler."""
    lines = tuple(
        line for line in description.scheduler_script_commands if re.match(r"#(SBATCH|PBS|BSUB|COBALT)", line)
    )
    for line in lines:
        if (line.startswith("#SBATCH")) is not (name == "slurm") or (
            name != "slurm" and not _DIRECTIVE.fullmatch(line)
        ):
            raise description.wrong(
                "scheduler_script_commands",
                f"with psij://{name}, commands to run and "
                + ("#SBATCH lines" if name == "slurm" else 'lines such as "#PBS -l place=pack"; see custom_attributes'),
            )
    return lines


_SCRIPT = """\
#!/bin/bash
# The job of pilot {pilot}, started by PSI/J ({executor}); its output goes to {log}
umask 077
folder={folder}
rank={rank}
say() {{ if [ "$rank" = 0 ]; then printf '%s\\n' "$2" >"$folder/$1.new" && mv "$folder/$1.new" "$folder/$1"; fi; }}
exec >>{log} 2>&1 </dev/null 3>&-
if [ "$rank" = 0 ]; then rm -f "$folder/ended" "$folder/expiring" "$folder/refused"; fi
say started "$(date +%s) {walltime}"
refuse() {{ say refused "$1"; exit 1; }}
trap 'say ended "$?"' EXIT
trap 'say expiring "$(date +%s)"' TERM USR1
{exports}
cd "$folder" || exit
{setup}
(trap '' USR1; exec {command}) &
child=$!
while wait "$child"; kill -0 "$child" 2>/dev/null; do :; done
wait "$child"
exit $?
"""


def script(job: Job, name: str) -> str:
    """The shell script that the job runs, on each node."""
    description = job.description
    prepared = preparation.lines(job)
    setup = [preparation.FUNCTIONS, *prepared] if prepared else []
    lines = directives(description, name)
    setup += [line for line in description.scheduler_script_commands if line not in lines]
    several = "${SLURM_PROCID:-${PMIX_RANK:-${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-${FLUX_TASK_RANK:-0}}}}}"
    return _SCRIPT.format(
        pilot=job.pilot.replace("\n", " "),
        executor=name,
        log=shlex.quote(str(job.log_path)),
        folder=shlex.quote(str(job.folder)),
        rank=several if description.number_of_nodes > 1 else "0",
        walltime=int(description.seconds or 0),
        exports="\n".join(f"export {key}={shlex.quote(value)}" for key, value in job.environment.items()),
        setup="\n".join(setup),
        command=shlex.join(preparation.command(job)),
    )
