"""The one connection to a host on another machine: an ssh process (ssh(1)).

On its standard input and output are calls to the program over there (``serve``), and it forwards a socket of this
machine to the libvirt daemon's, so that libvirt's own client is as with a local daemon. Host keys are checked.
"""

from __future__ import annotations

import json
import logging
import queue
import subprocess
import tempfile
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.libvirt import daemon
from controlplane.hypervisors.libvirt.remote import pack
from controlplane.hypervisors.libvirt.remote.codec import Json, decode, encode
from controlplane.hypervisors.libvirt.remote.keys import Keys
from controlplane.hypervisors.libvirt.remote.target import Target

log = logging.getLogger(__name__)

#: seconds for the program to be there, and for an answer
_BEGINNING, _ANSWER = 40.0, 90.0
#: ssh notices within 15 s that a host is gone
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "IdentitiesOnly=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ExitOnForwardFailure=yes",
    "ControlPath=none",
)
_COMPLAINTS = 20


class Link:
    """Open from ``connect`` to ``close`` or until the connection breaks. Safe to call from any thread."""

    def __init__(self, target: Target, keys: Keys) -> None:
        self._target, self._keys = target, keys
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._complaints: deque[str] = deque(maxlen=_COMPLAINTS)
        #: how often it was made; what was told to an older one is not known to this
        self.generation = 0

    @property
    def alive(self) -> bool:
        process = self._process
        return process is not None and process.poll() is None

    def connect(self) -> None:
        """Make the connection if there is none. Raises HypervisorError saying what to do."""
        with self._lock:
            if self.alive:
                return
            self.close()
            self._keys.ensure()
            self._sockets = tempfile.TemporaryDirectory(prefix="gatehouse-")
            self._answers, self._complaints = queue.Queue(), deque(maxlen=_COMPLAINTS)
            process = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # what a terminal sends to the control plane is not for it
                start_new_session=True,
            )
            assert process.stdout is not None and process.stderr is not None
            self._process = process
            threading.Thread(target=_read, args=(process.stdout, self._answers.put), daemon=True).start()
            self._listener = threading.Thread(target=_read, args=(process.stderr, self._complain), daemon=True)
            self._listener.start()
            program = pack.program()
            try:
                self._send(f"{len(program)}\n".encode() + program)
                self._receive(_BEGINNING)
            except HypervisorError:
                self.close()
                raise
            self.generation += 1

    def close(self) -> None:
        """End the connection; the program over there ends with it."""
        with self._lock:
            if self._process is not None:
                assert self._process.stdin is not None
                self._process.kill()
                self._process.wait()
                with suppress(OSError):
                    self._process.stdin.close()
                self._process = None
            if self._sockets is not None:
                self._sockets.cleanup()
                self._sockets = None

    def libvirt_sockets(self) -> list[Path]:
        """Sockets of this machine that lead to the daemon; those of daemons that are not there answer nobody."""
        with self._lock:
            if self._sockets is None:
                raise HypervisorError(f"there is no connection to {self._target.host}")
            return [Path(self._sockets.name, path.name) for path in self._daemons()]

    def call(self, kind: Any, name: str, *arguments: object) -> Any:
        """Have ``name`` called over there; its result, of type ``kind``. Raises HypervisorError, also its own."""
        question = {"call": name, "arguments": [encode(argument) for argument in arguments]}
        with self._lock:
            if not self.alive:
                raise HypervisorError(f"the connection to {self._target.host} is lost{self._because()}")
            self._send(json.dumps(question).encode() + b"\n")
            answer = self._receive(_ANSWER)
        if "error" in answer:
            raise HypervisorError(f"host {self._target.host}: {answer['error']}")
        try:
            return decode(kind, answer["result"])
        except (TypeError, ValueError, KeyError) as error:
            raise HypervisorError(f"host {self._target.host} answered {name} with nonsense: {error}") from error

    def _daemons(self) -> tuple[Path, ...]:
        return (self._target.socket,) if self._target.socket is not None else daemon.SOCKETS

    def _command(self) -> list[str]:
        assert self._sockets is not None
        words = ["ssh", "-F", "none", "-T", "-a", "-x", "-i", str(self._keys.private), "-p", str(self._target.port)]
        for option in (*_OPTIONS, f'UserKnownHostsFile="{self._keys.known_hosts}"'):
            words += ["-o", option]
        for path in self._daemons():
            words += ["-L", f"{self._sockets.name}/{path.name}:{path}"]
        return [*words, "-l", self._target.user, "--", self._target.host, pack.COMMAND]

    def _send(self, data: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            raise self._lost() from error

    def _receive(self, patience: float) -> dict[str, Json]:
        """The next answer. Without one the connection is ended: a late answer must not be taken for another's."""
        try:
            line = self._answers.get(timeout=patience)
        except queue.Empty:
            self.close()
            raise HypervisorError(f"host {self._target.host} gave no answer within {patience:g} s") from None
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise self._lost() from error
        if not isinstance(answer, dict):
            raise self._lost()
        return answer

    def _lost(self) -> HypervisorError:
        # its last words may still be on their way
        self._listener.join(5)
        complaint = "\n".join(self._complaints)
        self.close()
        advice = self._keys.advice(self._target, complaint)
        return HypervisorError(f"no connection to {self._target.host}{self._because()}; {advice}")

    def _because(self) -> str:
        return f" ({self._complaints[-1]})" if self._complaints else ""

    def _complain(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self._complaints.append(text)
            log.info("%s: %s", self._target.host, text)


def _read(stream: IO[bytes], take: Any) -> None:
    """Give each line away; at the end an empty one."""
    with stream:
        for line in stream:
            take(line)
    take(b"")
