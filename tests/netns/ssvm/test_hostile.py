"""Images that are not what they should be, in every format: none becomes an object, none is unpacked to its end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.netns.ssvm.world import FILES, STORE, World

#: qemu-img arguments -> (format the image is said to be, words of the failure)
BACKED = ["-u", "-F", "raw", "-b"]
FORMS = {
    "backing file": (["-f", "qcow2", *BACKED, "/etc/passwd"], "qcow2", "not safe"),
    "backing device": (["-f", "qcow2", *BACKED, "/dev/vda"], "qcow2", "not safe"),
    "backing network": (["-f", "qcow2", *BACKED, "nbd://10.9.0.1:10809/x"], "qcow2", "not safe"),
    "backing json": (
        ["-f", "qcow2", *BACKED, 'json:{"driver":"file","filename":"/etc/passwd"}'],
        "qcow2",
        "not safe",
    ),
    "data file": (["-f", "qcow2", "-o", "data_file=/srv/data"], "qcow2", "not safe"),
    "data file raw": (["-f", "qcow2", "-o", "data_file=/srv/data2,data_file_raw=on"], "qcow2", "not safe"),
    "qed with backing": (["-f", "qed", *BACKED, "/etc/passwd"], "raw", "it is qed"),
    "vmdk with parent": (["-f", "vmdk", "-u", "-F", "vmdk", "-b", "/srv/parent.vmdk"], "vmdk", ""),
    "vmdk descriptor": (["-f", "vmdk", "-o", "subformat=monolithicFlat"], "vmdk", ""),
    "vmdk descriptor of parts": (["-f", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"], "vmdk", ""),
    "vmdk descriptor of sparse parts": (["-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"], "vmdk", ""),
    "luks": (["-f", "luks", "--object", "secret,id=s,data=x", "-o", "key-secret=s,iter-time=10"], "raw", "it is luks"),
    "too large": (["-f", "qcow2"], "qcow2", "more than the"),
    "too large vmdk": (["-f", "vmdk"], "vmdk", "more than the"),
    "too large vhdx": (["-f", "vhdx"], "vhdx", "more than the"),
    "too large vdi": (["-f", "vdi"], "vdi", "more than the"),
}

#: writes ``new`` over the first ``old`` of a file, or at an offset: qemu-img makes no such image itself
_PATCH = """
import sys
path, where, new = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
with open(path, "r+b") as file:
    content = file.read()
    offset = int(where[1:]) if where[0] == "@" else content.index(bytes.fromhex(where))
    file.seek(offset + (int(sys.argv[4]) if len(sys.argv) > 4 else 0))
    file.write(new)
"""


def make(world: World, *arguments: str, size: str = "64M") -> str:
    """An image at the origin; its name."""
    name = f"hostile-{world.lab.number()}"
    if "-b" in arguments and "vmdk" in arguments:
        world.image("parent.vmdk", format="vmdk", size=size)
    world.origin.run(["qemu-img", "create", "-q", *arguments, f"{FILES}/{name}", size])
    return name


def patch(world: World, name: str, where: bytes | int, new: bytes, further: int = 0) -> None:
    place = f"@{where}" if isinstance(where, int) else where.hex()
    world.origin.run(["/usr/bin/python3", "-c", _PATCH, f"{FILES}/{name}", place, new.hex(), str(further)])


def refused(world: World, name: str, format: str, cause: str = "format", **more: Any) -> str:
    """The image is refused, leaves nothing, and what users are told of it."""
    id = world.download(name, format=format, **more)
    message = world.failed(id, cause)
    left = world.ssvm.run(["find", STORE, "-name", f"{id}*"]).stdout
    assert left == "", left
    assert "/etc/passwd" not in message and STORE not in message
    return message


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_qemu_img_makes(world: World, form: str) -> None:
    arguments, format, text = FORMS[form]
    large = form.startswith("too large")
    name = make(world, *arguments, size="2T" if large else "64M")
    more = {"virtual_limit": 1 << 40} if large else {}
    assert text in refused(world, name, format, "size" if large else "format", **more)


@pytest.mark.parametrize("form", ["backing file", "data file"])
@pytest.mark.parametrize("tool", ["gzip", "bzip2", "xz", "zstd"])
def test_forms_that_are_packed(world: World, form: str, tool: str) -> None:
    """What is inside is looked at like what comes as it is, and a packed image is no raw one."""
    name = make(world, *FORMS[form][0])
    world.origin.run([tool, "-q", "-f", f"{FILES}/{name}"])
    packed = f"{name}.{ {'gzip': 'gz', 'bzip2': 'bz2', 'xz': 'xz', 'zstd': 'zst'}[tool] }"
    assert "not safe" in refused(world, packed, "qcow2")
    assert "it is qcow2" in refused(world, packed, "raw")


def test_a_vmdk_whose_descriptor_names_other_files(world: World) -> None:
    for extent in (b'RW 8 FLAT "/etc/passwd"', b'RW 131072 SPARSE "../../x.vmdk"'):
        name = make(world, "-f", "vmdk")
        patch(world, name, b"RW 131072 SPARSE", extent + b" 0\n#")
        refused(world, name, "vmdk")


def test_a_vhd_that_is_a_difference(world: World) -> None:
    """Disk type 4 (Virtual Hard Disk Image Format Specification, "Hard Disk Footer Format"), checksums and all."""
    name = make(world, "-f", "vpc", "-o", "subformat=dynamic")
    program = """
import struct, sys
with open(sys.argv[1], "r+b") as file:
    content = file.read()
    footer = bytearray(content[:512])
    footer[60:64], footer[64:68] = struct.pack(">I", 4), bytes(4)
    footer[64:68] = struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)
    for offset in (0, len(content) - 512):
        file.seek(offset)
        file.write(footer)
"""
    world.origin.run(["/usr/bin/python3", "-c", program, f"{FILES}/{name}"])
    assert "difference" in refused(world, name, "vhd")
    refused(world, name, "raw")


def test_a_vhd_without_its_first_footer_is_a_raw_disk(world: World) -> None:
    name = make(world, "-f", "vpc", "-o", "subformat=fixed")
    assert "it is raw" in refused(world, name, "vhd")
    world.done(world.download(name, format="raw"))


def test_a_vhdx_that_has_a_parent(world: World) -> None:
    """HasParent in the file parameters ([MS-VHDX], section 2.6.2.1)."""
    name = make(world, "-f", "vhdx")
    key = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
    find = """
import struct, sys
with open(sys.argv[1], "r+b") as file:
    content = file.read()
    entry = content.index(bytes.fromhex(sys.argv[2]))
    region = content.rindex(b"metadata", 0, entry)
    offset, = struct.unpack_from("<I", content, entry + 16)
    file.seek(region + offset + 4)
    file.write(struct.pack("<I", 2))
"""
    world.origin.run(["/usr/bin/python3", "-c", find, f"{FILES}/{name}", key.hex()])
    refused(world, name, "vhdx")


def test_a_vdi_that_is_a_difference(world: World) -> None:
    """Image type 4, and the UUID of the image it is the difference from."""
    name = make(world, "-f", "vdi")
    patch(world, name, 0x4C, (4).to_bytes(4, "little"))
    assert "difference" in refused(world, name, "vdi")
    linked = make(world, "-f", "vdi")
    patch(world, linked, 0x1A8, bytes(range(16)))
    refused(world, linked, "vdi")


def test_an_image_of_qemu_with_unknown_features(world: World) -> None:
    name = make(world, "-f", "qcow2")
    patch(world, name, 72, (1 << 40).to_bytes(8, "big"))
    assert "not safe" in refused(world, name, "qcow2")


def test_packages_with_more_than_plain_disks(world: World) -> None:
    """OVF packages: what tar can do beside plain files, and disks that refer to other files."""
    root = f"{FILES}/ova-{world.lab.number()}"
    world.origin.run(["mkdir", root])
    world.origin.write(f"{root}/vm.ovf", "<Envelope/>")
    world.image("sound.vmdk", "-o", "subformat=streamOptimized", format="vmdk")
    world.origin.run(["cp", f"{FILES}/sound.vmdk", f"{root}/disk.vmdk"])
    flat = make(world, "-f", "vmdk", "-o", "subformat=monolithicFlat")
    world.origin.run(["cp", f"{FILES}/{flat}", f"{root}/flat.vmdk"])
    world.origin.run(["ln", "-s", "/etc/passwd", f"{root}/link.vmdk"])
    world.origin.run(["ln", f"{root}/disk.vmdk", f"{root}/hard.vmdk"])
    world.origin.run(["mkfifo", f"{root}/fifo.vmdk"])
    world.origin.run(["sh", "-c", f"cd {root} && for n in $(seq 100); do echo >$n.txt; done"])

    def package(*members: str, options: tuple[str, ...] = ()) -> str:
        name = f"package-{world.lab.number()}.ova"
        world.origin.run(["tar", "-C", root, *options, "-cf", f"{FILES}/{name}", *members])
        return name

    world.done(world.download(package("vm.ovf", "disk.vmdk"), format="ova"))
    for members, text in (
        (("vm.ovf", "link.vmdk"), "no plain file"),
        (("vm.ovf", "disk.vmdk", "hard.vmdk"), "no plain file"),
        (("vm.ovf", "fifo.vmdk"), "no plain file"),
        (("vm.ovf", "flat.vmdk"), ""),
        (("vm.ovf", "disk.vmdk", "disk.vmdk"), ""),
        (("vm.ovf",), "no VMDK disk"),
        (("vm.ovf", *(f"{n}.txt" for n in range(1, 100)), "disk.vmdk"), "more than 64 files"),
        (("./vm.ovf", "./disk.vmdk"), ""),
    ):
        assert text in refused(world, package(*members), "ova")
    outside = package("vm.ovf", "disk.vmdk", options=("--transform", "s,^disk,../../../etc/disk,", "-P"))
    assert "no plain file" in refused(world, outside, "ova")
    assert "more than the" in refused(world, package("vm.ovf", "disk.vmdk"), "ova", "size", virtual_limit=1 << 20)
    # what is packed is no package, and a package is neither image nor CD
    sound = package("vm.ovf", "disk.vmdk")
    world.origin.run(["gzip", "-k", f"{FILES}/{sound}"])
    assert "no tar file" in refused(world, f"{sound}.gz", "ova")
    for format in ("qcow2", "vmdk", "iso", "vhd"):
        assert "it is raw" in refused(world, sound, format)


@pytest.mark.parametrize(
    ("tool", "suffix"), [("gzip -9", "gz"), ("bzip2 -9", "bz2"), ("xz -1", "xz"), ("zstd -q -3", "zst")]
)
def test_bombs_stop_early(world: World, tool: str, suffix: str) -> None:
    """A gibibyte of zeros in a file of at most a mebibyte: no more than what is allowed is ever made of it."""
    name = f"bomb.{suffix}"
    world.origin.run(["sh", "-c", f"head -c 1G /dev/zero | {tool} >{FILES}/{name}"], timeout=120)
    assert int(world.origin.run(["stat", "-c", "%s", f"{FILES}/{name}"]).stdout) <= 1 << 20
    message = refused(world, name, "raw", "size", virtual_limit=16 << 20)
    assert "unpacks to more than the 16777216 bytes" in message


def test_a_bomb_of_a_window(world: World) -> None:
    """A file that asks for two gibibytes of memory to be unpacked."""
    world.origin.run(["sh", "-c", f"head -c 1M /dev/urandom | zstd -q --ultra --long=31 -22 >{FILES}/window.zst"])
    world.origin.run(["sh", "-c", f"head -c 1M /dev/urandom | xz -q --lzma2=dict=1536MiB -T1 >{FILES}/window.xz"])
    for name in ("window.zst", "window.xz"):
        refused(world, name, "raw")


def test_converting_cannot_grow_without_end(world: World) -> None:
    """A sparse image of the largest size that is allowed stays sparse when it is converted."""
    name = make(world, "-f", "qcow2", size="1T")
    id = world.download(name, convert="qcow2", virtual_limit=1 << 40)
    result = world.done(id).result
    assert result is not None
    assert (result.virtual_size, result.physical_size < 64 << 20) == (1 << 40, True)
