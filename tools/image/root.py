"""The root file tree: Debian packages by mmdebstrap, the overlay, Python parts, and what can go."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import GatehouseError
from appliance.run import run
from tools.image import inputs

SUITE = "trixie"
PYTHON = "3.13"
_TIMEOUT = 1800.0
#: never unpacked: nobody reads them in an appliance
_NOT_UNPACKED = ("doc", "doc-base", "info", "lintian", "locale", "man")


class BuildError(GatehouseError):
    """The image cannot be built; the message says what to do."""


def sources() -> list[str]:
    """Lines of sources.list(5) for the suite and its security updates, from the mirrors this machine uses itself."""
    text = run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]).stdout
    mirrors = {tuple(line.split("|")[:2]): line.split("|")[2].rstrip("/") for line in text.splitlines()}
    main, security = mirrors.get(("Debian", "Debian")), mirrors.get(("Debian", "Debian-Security"))
    if main is None or security is None:
        raise BuildError("apt knows no mirror of Debian and its security updates: run `apt-get update`")
    return [
        f"deb {main} {SUITE} main",
        f"deb {main} {SUITE}-updates main",
        f"deb {security} {SUITE}-security main",
    ]


def bootstrap(target: Path, packages: Sequence[str], epoch: int) -> None:
    """Install ``packages`` and what they need into the new directory ``target``."""
    if os.geteuid() != 0:
        raise BuildError("making a file tree with its owners needs root")
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=essential",
        "--architectures=amd64",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _NOT_UNPACKED),
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        f"--include={','.join(packages)}",
        SUITE,
        str(target),
        *sources(),
    ]
    # INITRD=No: the kernel package would make an initrd that nothing boots from
    run(["env", f"SOURCE_DATE_EPOCH={epoch}", "INITRD=No", *argv], timeout=_TIMEOUT)
    unmount(target)


def unmount(tree: Path) -> None:
    """Detach what is mounted below a directory: mmdebstrap leaves a /proc that was busy when it ended."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed([point for point in points if point.startswith(f"{tree.resolve()}/")]):
        run(["umount", "--lazy", point])


def remove(tree: Path) -> None:
    """Remove a directory, but nothing that is mounted below it."""
    unmount(tree)
    shutil.rmtree(tree)


def installed(root: Path) -> list[dict[str, str | int]]:
    """Name, version and size in bytes of every installed package."""
    form = "${Package}\t${Version}\t${Installed-Size}\n"
    text = run(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", f"--showformat={form}"]).stdout
    rows = sorted(line.split("\t") for line in text.splitlines())
    return [{"name": name, "version": version, "bytes": int(size or 0) * 1024} for name, version, size in rows]


def overlay(root: Path) -> None:
    """Copy image-build/overlay over the tree, owned by root."""
    source = inputs.FOLDER / "overlay"
    for path in inputs.files(source):
        target = root / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    for name in ("etc/gatehouse", "var/lib/gatehouse", "var/log/gatehouse"):
        (root / name).mkdir(parents=True, exist_ok=True)


def python_parts(root: Path) -> None:
    """The locked wheels and this repository's packages, below /usr/lib/gatehouse, which Python looks in."""
    target = root / "usr/lib/gatehouse/python"
    tags = [f"manylinux_2_{minor}_x86_64" for minor in (41, 40, 39, 34, 31, 28, 27, 26, 24, 17, 12, 5)]
    platforms = [f"--platform={tag}" for tag in (*tags, "manylinux2014_x86_64")]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "--no-compile",
        "--no-deps",
    ]
    wanted = ["--only-binary=:all:", "--require-hashes", "--requirement", str(inputs.FOLDER / "requirements.lock")]
    where = ["--implementation=cp", f"--python-version={PYTHON}", *platforms, f"--target={target}"]
    run([*pip, *wanted, *where], timeout=_TIMEOUT)
    shutil.rmtree(target / "bin", ignore_errors=True)
    forget_scripts(target)
    for package in inputs.PACKAGES:
        for path in inputs.files(inputs.REPOSITORY / package):
            copy = target / path.relative_to(inputs.REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o644)
    (root / "usr/lib/python3/dist-packages").mkdir(parents=True, exist_ok=True)
    (root / "usr/lib/python3/dist-packages/gatehouse.pth").write_text("/usr/lib/gatehouse/python\n")


def forget_scripts(packages: Path) -> None:
    """Take scripts out of what the packages record: their sums depend on where the interpreter of the build is."""
    for record in packages.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith("../../bin/")))


def compile_python(root: Path) -> None:
    """Byte-compile everything; the files say nothing of times, so they are the same in every build and never stale."""
    for cache in sorted(root.rglob("__pycache__")):
        shutil.rmtree(cache)
    # -B: otherwise what the compiler itself imports is compiled by the import, with times
    python = ["chroot", str(root), "/usr/bin/env", "PYTHONHASHSEED=0", f"/usr/bin/python{PYTHON}", "-B"]
    compiler = ["-m", "compileall", "-q", "-j1", "--invalidation-mode=unchecked-hash"]
    run([*python, *compiler, f"/usr/lib/python{PYTHON}", "/usr/lib/gatehouse/python"], timeout=_TIMEOUT)


def hooks(root: Path) -> None:
    """Run image-build/hooks in their order, each with the tree as its argument."""
    for hook in inputs.files(inputs.FOLDER / "hooks"):
        run([str(hook), str(root)], timeout=_TIMEOUT)
