from __future__ import annotations

from pathlib import Path

from controlplane.hypervisors.namespace.cgroups import Cgroups


def test_version_2_sets_the_limit_and_names_the_file_to_enter(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    cgroups = Cgroups(Path("/data"), tmp_path)
    assert cgroups.directory is not None
    entered = cgroups.prepare("g-1", 256)
    assert entered == (str(cgroups.directory / "g-1/cgroup.procs"),)
    assert (cgroups.directory / "g-1/memory.max").read_text() == str(256 << 20)
    assert (cgroups.directory / "cgroup.subtree_control").read_text() == "+memory"
    assert cgroups.ids() == ["g-1"]


def test_data_directories_have_groups_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "cgroup.subtree_control").write_text("memory")
    assert Cgroups(Path("/one"), tmp_path).directory != Cgroups(Path("/two"), tmp_path).directory


def test_without_the_right_there_is_no_limit_and_no_error(tmp_path: Path) -> None:
    cgroups = Cgroups(Path("/data"), tmp_path)
    assert cgroups.prepare("g-1", 256) == ()
    assert cgroups.ids() == []
    cgroups.remove("g-1")
    cgroups.remove_all()
