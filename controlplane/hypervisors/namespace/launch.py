"""Starts one instance: run as ``python -m controlplane.hypervisors.namespace.launch`` by the hypervisor.

Standard input: a Launch as one line of JSON, then the line ``go`` once the NICs are in place. Standard output: the
PID of the instance's PID 1 on a line; then nothing and its end when the instance's init was executed, or the text
of what went wrong. When the hypervisor dies before ``go``, so does the instance.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from controlplane.hypervisors import syscalls
from controlplane.hypervisors.namespace.mounts import Mount, perform
from controlplane.hypervisors.namespace.processes import Process
from controlplane.hypervisors.records import write_atomically

#: numbers of capabilities(7) that reach beyond an instance's namespaces: opening files by handle, loading modules, raw
#: hardware, clocks, device nodes, the kernel log, mandatory access control, BPF and the like
DROPPED_CAPABILITIES = {
    "dac_read_search": 2,
    "linux_immutable": 9,
    "sys_module": 16,
    "sys_rawio": 17,
    "sys_pacct": 20,
    "sys_time": 25,
    "mknod": 27,
    "mac_override": 32,
    "mac_admin": 33,
    "syslog": 34,
    "wake_alarm": 35,
    "block_suspend": 36,
    "perfmon": 38,
    "bpf": 39,
    "checkpoint_restore": 40,
}

NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWCGROUP
)


@dataclass(frozen=True)
class Launch:
    """All that the launcher must know; nothing of it is secret."""

    hostname: str
    #: where the instance's root is put together; it exists and is empty
    root: str
    mounts: tuple[Mount, ...]
    argv: tuple[str, ...]
    environment: dict[str, str]
    #: written with the identity of PID 1 (processes.Process)
    process_file: str
    #: standard output and error of PID 1
    log: str
    #: cgroup.procs files to enter
    cgroups: tuple[str, ...] = ()
    #: a descriptor that is open until the instance's init is executed or given up: a lock that says so
    fence: int | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> Launch:
        raw = json.loads(text)
        sequences = {name: tuple(raw[name]) for name in ("argv", "cgroups")}
        return cls(**{**raw, **sequences, "mounts": tuple(Mount(**item) for item in raw["mounts"])})


def main() -> int:
    line = sys.stdin.readline()
    if not line:
        # the hypervisor died before it had said what to launch
        return 1
    launch = Launch.decode(line)
    if launch.fence is not None:
        os.set_inheritable(launch.fence, False)
    for path in launch.cgroups:
        Path(path).write_text(str(os.getpid()))
    syscalls.unshare(NAMESPACES)
    # the first process waits for its record: changing the root would change this process's root as well
    # (pivot_root(2)), and when this process dies too early the other must not stay
    recorded, record = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(record)
        _become_init(launch, recorded)
    process = Process.of(pid)
    if process is None:
        return 1
    write_atomically(Path(launch.process_file), json.dumps(asdict(process)))
    try:
        print(pid, flush=True)
    except BrokenPipeError:
        # the hypervisor has died: so does the instance
        return 1
    os.write(record, b"1")
    return 0


def _become_init(launch: Launch, recorded: int) -> NoReturn:
    try:
        if os.read(recorded, 1):
            _boot(launch)
    except BaseException as error:
        print(f"{error}", flush=True)
    finally:
        os._exit(1)


def _boot(launch: Launch) -> None:
    os.setsid()
    socket.sethostname(launch.hostname)
    log = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    syscalls.mount("none", Path("/"), flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    perform(launch.mounts, Path(launch.root))
    syscalls.pivot_root(Path(launch.root))
    drop_capabilities(DROPPED_CAPABILITIES.values())
    if sys.stdin.readline() == "go\n":
        _execute(launch.argv, launch.environment, log)


def drop_capabilities(numbers: Iterable[int]) -> None:
    for number in numbers:
        try:
            syscalls.drop_capability(number)
        except OSError as error:
            # an older kernel does not have it
            if error.errno != errno.EINVAL:
                raise


def _execute(argv: Sequence[str], environment: dict[str, str], log: int) -> None:
    # the hypervisor reads the pipe to its end: a copy tells of an error, and closes by itself on success
    answer = os.dup(1)
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    try:
        os.execve(argv[0], ["init", *argv[1:]], environment)  # noqa: S606 - it is the point of the launcher
    except OSError as error:
        os.write(answer, f"cannot execute {argv[0]}: {error.strerror}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
