"""The smallest DNS client that can ask our own server something (RFC 1035): one question, UDP, A or TXT answers."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass

A, TXT = 1, 16
INTERNET, CHAOS = 1, 3
NO_ERROR = 0

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")


@dataclass(frozen=True)
class Answer:
    """``code`` is the RCODE (0 no error, 3 no such name); ``values`` dotted addresses or texts."""

    code: int
    values: tuple[str, ...]


def question(identity: int, name: str, kind: int, group: int) -> bytes:
    """The packet that asks for ``name``; ``identity`` comes back in the answer."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    return _HEADER.pack(identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, group)


def _skip_name(packet: bytes, at: int) -> int:
    while (length := packet[at]) != 0:
        if length >= 0xC0:  # a pointer, two octets, ends a name
            return at + 2
        at += length + 1
    return at + 1


def _value(kind: int, data: bytes) -> str:
    if kind == A:
        return socket.inet_ntoa(data)
    texts = []
    while data:
        texts.append(data[1 : 1 + data[0]].decode("ascii", "replace"))
        data = data[1 + data[0] :]
    return "".join(texts)


def parse(packet: bytes, identity: int, kind: int) -> Answer | None:
    """The answer in ``packet``, or None when it belongs to another question. Raises ValueError on malformed ones."""
    try:
        found, flags, questions, answers, _, _ = _HEADER.unpack_from(packet)
        if found != identity or not flags & 0x8000:
            return None
        at = _HEADER.size
        for _ in range(questions):
            at = _skip_name(packet, at) + 4
        values = []
        for _ in range(answers):
            at = _skip_name(packet, at)
            record_kind, _, _, length = _RECORD.unpack_from(packet, at)
            at += _RECORD.size
            if record_kind == kind:
                values.append(_value(kind, packet[at : at + length]))
            at += length
    except (struct.error, IndexError, OSError) as error:
        raise ValueError(f"malformed DNS answer: {error}") from error
    return Answer(flags & 0x000F, tuple(values))


def ask(server: str, name: str, kind: int = A, group: int = INTERNET, timeout: float = 1.0) -> Answer:
    """Ask ``server`` (dotted address) on port 53. Raises OSError (TimeoutError after ``timeout`` seconds)."""
    identity = int.from_bytes(os.urandom(2), "big")
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        # connected: only the server's answers get in, and a closed port is told at once
        asking.connect((server, 53))
        asking.send(question(identity, name, kind, group))
        while (left := deadline - time.monotonic()) > 0:
            asking.settimeout(left)
            if (answer := parse(asking.recv(4096), identity, kind)) is not None:
                return answer
    raise TimeoutError(f"no answer from {server} within {timeout:g} s")
