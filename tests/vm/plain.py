"""A plain Debian 13 image to compare with: systemd and the same kernel only, made by the same tools."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.run import run
from tools.image import build, disk, inputs, kernel, root

PACKAGES = ("initramfs-tools", "linux-image-amd64", "login", "mount", "systemd-sysv", "udev", "util-linux")
NAME = "plain.qcow2"


def image(folder: Path) -> Path:
    """The image in ``folder``, made when it is not there or has another kernel than the system VMs' image."""
    target, made_for = folder / NAME, folder / "plain.kernel"
    wanted = json.loads((folder / "manifest.json").read_text())["kernel"]
    if target.exists() and made_for.exists() and made_for.read_text() == wanted:
        return target
    epoch = inputs.epoch()
    with build.scratch(folder) as work:
        tree = work / "root"
        root.bootstrap(tree, PACKAGES, epoch)
        release = kernel.version(tree)
        run(["chroot", str(tree), "update-initramfs", "-c", "-k", release], timeout=600)
        (tree / "etc/hostname").write_text("plain\n")
        (tree / "etc/fstab").write_text("/dev/vda2 / ext4 defaults 0 1\n")
        part = work / "root.ext4"
        run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(part), "900M"], timeout=600)
        options = "root=/dev/vda2 rw console=tty0 console=ttyS0,115200 quiet"
        boot = {
            "vmlinuz": (tree / f"boot/vmlinuz-{release}").read_bytes(),
            "initrd": (tree / f"boot/initrd.img-{release}").read_bytes(),
            "syslinux.cfg": f"DEFAULT l\nLABEL l\n KERNEL vmlinuz\n APPEND initrd=initrd {options}\n".encode(),
        }
        disk.boot_partition(work / "boot.fat", boot, b"race", epoch)
        disk.assemble(work / "disk.raw", work / "boot.fat", part, b"race")
        disk.convert(work / "disk.raw", work / NAME, "qcow2")
        (work / NAME).replace(target)
        made_for.write_text(release)
    return target
