"""Runs qemu-img on files that nobody trusts: a process of a user of its own, with no network, that can open nothing.

``python -m ssvm.formats.sandbox <abstract socket> <user>`` listens on a socket that only ``user`` may use. A request
is one packet of JSON with the images as file descriptors (SCM_RIGHTS), the answer one packet of JSON: what qemu-img
printed, or its error. It opens images by /proc/self/fd, so it needs no path and no permission in a store. The firewall
drops whatever its user sends (render.py); memory, processor time and time are limited here. Whoever asked and closes
the connection ends qemu-img too.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress

from appliance.qemuimg import CONVERT_SECONDS, INFO_SECONDS, limited

log = logging.getLogger(__name__)

#: largest packet, either way
PACKET = 128 * 1024
#: formats as qemu-img calls them
NAMES = {"qcow2": "qcow2", "raw": "raw", "iso": "raw", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx", "vdi": "vdi"}
#: qcow2: zstd needs qcow2 version 3; vhd: the size that was asked for, not the nearest one of cylinders and heads
_OPTIONS = {
    "qcow2": ("-c", "-o", "compression_type=zstd"),
    "vhd": ("-o", "subformat=dynamic,force_size=on"),
    "vmdk": ("-o", "subformat=streamOptimized"),
    "raw": (),
}


def command(request: dict[str, str], descriptors: Sequence[int]) -> tuple[list[str], int]:
    """The qemu-img command of a request, and the seconds it may take. Raises KeyError and ValueError."""
    source = f"/proc/self/fd/{descriptors[0]}"
    given = NAMES[request["format"]]
    if request["do"] == "info":
        argv, seconds = ["info", "-U", "--output=json", "-f", given, source], INFO_SECONDS
    elif request["do"] == "convert":
        wanted = request["to"]
        target = f"/proc/self/fd/{descriptors[1]}"
        argv = ["convert", "-U", "-f", given, "-O", NAMES[wanted], *_OPTIONS[wanted], source, target]
        seconds = CONVERT_SECONDS
    else:
        raise ValueError(f"there is no {request['do']!r}")
    return limited(argv, seconds), seconds


def _serve(connection: socket.socket) -> None:
    descriptors: list[int] = []
    try:
        with connection:
            data, descriptors, _, _ = socket.recv_fds(connection, PACKET, 2)
            if data:
                answer = _run(json.loads(data), descriptors, connection)
                connection.send(json.dumps(answer).encode())
    except (OSError, ValueError, KeyError, IndexError) as error:
        log.error("request: %s", error)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _run(request: dict[str, str], descriptors: Sequence[int], connection: socket.socket) -> dict[str, str]:
    argv, seconds = command(request, descriptors)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, pass_fds=descriptors)
        poll = select.poll()
        poll.register(pidfd := os.pidfd_open(process.pid), select.POLLIN)
        poll.register(connection, select.POLLRDHUP | select.POLLHUP)
        ended = poll.poll(seconds * 1000)
        os.close(pidfd)
        if process.poll() is None:
            process.kill()
        code = process.wait()
        if not ended:
            return {"error": f"no end after {seconds} s"}
        out.seek(0)
        errors.seek(0)
        if code:
            return {"error": errors.read(2000).decode(errors="replace").strip() or f"ended with {code}"}
        return {"out": out.read(PACKET // 2).decode(errors="replace")}


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    name, user = sys.argv[1:3]
    allowed = pwd.getpwnam(user).pw_uid
    os.umask(0o077)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(f"\0{name}")
    listening.listen(16)
    while True:
        connection, _ = listening.accept()
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != allowed:
            with suppress(OSError):
                connection.close()
            continue
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
