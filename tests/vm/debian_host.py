"""Tests on Debian 13's own kernel: a virtual machine with it, on this machine's files.

The machine's first process is a page of shell. Everything the tests write is in its memory; networks, mounts and
processes are its own.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.run import run
from tests.vm.accelerator import machine_options
from tests.vm.qemu import DEVICES
from tools.guestimage import build
from tools.image import root

_REPOSITORY = Path(__file__).resolve().parents[2]
_MEGABYTES = 1536
#: what the initial RAM disk loads; virtio's own drivers are built into this kernel
_DRIVERS = ("9p", "9pnet_virtio", "overlay")

_FIRST = """#!/bin/busybox sh
busybox mount -t proc proc /proc
for module in $(busybox cat /drivers/order); do busybox insmod "/drivers/$module.ko"; done
share() { busybox mount -t 9p -o "trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro" "$1" "$2"; }
share machine /machine
busybox mount -t tmpfs -o mode=755 changes /changes
busybox mkdir /changes/upper /changes/work
busybox mount -t overlay -o lowerdir=/machine,upperdir=/changes/upper,workdir=/changes/work overlay /root
busybox mkdir -p /root/usr/lib/modules
share modules /root/usr/lib/modules
busybox cp /second /root/.second
busybox umount /proc
exec busybox switch_root /root /bin/sh /.second
"""

_SECOND = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
# the repository may be in /tmp
mkdir /.repository
mount --bind {repository} /.repository
for place in /dev/shm /run /tmp; do mount -t tmpfs tmpfs $place; done
mkdir -p {repository}
mount --bind /.repository {repository}
exec >/dev/ttyS0 2>&1
ip link set lo up
cd {repository}
{command}
echo "ended with $?."
echo o >/proc/sysrq-trigger
sleep 60
"""


def unpacked_kernel(folder: Path) -> Path:
    """The file tree of Debian 13's kernel package in ``folder``, downloaded when it is not there."""
    tree = folder / "tree"
    if (folder / "complete").exists():
        return tree
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "sources.list").write_text("\n".join(root.sources()) + "\n")
    places = {"State": "state", "Cache": "cache", "Etc::SourceList": "sources.list"}
    options = [f"Dir::{name}={folder / place}" for name, place in places.items()]
    options += ["Dir::Etc::SourceParts=/dev/null", "Dir::State::status=/dev/null", "APT::Sandbox::User=root"]
    words = [word for option in options for word in ("-o", option)]
    run(["apt-get", *words, "-qq", "update"], timeout=300)
    depends = run(["apt-cache", *words, "depends", "linux-image-amd64"]).stdout
    [package] = [line.split()[1] for line in depends.splitlines() if "Depends: linux-image-" in line]
    run(["sh", "-c", 'cd "$0" && exec apt-get "$@"', str(folder), *words, "-qq", "download", package], timeout=600)
    [archive] = folder.glob("linux-image-*.deb")
    run(["dpkg-deb", "-x", str(archive), str(tree)], timeout=300)
    archive.unlink()
    run(["depmod", "-b", str(tree / "usr"), _release(tree)], timeout=300)
    (folder / "complete").touch()
    return tree


def _release(tree: Path) -> str:
    [modules] = (tree / "usr/lib/modules").iterdir()
    return modules.name


def run_tests(directory: Path, tree: Path, tests: Sequence[str], timeout: float) -> str:
    """Run pytest on ``tests`` in a machine with the kernel of ``tree``; its output. AssertionError when it fails.

    ``directory`` is an empty one for what the machine boots from.
    """
    command = shlex.join([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *tests])
    initrd = directory / "initrd"
    initrd.write_bytes(
        _initrd(directory / "first", tree, _SECOND.format(repository=shlex.quote(str(_REPOSITORY)), command=command))
    )
    serial = directory / "serial"
    argv = ["qemu-system-x86_64", *machine_options(2), "-m", str(_MEGABYTES), *DEVICES]
    argv += ["-kernel", str(tree / f"boot/vmlinuz-{_release(tree)}"), "-initrd", str(initrd)]
    argv += ["-append", "console=ttyS0 quiet loglevel=3 panic=-1 cryptomgr.notests", "-serial", f"file:{serial}"]
    for tag, path in (("machine", Path("/")), ("modules", tree / "usr/lib/modules")):
        argv += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,multidevs=remap"]
        argv += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=timeout, check=True)
    output = serial.read_text(errors="replace")
    assert "ended with 0." in output, output
    return output


def _initrd(place: Path, tree: Path, second: str) -> bytes:
    """The initial RAM disk, put together below ``place``; ``second`` is the script that then runs on all files."""
    for name in ("bin", "proc", "machine", "changes", "root", "drivers"):
        (place / name).mkdir(parents=True)
    for program in (Path("/usr/bin/busybox"), *build.libraries(Path("/usr/bin/busybox"))):
        target = place / ("bin/busybox" if program.name == "busybox" else program.relative_to("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(program, target)
    build.drivers(_DRIVERS, tree / "usr/lib/modules" / _release(tree), place / "drivers")
    (place / "init").write_text(_FIRST)
    (place / "init").chmod(0o755)
    (place / "second").write_text(second)
    return build.archive(place)
