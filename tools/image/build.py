"""Building the image: file tree, kernel, disk, conversions, manifest."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.run import run
from tools.image import disk, inputs, kernel, root

log = logging.getLogger(__name__)

NAME = "gatehouse"
_SCRATCH = ".work-"
#: options of mksquashfs; see "Decisions" in README for what was measured
SQUASH = ("-comp", "zstd", "-Xcompression-level", "19", "-b", "131072")
_COMMAND_LINE = "console=tty0 console=ttyS0,115200 quiet loglevel=4 net.ifnames=0 panic=10 cryptomgr.notests"


def image(folder: Path, formats: Sequence[str] = ("qcow2",), *, force: bool = False) -> Path:
    """Have the image in ``folder``, built only when its inputs changed; the path of the qcow2 file."""
    wanted, made = inputs.digest(), _manifest(folder)
    target = folder / f"{NAME}.qcow2"
    if force or made.get("inputs") != wanted or not target.exists():
        build(folder, wanted)
    for form in formats:
        path = folder / f"{NAME}.{disk.FORMATS[form]}"
        if form != "qcow2" and not (path.exists() and path.stat().st_mtime >= target.stat().st_mtime):
            log.info("converting to %s", form)
            with scratch(folder) as work:
                raw = work / "disk.raw"
                run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(target), str(raw)], timeout=600)
                disk.convert(raw, path, form)
    _checksums(folder)
    return target


def build(folder: Path, digest: str) -> None:
    """Build into ``folder``; what was there stays until everything is ready."""
    epoch = inputs.epoch()
    folder.mkdir(parents=True, exist_ok=True)
    with scratch(folder) as work:
        tree, ready = work / "root", work / "ready"
        ready.mkdir()
        log.info("installing packages")
        root.bootstrap(tree, inputs.lines(inputs.FOLDER / "packages.txt"), epoch)
        packages = root.installed(tree)
        log.info("kernel, overlay, Python parts")
        kernel.prune(tree)
        identifier = disk.signature(digest)
        linux = next((tree / "boot").glob("vmlinuz-*")).read_bytes()
        initrd = kernel.initrd(tree, identifier, work, epoch)
        root.overlay(tree)
        root.python_parts(tree)
        root.hooks(tree)
        root.compile_python(tree)
        sizes = component_sizes(tree)
        log.info("disk")
        disk.squash(tree, work / "root.squashfs", epoch, *SQUASH)
        boot = {"vmlinuz": linux, "initrd": initrd, "syslinux.cfg": _boot_configuration().encode()}
        disk.boot_partition(work / "boot.fat", boot, identifier, epoch)
        disk.assemble(work / "disk.raw", work / "boot.fat", work / "root.squashfs", identifier)
        disk.convert(work / "disk.raw", ready / f"{NAME}.qcow2", "qcow2")
        manifest = {
            "name": NAME,
            "inputs": digest,
            "epoch": epoch,
            "kernel": kernel.version(tree),
            "packages": [package for package in packages if package["name"] not in _unwanted()],
            "removed": sorted(_unwanted() & {str(package["name"]) for package in packages}),
            "python": _python_packages(tree),
            "bytes": {
                "qcow2": (ready / f"{NAME}.qcow2").stat().st_size,
                "root": (work / "root.squashfs").stat().st_size,
                "kernel": len(linux),
                "initrd": len(initrd),
                "unpacked": sizes,
            },
        }
        (ready / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        for path in folder.glob(f"{NAME}.*"):
            path.unlink()
        for path in (ready / f"{NAME}.qcow2", ready / "manifest.json"):
            path.replace(folder / path.name)


def component_sizes(tree: Path) -> dict[str, int]:
    """Bytes of files by component."""
    parts = {
        "kernel modules": "usr/lib/modules",
        "Python": f"usr/lib/python{root.PYTHON}",
        "Gatehouse and its Python packages": "usr/lib/gatehouse",
        "systemd": "usr/lib/systemd",
        "libraries": "usr/lib/x86_64-linux-gnu",
        "programs": "usr/bin",
        "administration programs": "usr/sbin",
    }
    sizes = {name: _size(tree / path) for name, path in parts.items()}
    sizes["other"] = _size(tree) - sum(sizes.values())
    return sizes


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _boot_configuration() -> str:
    return f"DEFAULT linux\nPROMPT 0\nLABEL linux\n  KERNEL vmlinuz\n  APPEND initrd=initrd {_COMMAND_LINE}\n"


def _unwanted() -> set[str]:
    return set(inputs.lines(inputs.FOLDER / "unwanted.txt"))


def _python_packages(tree: Path) -> list[dict[str, str]]:
    found = sorted(path.stem for path in (tree / "usr/lib/gatehouse/python").glob("*.dist-info"))
    return [dict(zip(("name", "version"), name.rsplit("-", 1), strict=True)) for name in found]


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def _checksums(folder: Path) -> None:
    """SHA256SUMS as sha256sum(1) reads it."""
    lines = []
    for path in sorted((*folder.glob(f"{NAME}.*"), folder / "manifest.json")):
        with path.open("rb") as content:
            lines.append(f"{hashlib.file_digest(content, 'sha256').hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A directory for what is in between, gone at the end; those of builds that were killed go first."""
    for left in folder.glob(f"{_SCRATCH}*"):
        with _locked(left) as abandoned:
            if abandoned:
                log.info("removing %s, which a build left behind", left)
                root.remove(left)
    work = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=folder))
    work.chmod(0o755)  # apt downloads as a user of its own
    with _locked(work):
        try:
            yield work
        finally:
            root.remove(work)


@contextmanager
def _locked(work: Path) -> Iterator[bool]:
    """Hold a directory as long as this process lives; False when another one does (flock(2))."""
    descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def compare(first: Path, second: Path) -> list[str]:
    """Names of the files that differ between two builds."""
    names = (f"{NAME}.qcow2", "manifest.json")
    return [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()]


def same_twice(folder: Path) -> list[str]:
    """Build twice from the same inputs; names of the files that differ."""
    with tempfile.TemporaryDirectory(prefix=".check-", dir=folder) as name:
        places = [Path(name) / "one", Path(name) / "two"]
        for place in places:
            build(place, inputs.digest())
        different = compare(*places)
        if different:
            kept = folder / "different"
            shutil.rmtree(kept, ignore_errors=True)
            Path(name).rename(kept)
            Path(name).mkdir()
    return different
