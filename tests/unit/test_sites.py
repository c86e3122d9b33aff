"""Site profiles: those that come along describe pilots; whatever is wrong in one is named with file and table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot.descriptions import PilotDescription
from pilot.errors import DescriptionError
from pilot.profiles import profile_tables

SITES = Path(__file__).parents[2] / "slurm" / "sites"


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
        ("[cpu]\ncores = 4\n", "cpu", r"site.toml, table \[cpu\]: PilotDescription has no field 'cores'"),
        ("[cpu]\nwalltime = -1\n", "cpu", r"site.toml, table \[cpu\]: PilotDescription.walltime"),
        ("cores_per_node = 0\n", None, r"site.toml: PilotDescription.cores_per_node: 0 is not valid"),
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
