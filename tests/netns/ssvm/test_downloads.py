"""Downloads into a directory: from a web server of the internet, from inside, and from where nobody should."""

from __future__ import annotations

import random
import subprocess
import time

import pytest

from tests.netns.lab import REPOSITORY
from tests.netns.ssvm.world import FILES, INNER, ORIGIN, SSVM, STORE, World
from tests.wait import wait_for

BIG = 96 << 20


def no_parts(world: World) -> bool:
    return not [name for name in world.objects() if name.startswith(".parts/")]


@pytest.mark.any_hypervisor
def test_an_image_is_fetched_checked_and_kept(world: World) -> None:
    path = world.image("plain.qcow2")
    wanted = world.sha256(world.origin, path)
    id = world.download("plain.qcow2", checksum=wanted, path="template/plain.qcow2")
    job = world.done(id)
    assert job.result is not None
    assert (job.result.checksum, job.result.object_checksum, job.percent) == (wanted, wanted, 100)
    assert (job.result.format, job.result.virtual_size) == ("qcow2", 64 << 20)
    assert world.sha256(world.ssvm, f"{STORE}/template/plain.qcow2") == wanted
    assert no_parts(world)
    # the other way round: the object goes, and a job that is done is not done again
    world.push(jobs=[{"kind": "delete", "id": "gone", "store": "primary", "path": "template/plain.qcow2"}])
    world.done("gone")
    assert world.objects() == []


@pytest.mark.any_hypervisor
def test_another_store(world: World) -> None:
    path = "/var/lib/gatehouse/second"
    stores = world.state["storage"]["stores"]
    world.push(stores=[*stores, {"kind": "directory", "id": "second", "path": path}])
    world.image("other.qcow2")
    id = world.download("other.qcow2", store="second")
    world.done(id)
    assert world.ssvm.ok(["test", "-s", f"{path}/objects/{id}"])
    wait_for(lambda: all(store.healthy and store.total for store in world.report().stores), 10, "the stores' room")
    world.push(jobs=[], stores=stores)


@pytest.mark.parametrize("tool", ["gzip", "bzip2", "xz", "zstd"])
def test_compressed_files(world: World, tool: str) -> None:
    path = world.image(f"packed-{tool}")
    world.origin.run([tool, "-q", "-k", "-f", path])
    suffix = {"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"}[tool]
    id = world.download(f"packed-{tool}.{suffix}", convert="qcow2")
    assert world.done(id).result is not None
    info = world.ssvm.run(["qemu-img", "info", f"{STORE}/objects/{id}"]).stdout
    assert "compression type: zstd" in info


def test_a_bomb_stops_early(world: World) -> None:
    path = f"{FILES}/bomb"
    world.origin.run(["sh", "-c", f"head -c 256M /dev/zero | gzip -1 >{path}.gz"])
    id = world.download("bomb.gz", format="raw", virtual_limit=32 << 20)
    assert "unpacks to more than" in world.failed(id, "size")
    assert no_parts(world)


@pytest.mark.any_hypervisor
@pytest.mark.parametrize("format", ["raw", "vmdk", "vhd", "vhdx", "vdi"])
def test_formats(world: World, format: str) -> None:
    name = {"vhd": "vpc"}.get(format, format)
    world.image(f"disk.{format}", format=name)
    result = world.done(world.download(f"disk.{format}", format=format, convert="qcow2")).result
    assert result is not None
    assert result.format == "qcow2"
    assert result.virtual_size == pytest.approx(64 << 20, rel=0.01)


@pytest.mark.any_hypervisor
def test_an_ova(world: World) -> None:
    world.image("disk1.vmdk", "-o", "subformat=streamOptimized", format="vmdk")
    world.origin.write(f"{FILES}/vm.ovf", "<Envelope/>")
    world.origin.run(["tar", "-C", FILES, "-cf", f"{FILES}/vm.ova", "vm.ovf", "disk1.vmdk"])
    world.origin.run(["tar", "-C", FILES, "-cf", f"{FILES}/none.ova", "disk1.vmdk"])
    world.origin.run(["tar", "-C", "/", "-cf", f"{FILES}/path.ova", "srv/vm.ovf", "srv/disk1.vmdk"])
    result = world.done(world.download("vm.ova", format="ova")).result
    assert result is not None
    assert result.virtual_size == 64 << 20
    assert "no .ovf" in world.failed(world.download("none.ova", format="ova"), "format")
    assert "no plain file" in world.failed(world.download("path.ova", format="ova"), "format")
    assert "no tar file" in world.failed(world.download("disk1.vmdk", format="ova"), "format")


@pytest.mark.any_hypervisor
@pytest.mark.parametrize(
    ("make", "format", "text"),
    [
        (["-f", "qcow2", "-b", "/etc/passwd", "-F", "raw"], "qcow2", "not safe"),
        (["-f", "qcow2", "-o", "data_file=/srv/data"], "qcow2", "not safe"),
        (["-f", "qcow2"], "raw", "it is qcow2"),
        (["-f", "raw"], "qcow2", "it is raw"),
        (["-f", "vmdk", "-o", "subformat=monolithicFlat"], "vmdk", ""),
        (["-f", "qed"], "raw", "it is qed"),
    ],
)
def test_unsafe_images(world: World, make: list[str], format: str, text: str) -> None:
    path = f"{FILES}/unsafe-{world.lab.number()}"
    world.origin.run(["qemu-img", "create", "-q", *make, path, "64M"])
    id = world.download(path.removeprefix(f"{FILES}/"), format=format)
    assert text in world.failed(id, "format")
    assert f"objects/{id}" not in world.objects()
    assert no_parts(world)


@pytest.mark.any_hypervisor
def test_a_polyglot(world: World) -> None:
    """An ISO whose first bytes, which ISO 9660 leaves to others, are those of a qcow2 image."""
    path = world.image("polyglot")
    program = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(32769); f.write(b'CD001')"
    world.origin.run(["/usr/bin/python3", "-c", program, path])
    for format in ("qcow2", "iso", "raw"):
        assert "and" in world.failed(world.download("polyglot", format=format), "format")


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/x", "http://169.254.169.254/latest/", f"http://{SSVM}/x", "http://10.9.0.2/x"),
        *(f"http://{INNER}:8000/plain.qcow2", "http://2130706433/x", "http://[::ffff:10.9.0.1]/x"),
        *(
            f"http://{ORIGIN}:8000/x?to=http://{INNER}:8000/plain.qcow2",
            f"http://{ORIGIN}:8000/x?to=//169.254.169.254/latest",
        ),
    ],
)
def test_nothing_inside_is_reached(world: World, url: str) -> None:
    world.push(internal_sites=[])
    id = world.add(url=url, format="raw", size_limit=1 << 20)
    assert INNER not in world.failed(id, "refused-address") or INNER in url


@pytest.mark.any_hypervisor
def test_internal_sites(world: World) -> None:
    world.inner.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{FILES}/inside.qcow2", "1M"])
    world.push(internal_sites=["10.9.0.0/24"])
    world.done(world.download("inside.qcow2", host=INNER))
    world.push(internal_sites=[])


@pytest.mark.any_hypervisor
def test_the_firewall_holds_the_worker_to_it(world: World) -> None:
    code = "import socket,sys; socket.create_connection((sys.argv[1], 8000), 2)"
    for user, address, reached in (
        ("backup", INNER, False),
        ("backup", ORIGIN, True),
        ("nobody", ORIGIN, False),
        ("nobody", INNER, False),
    ):
        argv = ["setpriv", f"--reuid={user}", "--clear-groups", "/usr/bin/python3", "-c", code, address]
        assert world.ssvm.ok(argv) is reached, (user, address)


def test_names_that_change_their_address(world: World) -> None:
    """A resolver that answers with a public address first and an inner one from then on (DNS rebinding)."""
    log = "/run/asked"
    world.origin.popen(
        ["/usr/bin/env", f"PYTHONPATH={REPOSITORY}", *world.python, "-m", "tests.rebinding", ORIGIN, INNER, log],
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: world.origin.ok(["test", "-e", log]), 20, "the resolver")
    world.image("rebound.qcow2")
    world.push(resolvers=[ORIGIN])
    world.done(world.download("rebound.qcow2", host="once.example"))
    # a second download asks anew
    world.failed(world.download("rebound.qcow2", host="once.example"), "refused-address")
    # public and inner at once
    world.failed(world.download("rebound.qcow2", host="both.example"), "refused-address")
    world.failed(world.download("rebound.qcow2", host="inner.example"), "refused-address")
    # one look-up for the first download, one for the second
    assert world.origin.read(log).split().count("once.example.") == 2


def test_killed_at_random_points(world: World) -> None:
    """Nothing is lost, nothing is half visible, and what came before is not asked for again."""
    path = f"{FILES}/big"
    world.origin.run(["sh", "-c", f"head -c {BIG} /dev/urandom >{path}"])
    wanted = world.sha256(world.origin, path)
    world.push(bandwidth=32 << 20)
    id = world.download("big", format="raw", checksum=wanted)
    chance = random.Random(7)
    kills = 0
    while (job := world.report_or_none(id)) is None or job.state not in ("done", "failed"):
        assert f"objects/{id}" not in world.objects() or world.sha256(world.ssvm, f"{STORE}/objects/{id}") == wanted
        if kills < 5:
            time.sleep(chance.uniform(0.1, 0.8))  # the point of it: a kill at any time
            kills += bool(
                world.ssvm.run(["pkill", "-KILL", "-f", "services.storage.worker"], check=False).returncode == 0
            )
    assert job.state == "done", job
    assert kills >= 3
    assert world.sha256(world.ssvm, f"{STORE}/objects/{id}") == wanted
    assert no_parts(world)
    world.push(bandwidth=None)


def test_a_job_that_leaves_is_cancelled(world: World) -> None:
    id = world.download("big?stall=1000000", format="raw", size_limit=BIG)
    wait_for(lambda: world.job(id).received >= 1_000_000, 20, "the first bytes")
    assert world.job(id).state in ("running", "retrying")
    world.remove(id)
    wait_for(lambda: no_parts(world), 10, "the part to go")
    assert f"objects/{id}" not in world.objects()
