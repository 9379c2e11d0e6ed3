"""The other end of a link: runs on the host, makes calls to its HostSide that arrive as lines of JSON.

A line in is ``{"call": name, "arguments": [...]}``, a line out ``{"result": ...}`` or ``{"error": text}``. It ends with
its input, that is with the connection.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import IO, get_type_hints

from appliance.errors import GatehouseError
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.libvirt.hostside import HostSide, Place
from controlplane.hypervisors.libvirt.remote.codec import Json, decode, encode

log = logging.getLogger(__name__)


class Server:
    """The calls, one after the other."""

    def __init__(self) -> None:
        self._side: HostSide | None = None

    def answer(self, line: bytes) -> bytes:
        """The line that answers one."""
        try:
            question = json.loads(line)
            answer = {"result": self._call(question["call"], question["arguments"])}
        except (GatehouseError, OSError) as error:
            answer = {"error": str(error)}
        except Exception as error:
            log.exception("a call failed")
            answer = {"error": f"internal error: {type(error).__name__}: {error}"}
        return json.dumps(answer).encode() + b"\n"

    def close(self) -> None:
        if self._side is not None:
            self._side.close()

    def _call(self, name: str, arguments: list[Json]) -> Json:
        if name == "begin":
            if os.geteuid() != 0:
                raise HypervisorError("bridges need root; name root in the URL, as in qemu+ssh://root@host/system")
            self.close()
            self._side = HostSide(decode(Place, arguments[0]))
            return self._side.open()
        method = getattr(HostSide, name, None)
        if name.startswith("_") or method is None or self._side is None:
            raise HypervisorError(f"there is no call {name}, or it comes before begin")
        hints = get_type_hints(method)
        hints.pop("return")
        decoded = [decode(kind, raw) for kind, raw in zip(hints.values(), arguments, strict=True)]
        return encode(method(self._side, *decoded))


def main() -> None:
    """Serve on standard input and output; whatever else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        _serve(sys.stdin.buffer, answers)


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    server = Server()
    answers.write(b'{"result": "ready"}\n')
    answers.flush()
    try:
        for line in questions:
            answers.write(server.answer(line))
            answers.flush()
    finally:
        server.close()
