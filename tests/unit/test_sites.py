"""Profiles of pilots and of sites: those that come along describe pilots; what a site gives, and to whom; whatever is
wrong in one is named with file, line and table."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilot import sites
from pilot.cli.main import main
from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.profiles import profile_tables

SITES = Path(__file__).parents[2] / "slurm" / "sites"
DOCS = SITES.parents[1] / "docs"


@pytest.fixture
def profile(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write(text: str) -> Path:
        path = tmp_path / "site.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("site", sorted(SITES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_table_of_every_profile(site: Path) -> None:
    tables = profile_tables(site)
    assert tables
    for table in tables:
        assert PilotDescription.from_toml(site, table).resource == "slurm://"


def test_the_pages_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", (DOCS / "sites.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "hpc.toml").write_text(text)
    monkeypatch.setenv(sites.SITES, f"{tmp_path}:{SITES}")
    assert main(["sites", "ls", "--json"]) == 0
    names = {one["name"] for one in json.loads(capsys.readouterr().out)}
    assert names == {"hpc", *(path.stem for path in SITES.glob("*.toml"))}
    assert PilotDescription(site="hpc", number_of_nodes=64).queue == "regular"
    gpu = PilotDescription(site="hpc:gpu")
    assert (gpu.interface, gpu.scratch, gpu.gpus_per_node) == ("ib0", "/local/$SLURM_JOB_ID", 4)
    with pytest.raises(DescriptionError, match="expected at most 8"):
        PilotDescription(site="hpc:gpu", number_of_nodes=64)


def test_the_administrators_page_has_the_module_file() -> None:
    page = (DOCS / "administrators.md").read_text()
    (shown,) = re.findall(r"^    (#%Module.*\n(?:    .*\n)+)", page, re.MULTILINE)
    lines = [line.strip() for line in shown.splitlines()]
    tcl = (SITES.parent / "modulefiles/quantum-pilot/0.1").read_text().splitlines()
    assert lines == [line for line in tcl if line and (not line.startswith("#") or line.startswith("#%"))]
    lua = (SITES.parent / "modulefiles/quantum-pilot/0.1.lua").read_text()
    for word in ("/opt/quantum-pilot/0.1", "whatis(", "conflict(", "prepend_path(", "QUANTUM_PILOT_ROOT"):
        assert word in lua


def test_perlmutter_is_that_of_the_paper() -> None:
    cpu = PilotDescription.from_toml(SITES / "perlmutter.toml", "cpu", project="m1234", number_of_nodes=4)
    assert (cpu.number_of_nodes, cpu.cores_per_node, cpu.project) == (4, 128, "m1234")
    gpu = PilotDescription.from_toml(SITES / "perlmutter.toml", "gpu")
    assert (gpu.cores_per_node, gpu.gpus_per_node, gpu.constraint) == (64, 4, "gpu")


def test_the_three_ways_to_ask_for_a_qpu() -> None:
    gres, licence, partition = (
        PilotDescription.from_toml(SITES / "qpu.toml", name) for name in ("gres", "licence", "partition")
    )
    assert gres.gres == "qpu:1" and gres.scheduler_script_commands == ("#SBATCH --qpu=ibm_device",)
    assert licence.licenses == "qpu_ibm:1" and licence.gres is None
    assert partition.queue == "qpu" and partition.licenses is None


def test_a_table_goes_before_what_is_common_and_changes_before_both(profile) -> None:  # type: ignore[no-untyped-def]
    path = profile('walltime = 600\nqueue = "a"\n[cpu]\npartition = "b"\n[cpu.environment]\nA = "1"\n')
    pilot = PilotDescription.from_toml(path, "cpu")
    assert (pilot.queue, pilot.walltime, pilot.environment) == ("b", 600.0, {"A": "1"})
    assert PilotDescription.from_toml(path, "cpu", partition="c", walltime=300).queue == "c"
    assert PilotDescription.from_toml(path).queue == "b"  # the only table


def test_no_table_at_all(profile) -> None:  # type: ignore[no-untyped-def]
    path = profile('queue = "a"\n[environment]\nA = "1"\n')
    pilot = PilotDescription.from_toml(path)
    assert (pilot.queue, pilot.environment) == ("a", {"A": "1"})


@pytest.mark.parametrize(
    ("text", "table", "said"),
    [
        ("[cpu]\n[gpu]\n", None, r"site.toml has several tables: choose one of cpu, gpu"),
        ("[cpu]\n[gpu]\n", "cpus", r"no table 'cpus' \(did you mean 'cpu'\?\); it has cpu, gpu"),
        ("walltime = 60\n", "cpu", "no table 'cpu'; it has no table"),
        (
            "[cpu]\ncores = 4\n",
            "cpu",
            r"site.toml:2, table \[cpu\]: PilotDescription has no field 'cores' \(did you mean 'cores_per_node'",
        ),
        ("[cpu]\nwalltime = -1\n", "cpu", r"site.toml:2, table \[cpu\]: PilotDescription.walltime"),
        ("cores_per_node = 0\n", None, r"site.toml:1: PilotDescription.cores_per_node: 0 is not valid"),
        ("[cpu]\nqueue = cpu\n", "cpu", r"site.toml is not valid TOML: .*line 2"),
        ("[cpu]\n[cpu]\n", "cpu", r"site.toml is not valid TOML: .*line 2"),
    ],
)
def test_what_is_wrong_is_named(profile, text: str, table: str | None, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DescriptionError, match=said):
        PilotDescription.from_toml(profile(text), table)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DescriptionError, match=r"absent\.toml cannot be read: No such file"):
        PilotDescription.from_toml(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"\n')
    with pytest.raises(DescriptionError, match=r"latin\.toml is not valid TOML"):
        profile_tables(tmp_path / "latin.toml")


# ---- sites ----------------------------------------------------------------------------------------------------------

HPC = """
about = "The group's cluster"
default = "cpu"
resource = "slurm://"
account = "phys-42"
modules = ["python/3.11"]
venv = "${ENVS}/q"
limits = { number_of_nodes = 8, walltime = "2:00:00" }

[environment]
HTTPS_PROXY = "http://proxy:3128"
PRICE = "5$$"

[cpu]
partition = "regular"
cores_per_node = 64

[gpu]
partition = "gpu"
cores_per_node = 32
gpus_per_node = 4

[gpu.environment]
HTTPS_PROXY = "http://gpu-proxy:3128"

[gpu.limits]
nodes_are_few = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the sites are: "hpc", and "laptop", which has no tables."""
    (tmp_path / "hpc.toml").write_text(HPC.replace("nodes_are_few = 1", "number_of_nodes = 2"))
    (tmp_path / "laptop.toml").write_text('cores_per_node = 2\nengine = "dask"\n')
    monkeypatch.setenv(sites.SITES, str(tmp_path))
    monkeypatch.setenv("ENVS", "/envs")
    return tmp_path


def test_a_site_gives_what_is_not_given(folder: Path) -> None:
    pilot = PilotDescription(site="hpc:gpu", cores_per_node=8, environment={"MINE": "1"})
    assert pilot == PilotDescription(
        site="hpc:gpu", resource="slurm://", project="phys-42", modules=["python/3.11"], venv="/envs/q", queue="gpu",
        cores_per_node=8, gpus_per_node=4,
        environment={"HTTPS_PROXY": "http://gpu-proxy:3128", "PRICE": "5$", "MINE": "1"},
    )  # fmt: skip
    assert PilotDescription(site="hpc").queue == "regular", "of the default table"
    assert PilotDescription(site="laptop").engine == "dask"
    assert PilotDescription(site="hpc", modules=(), queue=None, engine="process").modules == ()


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: PilotDescription.build({"site": "hpc", "partition": "mine"}),
        lambda folder: PilotDescription.from_toml(folder / "pilots.toml", "one"),
        lambda folder: msgspec.structs.replace(PilotDescription.from_text("hpc:cpu"), queue="mine", site="hpc"),
    ],
    ids=["dict", "file", "text"],
)
def test_wherever_a_site_is_named(folder: Path, made: Callable[[Path], PilotDescription]) -> None:
    (folder / "pilots.toml").write_text('site = "hpc"\n[one]\nqueue = "mine"\n')
    pilot = made(folder)
    assert (pilot.site, pilot.queue, pilot.project, pilot.cores_per_node) == ("hpc", "mine", "phys-42", 64)


def test_a_text_that_is_nearly_a_site(folder: Path) -> None:
    with pytest.raises(DescriptionError, match=r"pilot: 'hpcc:gpu' is not valid; .* \(did you mean 'hpc'\?\)$"):
        PilotDescription.from_text("hpcc:gpu")


def test_a_description_that_was_made_needs_the_file_no_more(folder: Path) -> None:
    """As in a journal, or in a pickle on another host; what is in it stays as it was."""
    pilot = PilotDescription(site="hpc:gpu", queue=None)
    (folder / "hpc.toml").unlink()
    assert pickle.loads(pickle.dumps(pilot)) == pilot
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(pilot), type=PilotDescription) == pilot
    assert msgspec.structs.replace(pilot, name="other").queue is None


def test_the_first_of_the_search_path_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mine").mkdir()
    mine = folder / "mine/hpc.toml"
    mine.write_text("cores_per_node = 3\n")
    monkeypatch.setenv(sites.SITES, f"{mine}:{folder}")
    assert PilotDescription(site="hpc").cores_per_node == 3
    assert set(sites.files()) == {"hpc", "laptop"}


def test_without_the_variable_administrators_have_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(sites.SITES, raising=False)
    assert [str(path) for path in sites.search_path()] == ["/etc/quantum-pilot/sites.d"]
    monkeypatch.setattr(sites, "FOLDER", str(tmp_path / "none"))
    assert sites.files() == {}
    with pytest.raises(
        DescriptionError, match=r"'hpc' is not valid; expected a profile, and there is none in /.*/none: "
    ):
        PilotDescription(site="hpc")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"site": "hcp"},
            r"^PilotDescription.site: 'hcp' is not valid; expected one of hpc, laptop \(did you mean 'hpc'",
        ),
        ({"site": "hpc:qpu"}, r"hpc.toml has no table 'qpu' \(did you mean 'gpu'\?\); it has cpu, gpu"),
        ({"site": ""}, r"^PilotDescription.site: '' is not valid"),
        ({"site": 3}, r"^PilotDescription.site: 3 is not valid; expected a text"),
        ({"site": "hpc", "walltime": -1}, r"^PilotDescription.walltime: -1 is not valid"),
        (
            {"site": "hpc", "number_of_nodes": 9},
            r"number_of_nodes: 9 .* expected at most 8, the limit of .*hpc.toml:8$",
        ),
        ({"site": "hpc:gpu", "number_of_nodes": 3}, r"expected at most 2, the limit of .*hpc.toml:26, table \[gpu\]$"),
        (
            {"site": "hpc:gpu", "walltime": "2:00:01"},
            r"walltime: .* expected at most 2:00:00, the limit of .*hpc.toml:8$",
        ),
    ],
)
def test_what_a_user_gives_wrong(folder: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(DescriptionError, match=said):
        PilotDescription(**fields)


BROKEN = {
    "key": ("x = 1\n[cpu]\n", r"^/.*/broken.toml:1: PilotDescription has no field 'x'"),
    "key of a table": (
        "[a]\n[cpu]\ncoress = 4\n",
        r":3, table \[cpu\]: PilotDescription has no field 'coress' \(did you",
    ),
    "value": ('[cpu]\n"account" = 4\n', r":2, table \[cpu\]: PilotDescription.project: 4 is not valid"),
    "value below": ("[cpu.environment]\nA = 4\n", r":1, table \[cpu\]: PilotDescription.environment: "),
    "two values": (
        "drain = 70\nwalltime = 60\n",
        r"broken.toml:1: PilotDescription.drain: 70.* less than the walltime",
    ),
    "variable": ('\nvenv = "$NO_SUCH/q"\n', r":2: venv: '\$NO_SUCH/q': the variable NO_SUCH is not set here"),
    "dollar": (
        'container = ["a", "$"]\n',
        r":1: container: '\$': a dollar begins no variable: write \$\$ for a dollar",
    ),
    "default": ('default = "cpu"\n[gpu]\n', r":1: default: 'cpu' is not valid; expected the name of a table: gpu"),
    "limit": (
        "[cpu]\nlimits = {nodes = 1}\n",
        r":2, table \[cpu\]: there is no limit 'nodes' \(did you mean 'number_of_n",
    ),
    "value of a limit": ("[limits]\nwalltime = 0\n", r":1: limits: PilotDescription.walltime: 0 is not valid"),
    "no limits": (
        "limits = 3\n",
        r":1: limits: 3 is not valid; expected a table with the most of number_of_nodes, cores",
    ),
    "another site": ('site = "hpc"\n', r":1: a site's profile cannot name a site"),
    "no TOML": ("[cpu\n", r"broken.toml is not valid TOML: .*line 1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_site_says_where_and_breaks_no_other(
    folder: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = BROKEN[case]
    (folder / "broken.toml").write_text(text)
    with pytest.raises(DescriptionError, match=said):
        PilotDescription(site="broken:cpu" if "[cpu]" in text else "broken")
    assert PilotDescription(site="hpc").queue == "regular"
    assert main(["sites", "ls", "--json"]) == 1
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed["hpc"]["pilots"] == ["hpc:cpu", "hpc:gpu"] and not listed["hpc"]["problem"]
    assert "broken.toml" in listed["broken"]["problem"]


def test_the_command_shows_what_a_site_gives_and_from_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", "ls"]) == 0
    assert "The group's cluster" in capsys.readouterr().out
    assert main(["sites", "show", "hpc:gpu"]) == 0
    printed = capsys.readouterr().out
    shown = tomllib.loads(printed)
    assert shown.pop("limits") == {"number_of_nodes": 2, "walltime": "2:00:00"}
    assert PilotDescription(**shown) == msgspec.structs.replace(PilotDescription(site="hpc:gpu"), site=None)
    lines = (folder / "hpc.toml").read_text().splitlines()
    for line in printed.splitlines()[1:]:
        key, place = line.split(" = ")[0], int(line.rpartition("hpc.toml:")[2].split(",")[0])
        name = {"project": "account", "queue": "partition"}.get(key, key)
        assert name in lines[place - 1], line
    assert main(["sites", "show", "hpc", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"hpc:cpu", "hpc:gpu"}
    assert main(["sites", "show", "hcp"]) == 2
    assert "did you mean 'hpc'" in capsys.readouterr().err


def test_the_command_says_what_a_launcher_will_refuse(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where there is no Slurm; a number of cores is not missed, users may give it."""
    (folder / "laptop.toml").write_text("resource = 'slurm://'\nscheduler_script_commands = ['--qos=x']\n")
    assert main(["sites", "check", "laptop"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "lines that begin with \"#SBATCH \"; not '--qos=x'" in said and "cores_per_node" not in said


def test_the_command_checks_sites(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", "check", "laptop"]) == 0
    assert "laptop  fits local://" in capsys.readouterr().out
    (folder / "laptop.toml").write_text("[a]\nnumber_of_nodes = 2\n[b]\n")
    assert main(["sites", "check", "laptop", "hcp", "--json"]) == 1
    found = {one["topic"]: (one["state"], one["what"]) for one in json.loads(capsys.readouterr().out)}
    assert found["laptop:b"][0] == "ok"
    assert found["laptop:a"][0] == "broken" and "number_of_nodes" in found["laptop:a"][1]
    assert found["hcp"][0] == "broken" and "expected one of hpc, laptop" in found["hcp"][1]


def test_a_variable_that_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sites.SITES, "/no/sites")
    with pytest.raises(
        DescriptionError, match=r"QUANTUM_PILOT_SITES: '/no/sites' is not valid; expected files and fol"
    ):
        sites.files()
