"""``make guest-image``: the guests of libvirt's templates as qcow2 disks. Needs only to read the package archive.

The disk is one FAT file system that syslinux boots; root is the initial RAM disk, so a guest begins anew at each start.
Programs are the build machine's own (busybox, dropbear) or of its release's packages (kernel, QEMU guest agent).
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from appliance.run import run

_FILES = Path(__file__).parent / "files"
GUEST_FILES = Path(__file__).parents[2] / "controlplane/hypervisors/namespace/guest"
FOLDER = Path(__file__).parents[2] / "build/guest"

#: what is built into a kernel has no file
DRIVERS = ("virtio_pci", "virtio_net", "virtio_blk", "virtio_console", "virtio_rng", "button", "evdev", "qemu_fw_cfg")

_USERS = "root:x:0:0:root:/root:/bin/sh\n"
_SHADOW = "root:*:19000:0:99999:7:::\n"
_MEGABYTE = 1 << 20


#: template -> what init runs in its guests for the network: ``builtin`` boots like a small VM, ``bare`` starts nothing
TEMPLATES = {
    "builtin": ("::sysinit:/etc/guest/boot", "::respawn:/etc/guest/network", "::respawn:/etc/guest/sshd"),
    "bare": ("::sysinit:/usr/bin/busybox ip link set lo up",),
}


def build(folder: Path) -> list[Path]:
    """Write ``TEMPLATE.qcow2`` of each template into ``folder``. Raises CommandError naming the command that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gatehouse-guest-") as name:
        work = Path(name)
        packages = work / "packages"
        for package in (_kernel_package(), "qemu-guest-agent"):
            _unpack(package, packages)
        [kernel] = (packages / "boot").glob("vmlinuz-*")
        root = work / "root"
        make_root(root, packages, kernel.name.removeprefix("vmlinuz-"))
        common, initrd = (root / "etc/inittab").read_text(), work / "initrd"
        for template, lines in TEMPLATES.items():
            (root / "etc/inittab").write_text(common + "".join(f"{line}\n" for line in lines))
            initrd.write_bytes(gzip.compress(archive(root), 9, mtime=0))
            make_disk(work / "disk", kernel, initrd)
            fresh = folder / f".{template}.new"
            run(["qemu-img", "convert", "-O", "qcow2", "-c", str(work / "disk"), str(fresh)])
            fresh.rename(image_of(template, folder))
    return [image_of(template, folder) for template in TEMPLATES]


def image_of(template: str, folder: Path = FOLDER) -> Path:
    """Where the disk image of a template is in ``folder``."""
    return folder / f"{template}.qcow2"


def images() -> Path:
    """The folder with the images, built when what they are made of has changed."""
    files = [path for part in (Path(__file__).parent, GUEST_FILES) for path in part.rglob("*") if path.is_file()]
    newest = max(path.stat().st_mtime for path in files)
    made = [image_of(template) for template in TEMPLATES]
    if any(not image.exists() or image.stat().st_mtime < newest for image in made):
        build(FOLDER)
    return FOLDER


def _kernel_package() -> str:
    """Name of the package with the newest kernel of this release for virtual machines."""
    shown = run(["apt-cache", "depends", "linux-image-cloud-amd64"]).stdout
    found: list[str] = re.findall(r"Depends: (linux-image-\S+)", shown)
    if not found:
        raise SystemExit("apt-cache knows no linux-image-cloud-amd64; run apt-get update first")
    return found[0]


def _unpack(package: str, target: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        here = Path.cwd()
        os.chdir(directory)
        try:
            run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package], timeout=300)
        finally:
            os.chdir(here)
        [archive] = Path(directory).glob("*.deb")
        run(["dpkg-deb", "-x", str(archive), str(target)], timeout=120)


def make_root(root: Path, packages: Path, version: str) -> None:
    """The guest's file tree: merged /usr, busybox under the names of its applets, drivers, scripts."""
    for name in ("usr/bin", "usr/sbin", "usr/lib/drivers", "etc/acpi/PWRF", "var/log", "root", "run", "tmp", "home"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("proc", "sys", "dev"):
        (root / name).mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "usr/lib64").mkdir()
    (root / "root").chmod(0o700)
    programs = [
        (Path("/usr/bin/busybox"), "usr/bin/busybox"),
        (Path("/usr/sbin/dropbear"), "usr/sbin/dropbear"),
        (packages / "usr/sbin/qemu-ga", "usr/sbin/qemu-ga"),
    ]
    for program, name in programs:
        shutil.copy2(program, root / name)
        for library in libraries(program):
            place = root / library.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, place)
    for applet in run(["busybox", "--list"]).stdout.split():
        if applet != "busybox":
            (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "usr/sbin/init").symlink_to("../bin/busybox")
    drivers(DRIVERS, packages / "lib/modules" / version, root / "usr/lib/drivers")
    shutil.copytree(GUEST_FILES, root / "etc/guest")
    for source, name in (
        ("machine", "etc/guest/machine"),
        ("agent", "etc/guest/agent"),
        ("sshd", "etc/guest/sshd"),
        ("power", "etc/acpi/PWRF/00000080"),
        ("chpasswd", "usr/sbin/chpasswd"),
        ("inittab", "etc/inittab"),
    ):
        shutil.copyfile(_FILES / source, root / name)
        (root / name).chmod(0o644 if source == "inittab" else 0o755)
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shadow").write_text(_SHADOW)
    (root / "etc/shadow").chmod(0o600)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/hostname").write_text("localhost\n")


def libraries(program: Path) -> Iterable[Path]:
    """The shared libraries that a program of this machine loads, by ldd(1)."""
    for line in run(["ldd", str(program)]).stdout.splitlines():
        found = re.search(r"(/\S+) \(0x", line)
        if "not found" in line:
            raise SystemExit(f"{program.name} needs {line.split()[0]}, which this machine lacks; run make setup")
        if found:
            yield Path(found[1])


def drivers(names: Iterable[str], modules: Path, target: Path) -> None:
    """Copy drivers and what they depend on to ``target``; its file ``order`` names them in the order to load."""
    files = {path.name.split(".")[0].replace("-", "_"): path for path in modules.rglob("*.ko*")}
    order: list[str] = []

    def add(name: str) -> None:
        source = files.get(name.replace("-", "_"))
        if source is None or name in order:
            return
        content = source.read_bytes()
        if source.suffix == ".xz":
            content = lzma.decompress(content)
        # of the section .modinfo
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in depends[1].decode().split(",") if depends else ():
            add(needed)
        (target / f"{name}.ko").write_bytes(content)
        order.append(name)

    for name in names:
        add(name)
    (target / "order").write_text("\n".join(order) + "\n")


def archive(root: Path) -> bytes:
    """``root`` as a cpio archive in the kernel's format (initramfs buffer format), owned by root, sorted, undated."""
    parts = []
    for number, path in enumerate([root, *sorted(root.rglob("*"))], 1):
        name = "." if path == root else str(path.relative_to(root))
        status = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        parts.append(_entry(name, number, status.st_mode, content))
    parts.append(_entry("TRAILER!!!", 0, 0, b""))
    return b"".join(parts)


def _entry(name: str, number: int, mode: int, content: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return header + b"\0" * (-len(header) % 4) + content + b"\0" * (-len(content) % 4)


def make_disk(disk: Path, kernel: Path, initrd: Path) -> None:
    """A FAT file system that a BIOS boots by syslinux(1)."""
    size = kernel.stat().st_size + initrd.stat().st_size + 4 * _MEGABYTE
    with disk.open("wb") as file:
        file.truncate(-(-size // _MEGABYTE) * _MEGABYTE)
    run(["mkfs.fat", "-i", "67617465", "-n", "GUEST", str(disk)])
    for source, name in ((kernel, "vmlinuz"), (initrd, "initrd"), (_FILES / "syslinux.cfg", "syslinux.cfg")):
        run(["mcopy", "-i", str(disk), str(source), f"::{name}"])
    run(["syslinux", "--install", str(disk)])


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the images of the guests that come with libvirt's templates.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the qcow2 files go (default: %(default)s)")
    for image in build(parser.parse_args().folder):
        print(f"{image}: {image.stat().st_size / _MEGABYTE:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
