"""Questions about images and conversions of them, answered by qemu-img in its sandbox (sandbox.py)."""

from __future__ import annotations

import array
import json
import socket
import time
from dataclasses import dataclass

from appliance.qemuimg import CONVERT_SECONDS, INFO_SECONDS, refers
from ssvm.errors import JobFailedError
from ssvm.formats.inspect import check_virtual
from ssvm.formats.sandbox import NAMES, PACKET
from ssvm.jobs.context import Cancel
from ssvm.services.storage.model.jobs import Format

#: seconds that the sandbox has to be there, which starts beside the worker
PATIENCE = 10.0


@dataclass(frozen=True)
class Images:
    """``sandbox``: name of its abstract socket."""

    sandbox: str

    def virtual_size(self, descriptor: int, format: Format, limit: int, cancel: Cancel, said: int | None = None) -> int:
        """Bytes of the disk in an image of ``format``, which refers to no other file.

        ``said``: what another parser found, which must be the same. Raises JobFailedError.
        """
        info = json.loads(self._ask({"do": "info", "format": format}, [descriptor], INFO_SECONDS, cancel))
        if trouble := refers(info):
            raise JobFailedError("format", f"the image refers to another file ({trouble}), which is not allowed")
        size = int(info["virtual-size"])
        if info.get("format") != NAMES[format]:
            raise JobFailedError("format", f"the image is said to be {format}, but qemu-img finds {info.get('format')}")
        # a VHD tells its size twice, in bytes and in cylinders
        if said is not None and said != size and format != "vhd":
            raise JobFailedError("format", f"the image is ambiguous: it has {said} bytes or {size}, as one reads it")
        check_virtual(size, limit)
        return size

    def convert(self, source: int, format: Format, target: int, to: Format, cancel: Cancel) -> None:
        """Write the disk in ``source`` to the empty file ``target``, holes as holes. Raises JobFailedError."""
        self._ask({"do": "convert", "format": format, "to": to}, [source, target], CONVERT_SECONDS, cancel)

    def _ask(self, request: dict[str, str], descriptors: list[int], seconds: float, cancel: Cancel) -> str:
        with self._connected() as asking:
            cancel.ends(lambda: asking.shutdown(socket.SHUT_RDWR))
            try:
                asking.settimeout(seconds + PATIENCE)
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                asking.sendmsg([json.dumps(request).encode()], rights)
                data = asking.recv(PACKET)
            except OSError as error:
                raise JobFailedError("internal", f"the image could not be looked at: {error}") from error
            finally:
                cancel.ends(None)
                cancel.check()
        answer: dict[str, str] = json.loads(data) if data else {"error": "it ended before its time"}
        if "error" in answer:
            if "No space left" in answer["error"]:
                raise JobFailedError("store-full", "the store is full; make room in it, then try again")
            raise JobFailedError("format", f"qemu-img cannot use the image: {answer['error']}")
        return answer["out"]

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + PATIENCE
        while True:
            asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                asking.connect(f"\0{self.sandbox}")
            except OSError as error:
                asking.close()
                if time.monotonic() > deadline:
                    raise JobFailedError("internal", f"the sandbox of qemu-img does not answer: {error}") from error
                time.sleep(0.1)
            else:
                return asking
