from __future__ import annotations

from pathlib import Path

from controlplane.hypervisors.namespace import layout
from controlplane.hypervisors.namespace.layout import Python, programs, uncovered
from controlplane.hypervisors.namespace.mounts import Mount

FOLDER, DATA = Path("/data/instances/r-1"), Path("/data")


def position(mounts: tuple[Mount, ...], target: str) -> int:
    return [mount.target for mount in mounts].index(target)


def test_only_the_outermost_directories_are_shown() -> None:
    paths = [Path("/opt/venv/lib"), Path("/opt/venv"), Path("/usr/lib/python3"), Path("/opt/venv2"), Path("/opt/venv")]
    assert sorted(uncovered(paths)) == [Path("/opt/venv"), Path("/opt/venv2")]


def test_programs_are_links_where_the_machine_has_links(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "lib").mkdir()
    assert programs(tmp_path) == [
        Mount("symlink", "/bin", "usr/bin"),
        Mount("bind", "/lib", str(tmp_path / "lib"), read_only=True),
    ]


def test_an_appliance_writes_to_nothing_of_the_machine() -> None:
    mounts = layout.appliance(FOLDER, DATA, Python("/opt/venv/bin/python", (Path("/opt/venv"),)), 256)
    writable = {mount.source for mount in mounts if mount.kind == "bind" and not mount.read_only}
    devices = {f"/dev/{name}" for name in layout.DEVICES}
    assert writable - devices == {str(FOLDER / "etc"), str(FOLDER / "var")}
    assert mounts[-1] == Mount("seal", "/")


def test_python_may_live_below_a_directory_that_is_hidden() -> None:
    python = Python("/tmp/venv/bin/python", (Path("/tmp/venv"),))
    mounts = layout.appliance(FOLDER, DATA, python, 256)
    assert position(mounts, "/tmp/venv") > position(mounts, "/tmp")


def test_a_data_directory_inside_what_is_shown_is_covered() -> None:
    python = Python("/opt/gatehouse/bin/python", (Path("/opt/gatehouse"),))
    data = Path("/opt/gatehouse/data")
    mounts = layout.appliance(data / "r-1", data, python, 256)
    cover = mounts[position(mounts, str(data))]
    assert (cover.kind, cover.read_only) == ("tmpfs", True)
    assert position(mounts, str(data)) > position(mounts, "/opt/gatehouse")
    guest = layout.guest(data / "g-1", data / "guest-base", Path("/usr/local/data"), [], 256)
    assert guest[-1].target == "/usr/local/data"
    assert str(DATA) not in [mount.target for mount in layout.guest(FOLDER, FOLDER, DATA, [], 256)]


def test_the_python_that_runs_this_finds_the_appliance_s_packages_and_not_the_control_plane() -> None:
    python = layout.this_python()
    import appliance

    top = Path(appliance.__file__ or "").parents[1]
    assert all(path.exists() for path in python.paths)
    assert any((top / "appliance").is_relative_to(path) for path in (*python.paths, Path("/usr")))
    assert not any((top / "controlplane").is_relative_to(path) for path in python.paths)
