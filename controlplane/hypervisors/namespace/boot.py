"""The files an instance boots from: its /etc, what its init runs, and a guest's first file tree."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from controlplane.hypervisors.namespace.layout import PROGRAMS

#: what of the machine's /etc an appliance has a copy of: names of users and protocols, the loader's cache
APPLIANCE_ETC = (
    "ca-certificates.conf",
    "ethertypes",
    "group",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "login.defs",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "xattr.conf",
)

#: of the machine's /etc not for a guest: who the machine is, what it mounts and runs at which hour
NOT_FOR_GUESTS = frozenset(
    ("hostname", "hosts", "resolv.conf", "machine-id", "fstab", "mtab", "crypttab", "inittab", "crontab", "shadow-")
)

_GUEST_DIRECTORIES = {
    "root": 0o700,
    "home": 0o755,
    "srv": 0o755,
    "opt": 0o755,
    "mnt": 0o755,
    "media": 0o755,
    "usr": 0o755,
    "var/cache": 0o755,
    "var/lib/dhcp": 0o755,
    "var/lib/misc": 0o755,
    "var/local": 0o755,
    "var/log": 0o755,
    "var/mail": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}

#: what init runs in a guest, by template; ``builtin`` boots like a small VM, ``bare`` starts nothing
TEMPLATES: dict[str, tuple[str, ...]] = {
    "builtin": ("::sysinit:/etc/guest/boot", "::respawn:/etc/guest/network", "::respawn:/etc/guest/sshd"),
    "bare": ("::sysinit:/usr/bin/busybox ip link set lo up",),
}

_GUEST_FILES = Path(__file__).parent / "guest"


def appliance_inittab(python: str) -> str:
    """init(8) of busybox starts the agent again whenever it ends."""
    return f"::respawn:{shlex.join([python, '-m', 'appliance.agent'])}\n"


def guest_inittab(template: str) -> str:
    return "".join(f"{line}\n" for line in TEMPLATES[template])


def hosts(hostname: str) -> str:
    return f"127.0.0.1 localhost\n127.0.1.1 {hostname}\n"


def machine_id(instance_id: str) -> str:
    """machine-id(5): 32 hexadecimal digits that stay the same over the instance's life."""
    return hashlib.sha256(f"gatehouse machine {instance_id}".encode()).hexdigest()[:32]


def single_user(passwd: str) -> str:
    """``passwd`` or ``group`` for a user namespace with one user: every name means that one."""
    lines = []
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) == 7:
            fields[2] = fields[3] = "0"
        elif len(fields) == 4:
            fields[2] = "0"
        lines.append(":".join(fields))
    return "\n".join(lines) + "\n"


def locked_shadow(passwd: str) -> str:
    """shadow(5) with every user of ``passwd`` locked."""
    return "".join(f"{line.split(':')[0]}:*:19000:0:99999:7:::\n" for line in passwd.splitlines() if line)


def write(path: Path, text: str | bytes, mode: int = 0o644) -> None:
    """Write a file with ``mode`` from the start: a secret is never readable, not for a moment."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def common_etc(etc: Path, instance_id: str, hostname: str, inittab: str) -> None:
    write(etc / "hostname", f"{hostname}\n")
    write(etc / "hosts", hosts(hostname))
    write(etc / "resolv.conf", "")
    write(etc / "machine-id", machine_id(instance_id) + "\n", 0o444)
    write(etc / "inittab", inittab)


def merge_users(etc: Path) -> None:
    for name in ("passwd", "group"):
        write(etc / name, single_user((etc / name).read_text()))


def copy_tree(source: Path, target: Path, skip: frozenset[str] = frozenset()) -> None:
    """Copy what everybody on the machine may read; what only some may read is left out, devices and sockets too."""
    try:
        status = source.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(status.st_mode))
        _own(target, status)
    elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_mode & stat.S_IXOTH:
        target.mkdir(parents=True, exist_ok=True)
        for child in source.iterdir():
            if child.name not in skip:
                copy_tree(child, target / child.name)
        target.chmod(stat.S_IMODE(status.st_mode))
        _own(target, status)


def _own(target: Path, status: os.stat_result) -> None:
    # in a user namespace most owners have no number: the files are then its root's
    with suppress(OSError):
        os.chown(target, status.st_uid, status.st_gid)


def prepare_appliance(
    folder: Path, instance_id: str, hostname: str, inittab: str, identity: dict[str, bytes], *, one_user: bool
) -> None:
    """Write the appliance's /etc and the directories of its /var; its state in /var stays, its identity is replaced."""
    etc = folder / "etc"
    etc.mkdir(exist_ok=True)
    for name in APPLIANCE_ETC:
        copy_tree(Path("/etc", name), etc / name)
    common_etc(etc, instance_id, hostname, inittab)
    if one_user:
        merge_users(etc)
    (etc / "gatehouse").mkdir(mode=0o755, exist_ok=True)
    secret = etc / "gatehouse-identity"
    shutil.rmtree(secret, ignore_errors=True)
    secret.mkdir(mode=0o700)
    for name, content in identity.items():
        write(secret / name, content, 0o600)
    for name in ("lib/gatehouse", "log/gatehouse", "cache", "spool", "tmp"):
        (folder / "var" / name).mkdir(parents=True, exist_ok=True)
    (folder / "var/tmp").chmod(0o1777)
    _link(folder / "var/run", "/run")
    _link(folder / "var/lock", "/run/lock")


def make_base(base: Path, *, one_user: bool) -> None:
    """Make the file tree that guests start from, once for a data directory, as a template is downloaded once."""
    if base.exists():
        return
    fresh = base.with_name(f".{base.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for name, mode in _GUEST_DIRECTORIES.items():
        (fresh / name).mkdir(parents=True)
        (fresh / name).chmod(mode)
    for name in PROGRAMS:
        if Path("/", name).is_symlink():
            _link(fresh / name, str(Path("/", name).readlink()))
    _link(fresh / "var/run", "/run")
    _link(fresh / "var/lock", "/run/lock")
    etc = fresh / "etc"
    copy_tree(Path("/etc"), etc, NOT_FOR_GUESTS)
    for key in (etc / "ssh").glob("ssh_host_*"):
        key.unlink()
    if one_user:
        merge_users(etc)
    write(etc / "shadow", locked_shadow((etc / "passwd").read_text()), 0o600)
    shutil.copytree(_GUEST_FILES, etc / "guest")
    fresh.rename(base)


def prepare_guest(folder: Path, instance_id: str, hostname: str, template: str) -> None:
    """Write what is different in each guest; at later starts all is as the guest left it.

    From its first start on the guest's tree is never written to from here: it may hold links to anywhere by then.
    """
    changes, fresh = folder / "root", folder / ".root.new"
    if changes.exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)
    etc = fresh / "upper/etc"
    etc.mkdir(parents=True)
    common_etc(etc, instance_id, hostname, guest_inittab(template))
    fresh.rename(changes)


def _link(path: Path, to: str) -> None:
    if not path.is_symlink():
        path.symlink_to(to)


def environment(extra: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """What PID 1 and a command in an instance start with."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        **dict(extra),
    }
