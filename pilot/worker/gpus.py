"""The environment variables that name the GPUs of a process: NVIDIA's, and AMD's.

Of AMD's, HIP's names count within those that ROCR's leaves (ROCm documentation, "GPU isolation techniques"), and HIP
reads CUDA_VISIBLE_DEVICES where its own is not set or empty. So one variable is chosen, which names what a pilot has;
the others that a job has set are made to agree with it. Slurm sets CUDA's and ROCR's where it does not know the maker
(gres.conf(5), "Flags").
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
#: Where there is a driver for AMD's GPUs.
AMD_DRIVER = Path("/dev/kfd")
#: Read by AMD's runtimes as well, and numbered as HIP's.
_ALSO_AMD = (CUDA, "GPU_DEVICE_ORDINAL")
#: Environment variable of workers: those that name their GPUs, the one that is chosen first, with commas.
VARIABLES = "PILOT_GPU_VARIABLES"


def chosen(environment: Mapping[str, str], nvidia: bool) -> tuple[str, ...]:
    """The variable that names the GPUs here, and those that have to agree with it.

    Args:
        environment: the job's.
        nvidia: nvidia-smi lists GPUs: AMD's variables mean nothing.
    """
    if nvidia:
        return (CUDA,)
    if CUDA in environment and not AMD_DRIVER.exists():
        return (CUDA, HIP) if HIP in environment else (CUDA,)
    first = next((name for name in (HIP, ROCR) if name in environment), CUDA)
    return (first, *(name for name in _ALSO_AMD if name in environment)) if first != CUDA else (CUDA,)


def visible(environment: Mapping[str, str], variable: str) -> list[str] | None:
    """The names in the variable, each once; None: it is not set. What is behind one that names no device is not visible
    (CUDA C++ Programming Guide, "CUDA Environment Variables"; HIP and ROCR do the same)."""
    value = environment.get(variable)
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    nothing = ("", "-1", "NoDevFiles")  # the last one: Slurm's
    return list(dict.fromkeys(itertools.takewhile(lambda name: name not in nothing, names)))


def assigned(variables: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """The values of the variables of `chosen` for a process that uses the GPUs with these names.

    HIP takes an empty list for all GPUs, so none is -1 for it.
    """
    first, *others = variables
    places = ",".join(str(place) for place in range(len(names))) if first == ROCR else ",".join(names)
    values = {first: ",".join(names), **dict.fromkeys(others, places)}
    return {name: value or ("" if name == CUDA else "-1") for name, value in values.items()}


def of_worker(environment: Mapping[str, str]) -> list[str]:
    """The variables that name the GPUs of a worker with this environment."""
    return environment.get(VARIABLES, CUDA).split(",")
