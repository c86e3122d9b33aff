"""What the Slurm launcher makes of answers that are late, wrong or missing. No Slurm: a runner that plays one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilot_plugins.launchers.slurm import cluster as slurm_cluster
from pilot_plugins.launchers.slurm import hosts as slurm_hosts
from pilot_plugins.launchers.slurm import submission as slurm_submission
from pilot_plugins.launchers.slurm.answers import clusters_named, numbers, squeue_lines
from pilot_plugins.launchers.slurm.ids import SlurmId, unique_name
from pilot_plugins.launchers.slurm.launcher import SlurmLauncher
from pilot_plugins.launchers.slurm.script import script
from slurm_world import INVALID, NOTHING_OF_IT, PRINTED, Answer, Played, PlayedJob

from pilot import PilotManager
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError, JobRefused, PilotError, SessionError
from pilot.interfaces import Job, JobState
from pilot.wire.marks import MARK

OVER = (JobState.ENDED, JobState.EXPIRED, JobState.TAKEN, JobState.CANCELLED)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.setattr(slurm_hosts, "BACK_OFF", (0.0, 0.0))
    monkeypatch.setattr(slurm_submission, "LOOKS", (0.0, 0.0))
    monkeypatch.setattr(slurm_cluster, "GRACE_SECONDS", 0.0)
    monkeypatch.delenv("SBATCH_CLUSTERS", raising=False)
    monkeypatch.delenv("SLURM_CLUSTERS", raising=False)
    return Played({"5": PlayedJob("foreign"), "25": PlayedJob("foreign", state="RUNNING")})


@pytest.fixture
def launcher(slurm: Played) -> SlurmLauncher:
    one = SlurmLauncher(slurm)
    one.poll_interval = 0.0
    return one


@pytest.fixture
def make(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(**fields: Any) -> Job:
        return make_job(PilotDescription(**{"resource": "slurm://", "cores_per_node": 1, **fields}), "true")

    return make


def ours(slurm: Played) -> dict[str, str]:
    """The jobs with our name and their states."""
    return {number: job.state for number, job in slurm.jobs.items() if job.name.startswith("pilot-1.")}


# ---- what squeue says of a job that runs -----------------------------------------------------------------------------


@pytest.mark.parametrize("scontrol", [True, False], ids=["scontrol knows it", "scontrol does not"])
@pytest.mark.parametrize("way", NOTHING_OF_IT)
def test_a_job_that_squeue_does_not_show_has_not_ended(
    way: str, scontrol: bool, slurm: Played, launcher: SlurmLauncher, make: Any
) -> None:
    job = make()
    id = launcher.submit(job)
    assert launcher.status({id: job.folder})[id][0] is JobState.QUEUED
    slurm.jobs["17"].state = "RUNNING"
    (job.folder / "started").write_text("17 c1\n")
    assert launcher.status({id: job.folder})[id][0] is JobState.RUNNING
    slurm.squeue = NOTHING_OF_IT[way]
    if not scontrol:
        slurm.scontrol = lambda answer: (1, "", INVALID)
    states = [launcher.status({id: job.folder})[id][0] for _ in range(5)]
    assert not {*states} & {*OVER}, states
    slurm.squeue = slurm.scontrol = lambda answer: answer
    assert launcher.status({id: job.folder})[id][0] is JobState.RUNNING
    slurm.jobs["17"].state = "CANCELLED"
    assert launcher.status({id: job.folder})[id][0] is JobState.CANCELLED


def test_a_job_that_waits_is_asked_about_elsewhere(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    """It has no agent that could be heard: where squeue is silent, scontrol has the word."""
    job = make()
    id = launcher.submit(job)
    slurm.squeue = NOTHING_OF_IT["empty"]
    for _ in range(5):
        assert launcher.status({id: job.folder})[id][0] is JobState.QUEUED


def test_a_requeued_job_whose_script_got_a_signal_was_taken(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    job = make()
    id = launcher.submit(job)
    (job.folder / "started").write_text("17 c1\n")
    assert launcher.status({id: job.folder})[id][0] in (JobState.RUNNING, JobState.MISSING)
    (job.folder / "expiring").write_text("TERM\n")
    state, words = launcher.status({id: job.folder})[id]
    assert state is JobState.TAKEN and "requeued" in words


@pytest.mark.parametrize("order", ["squeue says it first", "the file is there first"])
def test_a_jobs_own_word_of_its_signals_counts(order: str, slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    """That it ended is Slurm's word as well, but not that its walltime was over."""
    job = make()
    id = launcher.submit(job)
    slurm.jobs["17"].state = "RUNNING"
    (job.folder / "started").write_text("17 c1\n")
    launcher.status({id: job.folder})

    def ends(answer: Answer) -> Answer:
        (job.folder / "ended").write_text("17 0 USR1\n")
        return answer

    slurm.jobs["17"].state = "COMPLETED"
    if order == "squeue says it first":  # it is written while squeue is asked
        slurm.squeue = ends
    else:
        ends((0, "", ""))
    assert launcher.status({id: job.folder})[id][0] is JobState.EXPIRED


# ---- what sbatch says ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", PRINTED)
def test_the_job_is_the_one_that_was_submitted(way: str, slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    """Whatever the site's sbatch prints; and no other job is cancelled with it."""
    slurm.sbatch = PRINTED[way]
    job = make()
    id = launcher.submit(job)
    assert SlurmId.read(id).number == "17"
    assert ours(slurm) == {"17": "PENDING"}
    launcher.cancel(id, job.environment[MARK])
    assert ours(slurm) == {"17": "CANCELLED"}
    assert [slurm.jobs[number].state for number in ("5", "25")] == ["PENDING", "RUNNING"]


def test_squeue_is_slow_to_show_a_job_without_a_number(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    slurm.sbatch = PRINTED["text behind"]
    empty = iter([(0, "", "")])
    slurm.squeue = lambda answer: next(empty, answer)
    assert SlurmId.read(launcher.submit(make())).number == "17"


@pytest.mark.parametrize("way", PRINTED)
def test_squeue_shows_nothing_of_what_was_submitted(
    way: str, slurm: Played, launcher: SlurmLauncher, make: Any
) -> None:
    slurm.sbatch, slurm.squeue = PRINTED[way], NOTHING_OF_IT["empty"]
    assert SlurmId.read(launcher.submit(make())).number == "17"


def test_a_lone_number_is_believed_where_squeue_cannot_be_asked(
    slurm: Played, launcher: SlurmLauncher, make: Any
) -> None:
    slurm.sbatch, slurm.squeue = PRINTED["text behind"], NOTHING_OF_IT["no controller"]
    assert SlurmId.read(launcher.submit(make())).number == "17"


def test_a_job_that_was_taken_twice_is_ended_once(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    """Slurm took the job and was too busy to say so; it was shown after the next try only."""
    answer = iter([PRINTED["no answer of the controller"]])
    slurm.sbatch = lambda given: next(answer, lambda one: one)(given)
    empty = iter([(0, "", "")] * 3)
    slurm.squeue = lambda answer: next(empty, answer)
    invalid = iter([(1, "", INVALID)])
    slurm.scontrol = lambda answer: next(invalid, answer)
    id = launcher.submit(make())
    assert (SlurmId.read(id).number, ours(slurm)) == ("17", {"17": "PENDING", "18": "CANCELLED"})


def test_a_job_that_appears_too_late_is_ended(
    slurm: Played, launcher: SlurmLauncher, make: Any, eventually: Any
) -> None:
    """At the next look at another job of ours."""
    slurm.sbatch, slurm.squeue = PRINTED["too slow"], NOTHING_OF_IT["empty"]
    slurm.scontrol = lambda answer: (1, "", INVALID)
    with pytest.raises(PilotError, match="did not answer within 60 s"):
        launcher.submit(make())
    slurm.sbatch = slurm.squeue = slurm.scontrol = lambda answer: answer
    other = make(name="other")
    id = launcher.submit(other)
    eventually(lambda: (launcher.status({id: other.folder}), ours(slurm) == {"17": "CANCELLED"})[1], 60)
    assert slurm.jobs["18"].state == "PENDING"
    assert [slurm.jobs[number].state for number in ("5", "25")] == ["PENDING", "RUNNING"]


def test_a_refusal_is_told_at_once(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid account\n"

    def refused(answer: Answer) -> Answer:
        slurm.jobs.pop("17", None)
        return 1, "Balance:\n25\n", words

    slurm.sbatch = refused
    with pytest.raises(JobRefused, match="Invalid account"):
        launcher.submit(make())
    assert [one[0] for one in slurm.calls] == ["sbatch", "squeue", "sacctmgr"]


def test_no_number_and_no_job(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    def nothing(answer: Answer) -> Answer:
        slurm.jobs.pop("17", None)
        return 0, "Thank you.\n", ""

    slurm.sbatch = nothing
    with pytest.raises(PilotError, match=r"no job number but 'Thank you\.\\n'.*type sbatch"):
        launcher.submit(make())


@pytest.mark.parametrize(
    "words", ["Unable to contact slurm controller (connect failure)", "Slurm backup controller in standby mode"]
)
def test_a_busy_slurm_is_asked_again(slurm: Played, launcher: SlurmLauncher, make: Any, words: str) -> None:
    away = [(1, "", f"sbatch: error: Batch job submission failed: {words}")] * 2

    def busy(answer: Answer) -> Answer:
        if not away:
            return answer
        slurm.jobs.pop(str(slurm.next - 1))
        return away.pop()

    slurm.sbatch = busy
    assert SlurmId.read(launcher.submit(make())).number == "19"
    away.extend([(1, "", f"sbatch: error: {words}")] * 9)
    with pytest.raises(PilotError, match="cannot be asked"):
        launcher.submit(make())


# ---- whose job -------------------------------------------------------------------------------------------------------


def test_a_foreign_job_with_our_number_is_left_alone(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    """As after the numbers of a cluster began anew."""
    job = make()
    id = launcher.submit(job)
    slurm.jobs["17"] = PlayedJob("foreign", state="RUNNING")
    states = [launcher.status({id: job.folder})[id][0] for _ in range(3)]
    assert not {*states} & {*OVER, JobState.RUNNING}, states
    launcher.cancel(id, job.environment[MARK])
    assert slurm.jobs["17"].state == "RUNNING"


def test_names_are_like_no_others() -> None:
    names = {unique_name("pilot-1", f"mark {number}") for number in range(1000)}
    assert len(names) == 1000
    for odd in ("a,b", "a b", "it's", "ä|b", "x" * 1000, "a\tb", "%j"):
        assert re.fullmatch(r"[A-Za-z0-9_.+-]{1,80}", unique_name(odd, "mark")), odd
    assert "mark" not in unique_name("a", "mark")


@pytest.mark.parametrize(
    "id",
    [
        SlurmId("17"),
        SlurmId("17_3", name="a.b"),
        SlurmId("17", "c2", "me@login:22", "p..q.0123"),
        SlurmId("17", host="h"),
    ],
    ids=str,
)
def test_native_ids_are_read_as_they_were_written(id: SlurmId) -> None:
    assert SlurmId.read(str(id)) == id
    with pytest.raises(ValueError, match="not a job"):
        SlurmId.read(f"x{id}")


def test_numbers_are_lines_of_sbatchs_own() -> None:
    text = "17\n 18 \nJob 19\n20;c2\n21;\n22 ok\n23;a b\n-24\n2.5\n\u0661\n17\n"
    assert numbers(text) == [("17", ""), ("18", ""), ("20", "c2")]


@pytest.mark.parametrize(
    ("text", "clusters"),
    [("17\n", []), ("17;c2\n3", ["c2"]), ("Submitted batch job 17 on cluster c-2\n", ["c-2"]), ("a;b\n", [])],
)
def test_the_cluster_is_read_in_every_form(text: str, clusters: list[str]) -> None:
    assert clusters_named(text) == clusters


def test_reasons_may_hold_the_separator() -> None:
    (line,) = squeue_lines("1_2|1|PENDING|a.b||Nodes|DOWN\n")
    assert (line.number, line.submitted, line.name, line.shown) == ("1_2", "1", "a.b", ("PENDING", "", "Nodes|DOWN"))


# ---- another cluster -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ("#SBATCH --clusters=c2",),
        ("#SBATCH -M c2,c3",),
        ("#SBATCH -Mc2",),
        ("#SBATCH --nice --clusters c2 # there",),
        ("#SBATCH --clusters=c3", "#SBATCH --clusters='c2'"),
    ],
)
def test_another_cluster_is_asked_about_its_job(
    lines: tuple[str, ...], slurm: Played, launcher: SlurmLauncher, make: Any
) -> None:
    slurm.jobs["17"] = PlayedJob("foreign", state="RUNNING")  # the same number here
    slurm.next, slurm.sbatch = 17, PRINTED["text behind"]
    job = make(scheduler_script_commands=lines)
    launcher_check(launcher, job)
    here = slurm.jobs.pop("17")
    id = launcher.submit(job)
    assert SlurmId.read(id)[:2] == ("17", "c2")
    slurm.jobs["17"].state = "RUNNING"
    state, words = launcher.status({id: job.folder})[id]
    assert state is JobState.RUNNING and words.startswith("Slurm job 17 (c2): ")
    launcher.cancel(id, job.environment[MARK])
    assert slurm.jobs["17"].state == "CANCELLED" and here.state == "RUNNING"


def launcher_check(launcher: SlurmLauncher, job: Job) -> None:
    """Also where no sbatch is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.which", lambda name: f"/bin/{name}")
        launcher.check(job.description)


@pytest.mark.parametrize("variable", ["SBATCH_CLUSTERS", "SLURM_CLUSTERS"])
def test_the_environments_cluster(
    variable: str, slurm: Played, launcher: SlurmLauncher, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "c2")
    job = make()
    launcher_check(launcher, job)
    id = launcher.submit(job)
    assert SlurmId.read(id).cluster == "c2"
    assert launcher.status({id: job.folder})[id][0] is JobState.QUEUED
    assert "--clusters=c2" in slurm.calls[0]


def test_sbatch_goes_to_another_cluster_by_itself(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    slurm.cluster = "c2"
    job = make()
    id = launcher.submit(job)
    assert launcher.status({id: job.folder})[id][0] is JobState.QUEUED
    launcher.cancel(id, job.environment[MARK])
    assert ours(slurm) == {"17": "CANCELLED"}


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("#SBATCH --job-name=mine", "give the pilot a name"),
        ("#SBATCH -Jmine", "give the pilot a name"),
        ("#SBATCH --nice -J mine", "give the pilot a name"),
        ("#SBATCH --job mine", "give the pilot a name"),
        ("#SBATCH --array=0-3", "several pilots"),
        ("#SBATCH -a 1", "several pilots"),
        ("#SBATCH --wait", "Pilot.wait"),
        ("#SBATCH -W", "Pilot.wait"),
        ("#SBATCH --test-only", "doctor"),
        ("#SBATCH --clusters=all", "names of clusters"),
        ("#SBATCH -M 'a b'", "names of clusters"),
        ("#SBATCH --comment='open", "shell can read"),
        ("#SBATCH hetjob", "ask for another pilot"),
        ("#SBATCH  packjob # GPUs", "ask for another pilot"),
        ("#SBATCH --signal=B:USR2@60", "give walltime, and drain"),
        ("#SBATCH --time=10", "give walltime"),
        ("#SBATCH -N2", "give number_of_nodes"),
        (" #SBATCH --qos=fast", "begin with \"#SBATCH \"; not ' #SBATCH --qos=fast'"),
        ("#sbatch --qos=fast", 'begin with "#SBATCH "'),
        ("#PBS -q fast", 'begin with "#SBATCH "'),
        ("--qos=fast", 'begin with "#SBATCH "'),
        ("-p fast", 'begin with "#SBATCH "'),
    ],
)
def test_lines_under_which_a_job_could_not_be_followed(
    line: str, words: str, launcher: SlurmLauncher, make: Any
) -> None:
    with pytest.raises(DescriptionError, match=words):
        launcher_check(launcher, make(scheduler_script_commands=(line,)))


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH --wait-all-nodes=1",
        "#SBATCH --time-min=5",
        "#SBATCH --nodelist=c1",
        "#SBATCH --nice",
        "#SBATCH -A me",
        "##SBATCH --qos=fast",
        "# SBATCH is above",
        "echo -J --wait",
    ],
)
def test_other_lines_are_passed_on(line: str, launcher: SlurmLauncher, make: Any) -> None:
    launcher_check(launcher, make(scheduler_script_commands=(line,)))


def test_variables_of_sbatch_for_what_a_description_leaves_open(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "group")
    monkeypatch.setenv("SBATCH_PARTITION", "slow")
    monkeypatch.setenv("SBATCH_QOS", "")
    lines = script([make(queue="fast")]).splitlines()
    assert "#SBATCH --account=group" in lines and "#SBATCH --partition=fast" in lines
    assert not [line for line in lines if "slow" in line or "--qos" in line]
    assert "--account" not in script([make(resource="slurm://me@login")])


@pytest.mark.parametrize("name", ["back\\slash", "new\nline", "tab\tstop", "bell\a", "\udce4"])
def test_a_session_folder_that_sbatch_cannot_write_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    with PilotManager(tmp_path / name) as manager, pytest.raises(SessionError, match=r"session_dir.*backslashes"):
        manager.submit_pilot(PilotDescription(resource="slurm://", cores_per_node=1))


# ---- a manager that was killed before it wrote the number down ------------------------------------------------


@pytest.mark.parametrize("name", [None, "my pilot"])
def test_a_job_whose_number_was_not_written_down_is_found_by_its_name(
    slurm: Played, make: Callable[..., Job], name: str | None
) -> None:
    job = make(name=name)
    mark = job.environment[MARK]
    native_id = SlurmLauncher(slurm).submit(job)
    attached = SlurmLauncher(slurm)
    assert attached.find(job.description, job.pilot, mark) == native_id
    assert attached.find(job.description, job.pilot, "0" * len(mark)) is None
    slurm.jobs[SlurmId.read(native_id).number].state = "CANCELLED"
    assert attached.find(job.description, job.pilot, mark) is None


@pytest.mark.parametrize("way", ["empty", "no controller", "not there", "killed", "a page of HTML", "others' jobs"])
def test_no_job_is_found_where_squeue_does_not_answer(slurm: Played, make: Callable[..., Job], way: str) -> None:
    job = make()
    SlurmLauncher(slurm).submit(job)
    slurm.squeue = NOTHING_OF_IT[way]
    assert SlurmLauncher(slurm).find(job.description, job.pilot, job.environment[MARK]) is None


# ---- names that there are not ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said", "expected"),
    [
        (
            {"queue": "no"},
            "invalid partition specified: no",
            "queue: 'no' is not valid; expected a partition: debug, regu",
        ),
        (
            {"project": "m0", "queue": "debug"},
            "Batch job submission failed: Invalid account or account/partition combination specified",
            "project: 'm0' is not valid; expected an account that you may use: m1, m2 ",
        ),
        (
            {},
            "Invalid account or account/partition",
            "project: None is not valid; expected an account that you may use: m1",
        ),
        (
            {"qos": "low"},
            "Invalid qos specification",
            "qos: 'low' is not valid; expected a quality .* may use: high, normal ",
        ),
    ],
    ids=["partition", "account", "no account", "qos"],
)
def test_a_name_that_there_is_not_is_named(
    slurm: Played, launcher: SlurmLauncher, make: Any, fields: dict[str, Any], said: str, expected: str
) -> None:
    slurm.sbatch = lambda answer: (slurm.jobs.popitem() and 1, "", f"sbatch: error: {said}\n")  # type: ignore[assignment]
    with pytest.raises(JobRefused, match=rf"PilotDescription\.{expected}.*sbatch refused the job: .*{said}") as caught:
        launcher.submit(make(**fields))
    assert caught.value.given == next(iter(fields.values()), None)


def test_a_job_that_is_refused_for_another_reason(slurm: Played, launcher: SlurmLauncher, make: Any) -> None:
    slurm.sbatch = lambda answer: (slurm.jobs.popitem() and 1, "", "sbatch: error: Invalid license specification\n")  # type: ignore[assignment]
    with pytest.raises(JobRefused, match=r"^sbatch refused the job: Invalid license specification"):
        launcher.submit(make(licenses="no:1"))
