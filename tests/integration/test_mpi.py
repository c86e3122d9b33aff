"""MPI tasks on one host: real ranks of a real MPI, started by mpiexec in a pilot's worker."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pilot import (
    DescriptionError,
    MpiFailed,
    MpiResult,
    PilotDescription,
    PilotManager,
    Task,
    TaskDescription,
    TaskError,
    TaskState,
)

pytest.importorskip("mpi4py")

Eventually = Callable[..., Any]
SOON = 120.0

SIZE = """
import sys
from mpi4py import MPI
print(MPI.COMM_WORLD.rank, "of", MPI.COMM_WORLD.size)
print(MPI.COMM_WORLD.rank, file=sys.stderr)
"""

#: One rank fails. Run by ``python -m mpi4py``: without it the interpreter's end waits, in MPI_Finalize, for the others.
BREAKS = """
import sys
from mpi4py import MPI
print("was", MPI.COMM_WORLD.rank, flush=True)
if MPI.COMM_WORLD.rank == 1:
    raise RuntimeError("broken")
MPI.COMM_WORLD.Barrier()
"""

#: Starts as many processes as it is told, like a launcher that speaks no PMI: each is a communicator of its own.
SEPARATE = """
import subprocess, sys
count = int(sys.argv[2])
codes = [process.wait() for process in [subprocess.Popen(sys.argv[3:]) for _ in range(count)]]
sys.exit(max(codes))
"""


#: srun whose first starts, as many as the file beside it says, lose a message of MPI_Init: the ranks wait for ever.
LOSES = """#!/bin/bash
folder=$(dirname "$0")
left=$(cat "$folder/left")
if [ "$left" -gt 0 ]; then
    echo $((left - 1)) > "$folder/left"
    echo "slurmstepd-c1: error: mpi/pmi2: invalid client request" >&2
    exec sleep 1000
fi
while [[ "$1" == -* ]]; do shift; done
exec mpiexec -launcher fork -rmk user -n 2 "$@"
"""


@pytest.fixture(scope="module")
def manager() -> Iterator[PilotManager]:
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2))
        yield manager


def submit(manager: PilotManager, ranks: int, **wanted: Any) -> Task:
    return manager.submit_task(TaskDescription(ranks=ranks, num_cpus=0.5, **wanted))


def with_argument(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if word in (process.info["cmdline"] or ()) and "--tied" not in process.info["cmdline"]:
            found.append(process)
    return found


def add_up(mine: int) -> tuple[int, int]:
    from mpi4py import MPI

    print("rank", MPI.COMM_WORLD.rank)
    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.allreduce(mine)


def raise_on(rank: int, kind: type[BaseException]) -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == rank:
        raise kind("this one")
    MPI.COMM_WORLD.Barrier()


def die_on(rank: int) -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    MPI.COMM_WORLD.Barrier()


def sleeper(word: str) -> list[str]:
    """A program that says its pid, waits for all ranks, and then for ever."""
    code = "from mpi4py import MPI; import time; MPI.COMM_WORLD.Barrier(); print('up', flush=True); time.sleep(4000)"
    return [sys.executable, "-c", code, word]


@pytest.mark.parametrize("ranks", [2, 4])
def test_program(manager: PilotManager, ranks: int) -> None:
    result = submit(manager, ranks, mpi=[sys.executable, "-c", SIZE]).result(SOON)
    assert result == MpiResult(
        ranks=ranks,
        stdout=tuple(f"{rank} of {ranks}\n" for rank in range(ranks)),
        stderr=tuple(f"{rank}\n" for rank in range(ranks)),
    )


def test_words_may_be_empty_and_paths(manager: PilotManager) -> None:
    words: Any = ["printf", "[%s]", "a", "", Path("b/c"), "two words", "$HOME"]
    assert submit(manager, 2, mpi=words).result(SOON).stdout == ("[a][][b/c][two words][$HOME]",) * 2


def test_environment_and_directory_of_a_program(manager: PilotManager, tmp_path: Path) -> None:
    task = submit(
        manager, 2, mpi=["sh", "-c", "echo $WORD; pwd"], environment={"WORD": "yes"}, working_directory=str(tmp_path)
    )
    assert task.result(SOON).stdout == (f"yes\n{tmp_path}\n",) * 2
    assert task.info.name == "sh"


def test_environment_and_directory_of_a_function(manager: PilotManager, tmp_path: Path) -> None:
    def look() -> tuple[str | None, str]:
        return os.environ.get("WORD"), str(Path.cwd())

    task = submit(manager, 2, function=look, environment={"WORD": "yes"}, working_directory=str(tmp_path))
    assert task.result(SOON) == [("yes", str(tmp_path))] * 2
    lost = submit(manager, 2, function=look, working_directory=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"TaskDescription\.working_directory on .*/none'"):
        lost.result(SOON)


def test_function(manager: PilotManager) -> None:
    task = submit(manager, 4, function=add_up, args=[manager.submit_task(int, "3")])
    assert task.result(SOON) == [(0, 12), (1, 12), (2, 12), (3, 12)]
    assert task.info.stdout == "".join(f"{rank}: rank {rank}\n" for rank in range(4))
    assert task.info.name == "add_up"


def test_large_arguments_and_results(manager: PilotManager) -> None:
    data = b"x" * (3 << 20)
    assert submit(manager, 2, function=lambda data: data, kwargs={"data": data}).result(SOON) == [data, data]


def test_one_rank_raises_while_the_others_wait(manager: PilotManager) -> None:
    task = submit(manager, 4, function=raise_on, args=[1, ValueError])
    with pytest.raises(ValueError, match="this one") as raised:
        task.result(SOON)
    assert "raised by rank 1 of 4" in raised.value.__notes__
    assert "in raise_on" in str(raised.value.__cause__)
    assert task.info.seconds is not None and task.info.seconds < 60


def test_one_rank_exits(manager: PilotManager) -> None:
    with pytest.raises(TaskError, match="rank 0 raised SystemExit"):
        submit(manager, 2, function=raise_on, args=[0, SystemExit]).result(SOON)


def test_one_rank_is_killed(manager: PilotManager) -> None:
    with pytest.raises(MpiFailed, match=r"rank 1 of 2 .* was killed by signal 9") as raised:
        submit(manager, 2, function=die_on, args=[1]).result(SOON)
    assert raised.value.returncodes == {1: -9}


def leave_on(rank: int) -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == rank:
        os._exit(0)


def test_one_rank_leaves_without_a_word(manager: PilotManager) -> None:
    with pytest.raises(MpiFailed, match=r"rank 1 of 2 \(the function\) ended by itself with code 0 before it returned"):
        submit(manager, 2, function=leave_on, args=[1]).result(SOON)


def read_standard_input() -> str:
    return sys.stdin.read()


def test_standard_input_is_empty(manager: PilotManager) -> None:
    programs = {
        "cat": "",
        "read": "read line || echo none",
        "python": f"{shlex.quote(sys.executable)} -",
        "terminal": "test -t 0 || echo none",
    }
    tasks = [
        submit(manager, ranks, mpi=["sh", "-c", f"cat; {script}"] if script else ["cat"])
        for script in programs.values()
        for ranks in (1, 2)
    ]
    for task in tasks:
        assert {text.strip() for text in task.result(SOON).stdout} <= {"", "none"}
    assert submit(manager, 2, function=read_standard_input).result(SOON) == ["", ""]


def plain(mask: str) -> int:
    """A mask of /proc without signals 32 and 33, which are the C library's own (signal(7)): no program can set them."""
    return int(mask, 16) & ~(3 << 31)


def ignored_and_blocked() -> list[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line.split()[1] for line in lines if line.startswith(("SigIgn", "SigBlk"))]


def test_ranks_have_the_signals_of_a_plain_process(manager: PilotManager) -> None:
    script = "set -o pipefail; grep -E 'Sig(Ign|Blk)' /proc/self/status | cut -f2; yes | head -1 || echo $?"
    done = submit(manager, 2, mpi=["bash", "-c", script]).result(SOON)
    said = [text.split() for text in done.stdout]
    assert [[plain(word) for word in words[:2]] + words[2:] for words in said] == [[0, 0, "y", "141"]] * 2
    assert done.stderr == ("", "")
    pipe_and_file_size = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # what Python ignores
    said = submit(manager, 2, function=ignored_and_blocked).result(SOON)
    assert [list(map(plain, words)) for words in said] == [[0, pipe_and_file_size]] * 2


def test_the_main_module_of_ranks_is_empty(manager: PilotManager) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("import sys\ndef names(): return [one for one in vars(sys.modules['__main__']) if one[0] != '_']", space)
    assert submit(manager, 2, function=space["names"]).result(SOON) == [[], []]


def test_exit_code_and_outputs_of_a_program(manager: PilotManager) -> None:
    script = "echo was $PMI_RANK; test $PMI_RANK = 0 || { echo broken >&2; exit 7; }; sleep 4000"
    with pytest.raises(MpiFailed, match=r"rank 1 of 2 \(sh\) returned 7: broken") as raised:
        submit(manager, 2, mpi=["sh", "-c", script]).result(SOON)
    assert raised.value.returncodes == {1: 7}
    assert raised.value.stdout == ("was 0\n", "was 1\n")
    assert raised.value.stderr == ("", "broken\n")


def test_program_that_aborts(manager: PilotManager) -> None:
    with pytest.raises(MpiFailed, match=r"rank 1 of 2 .* returned|ended by their launcher, as by MPI_Abort") as raised:
        submit(manager, 2, mpi=[sys.executable, "-m", "mpi4py", "-c", BREAKS]).result(SOON)
    assert raised.value.stdout[1] == "was 1\n"
    assert "RuntimeError: broken" in raised.value.stderr[1]


def test_program_that_is_not_there(manager: PilotManager) -> None:
    with pytest.raises(MpiFailed, match="no-such-program cannot be started") as raised:
        submit(manager, 2, mpi=["no-such-program"]).result(SOON)
    assert 127 in raised.value.returncodes.values()


def test_cancel_ends_all_ranks(manager: PilotManager, eventually: Eventually) -> None:
    task = submit(manager, 2, mpi=sleeper("to-be-cancelled"))
    eventually(lambda: len(with_argument("to-be-cancelled")) == 2, 60)
    assert task.cancel()
    assert task.state is TaskState.CANCELLED
    eventually(lambda: not with_argument("to-be-cancelled"), 60)


def test_cancel_ends_ranks_that_do_not_listen(manager: PilotManager, eventually: Eventually) -> None:
    task = submit(manager, 2, mpi=["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done", "deaf-ones"])
    eventually(lambda: len(with_argument("deaf-ones")) == 2, 60)
    assert task.cancel()
    eventually(lambda: not with_argument("deaf-ones"), 60)


def test_timeout_ends_all_ranks(manager: PilotManager, eventually: Eventually) -> None:
    task = submit(manager, 2, mpi=sleeper("too-long"), timeout=1.5)
    with pytest.raises(TimeoutError):
        task.result(SOON)
    eventually(lambda: not with_argument("too-long"), 60)


@pytest.mark.parametrize("victim", ["worker", "launcher", "rank"])
def test_kill_9(manager: PilotManager, eventually: Eventually, victim: str) -> None:
    word = f"kill-9-of-the-{victim}"
    task = submit(manager, 2, mpi=sleeper(word))
    rank = eventually(lambda: len(found := with_argument(word)) == 2 and found[0], 60)
    watcher = rank.parent()
    launcher = watcher.parent().parent()
    worker = launcher.parent()
    assert "hydra" in " ".join(watcher.parent().cmdline()), "the test knows mpich only"
    {"worker": worker, "launcher": launcher, "rank": rank}[victim].kill()
    eventually(lambda: not any(process.is_running() for process in (rank, watcher, launcher)), 60)
    if victim == "worker":  # the task is lost with its worker, and begins anew
        eventually(lambda: len(with_argument(word)) == 2, 60)
        task.cancel()
    else:
        with pytest.raises(MpiFailed):
            task.result(SOON)
    eventually(lambda: not with_argument(word), 60)


def test_separate_communicators_are_noticed(tmp_path: Path) -> None:
    script = tmp_path / "separate.py"
    script.write_text(SEPARATE)
    environment = {"PILOT_MPI": shlex.join([sys.executable, str(script)])}
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2, environment=environment))
        with pytest.raises(MpiFailed, match=r"4 ranks were requested.*size 1.*PilotDescription\.mpi"):
            submit(manager, 4, function=add_up, args=[1]).result(SOON)
        kept_apart = submit(manager, 2, mpi=[sys.executable, "-c", SIZE]).result(SOON)
        assert kept_apart.stdout == ("0 of 1\n",) * 2


@pytest.mark.parametrize("lost", [1, 5])
def test_ranks_that_cannot_find_each_other_are_started_again(tmp_path: Path, lost: int) -> None:
    """A function was called on none of them. A program may have done something before it called MPI_Init."""
    srun = tmp_path / "srun"
    srun.write_text(LOSES)
    srun.chmod(0o755)
    environment = {"PILOT_MPI": f"{srun} --mpi=pmi2"}
    with PilotManager() as manager:
        manager.submit_pilot(PilotDescription(engine="process", cores_per_node=2, environment=environment))
        (tmp_path / "left").write_text(str(lost))
        task = submit(manager, 2, function=add_up, args=[1])
        if lost == 1:
            assert [rank for rank, *_ in task.result(SOON)] == [0, 1]
            (tmp_path / "left").write_text("1")
        else:
            with pytest.raises(MpiFailed, match=r"ranks of the function could not find each other: Slurm could not"):
                task.result(SOON)
            assert (tmp_path / "left").read_text().strip() == "2"
        with pytest.raises(MpiFailed, match=r"ranks of .*python.* could not find each other"):
            submit(manager, 2, mpi=[sys.executable, "-c", SIZE]).result(SOON)


def test_words_that_start_nothing() -> None:
    with PilotManager() as manager:
        manager.submit_pilot(
            PilotDescription(engine="process", cores_per_node=1, environment={"PILOT_MPI": "no-such-launcher"})
        )
        with pytest.raises(MpiFailed, match=r"PilotDescription\.mpi: no-such-launcher was not found"):
            submit(manager, 2, function=add_up, args=[1]).result(SOON)


def test_wrong_use(manager: PilotManager) -> None:
    with pytest.raises(DescriptionError, match="ranks"):
        manager.submit_task(TaskDescription(mpi=["true"]))
    with pytest.raises(DescriptionError, match="nodes"):
        manager.submit_task(TaskDescription(mpi=["true"], ranks=3, nodes=2))
    with pytest.raises(TaskError, match=r"the function .* cannot be pickled"):
        lock = threading.Lock()
        submit(manager, 2, function=lambda: lock)
