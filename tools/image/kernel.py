"""The kernel, the modules that appliances use, and the initrd."""

from __future__ import annotations

import fnmatch
import lzma
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.run import run
from tools.image import inputs
from tools.image.root import BuildError


def version(root: Path) -> str:
    """The kernel's release, e.g. ``6.12.1+deb13-amd64``."""
    found = [path.name for path in (root / "usr/lib/modules").iterdir()]
    if len(found) != 1:
        raise BuildError(f"the tree has not one kernel: {', '.join(sorted(found)) or 'none'}")
    return found[0]


def dependencies(modules: Path) -> dict[str, list[str]]:
    """modules.dep(5) without suffixes: path below the modules' directory -> paths it needs."""
    pairs = (line.split(":") for line in (modules / "modules.dep").read_text().splitlines())
    return {_plain(name): [_plain(other) for other in others.split()] for name, others in pairs}


def _plain(path: str) -> str:
    return path.removesuffix(".xz").removesuffix(".ko")


def chosen(needs: Mapping[str, Iterable[str]], patterns: Iterable[str]) -> set[str]:
    """The modules that match a pattern below ``kernel/``, with all they need. Raises BuildError for idle patterns."""
    found: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(needs, f"kernel/{pattern}")
        if not matching:
            raise BuildError(f"image-build/modules.txt: no module of this kernel matches {pattern}")
        found.update(matching)
    return found.union(*(needs[name] for name in found))


def prune(root: Path) -> None:
    """Keep only the chosen modules, uncompressed: the root file system compresses, and loading them is quicker."""
    modules = root / "usr/lib/modules" / version(root)
    needs = dependencies(modules)
    keep = chosen(needs, inputs.lines(inputs.FOLDER / "modules.txt"))
    for name in needs:
        packed = modules / f"{name}.ko.xz"
        if name in keep:
            packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    for folder, _, _ in os.walk(modules, topdown=False):
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    run(["chroot", str(root), "/usr/sbin/depmod", version(root)])


def initrd(root: Path, signature: bytes, work: Path, epoch: int) -> bytes:
    """The initial file tree as a cpio archive: busybox, a few modules and image-build/initrd/init."""
    tree = work / "initrd"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "modules", "dev", "proc", "sys", "run", "root", "changes"):
        (tree / name).mkdir(parents=True)
    shutil.copyfile(root / "usr/bin/busybox", tree / "bin/busybox")
    (tree / "bin/busybox").chmod(0o755)
    (tree / "bin/sh").symlink_to("busybox")
    shutil.copyfile(inputs.FOLDER / "initrd/init", tree / "init")
    (tree / "init").chmod(0o755)
    (tree / "signature").write_text(f"SIGNATURE={signature.hex()}\n")
    (tree / "modules.order").write_text("".join(f"{name}\n" for name in _copy_modules(root, tree / "modules")))
    return _cpio(tree, epoch)


def _copy_modules(root: Path, target: Path) -> list[str]:
    """Copy what the initrd loads; the names in the order to load them."""
    modules = root / "usr/lib/modules" / version(root)
    needs = dependencies(modules)
    paths = {Path(name).name: name for name in needs}
    order: list[str] = []
    for wanted in inputs.lines(inputs.FOLDER / "initrd/modules.txt"):
        # modules.dep has the nearest dependency first
        for name in (*reversed(needs[paths[wanted]]), paths[wanted]):
            if Path(name).name not in order:
                order.append(Path(name).name)
                shutil.copyfile(modules / f"{name}.ko", target / f"{Path(name).name}.ko")
    return order


def _cpio(tree: Path, epoch: int) -> bytes:
    """A cpio archive in the "newc" form (Documentation/driver-api/early-userspace/buffer-format of the kernel)."""
    out = bytearray()
    paths = sorted(tree.rglob("*"))
    for number, path in enumerate(paths, 1):
        about = path.lstat()
        content = b""
        if path.is_symlink():
            content = str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
        _append(out, str(path.relative_to(tree)), content, (number, about.st_mode, 0, 0, 1, epoch))
    _append(out, "TRAILER!!!", b"", (0, 0, 0, 0, 1, 0))
    return bytes(out)


def _append(out: bytearray, name: str, content: bytes, head: tuple[int, ...]) -> None:
    """``head``: inode number, mode, owner, group, links, time."""
    encoded = name.encode() + b"\0"
    fields = (*head, len(content), 0, 0, 0, 0, len(encoded), 0)
    out += b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
    out += bytes(-len(out) % 4) + content
    out += bytes(-len(out) % 4)
