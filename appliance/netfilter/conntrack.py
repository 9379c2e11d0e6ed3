"""The kernel's connection tracking table: find entries and delete single ones (linux/netfilter/nfnetlink_conntrack.h).

Only IPv4. The kernel filters a listing by one address of the original or the reply direction, so that a change of one
address does not cost a walk in Python through the connections of all.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_NETFILTER = 12
_CT_GET, _CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY, _CTA_ID, _CTA_ZONE, _CTA_FILTER = 1, 2, 12, 18, 25
_CTA_TUPLE_IP, _CTA_TUPLE_PROTO = 1, 2
_CTA_IP_V4_SRC, _CTA_IP_V4_DST = 1, 2
_CTA_PROTO_NUM, _CTA_PROTO_SRC_PORT, _CTA_PROTO_DST_PORT, _CTA_PROTO_ICMP_TYPE, _CTA_PROTO_ICMP_CODE = 1, 2, 3, 5, 6
_CTA_FILTER_ORIG_FLAGS, _CTA_FILTER_REPLY_FLAGS = 1, 2
#: nf_internals.h: which fields of the tuple to compare
_FILTER_IP_DST = 1 << 1


@dataclass(frozen=True)
class Tuple:
    """One direction of a connection. Addresses are integers; ports of tcp and udp, type and code of ICMP, else 0."""

    protocol: int
    source: int
    destination: int
    source_port: int
    destination_port: int
    icmp_type: int
    icmp_code: int


@dataclass(frozen=True)
class Entry:
    """One connection: as its first packet was, and as replies to it must be (after translation)."""

    original: Tuple
    reply: Tuple
    #: attributes that name exactly this entry to the kernel
    key: bytes
    #: conntrack zone, 0 unless rules set one
    zone: int = 0


class Conntrack:
    """A netlink socket in the calling thread's network namespace. Use as a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.settimeout(5.0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sequence = 0

    def __enter__(self) -> Conntrack:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def entries(self, *, destination: int | None = None, reply_destination: int | None = None) -> Iterator[Entry]:
        """Entries whose original (or reply) direction goes to an address; all of them without one. Raises OSError."""
        body = b""
        if destination is not None or reply_destination is not None:
            for kind, address in ((_CTA_TUPLE_ORIG, destination), (_CTA_TUPLE_REPLY, reply_destination)):
                if address is not None:
                    field = _attribute(_CTA_IP_V4_DST, struct.pack(">I", address))
                    body += _nest(kind, _nest(_CTA_TUPLE_IP, field))
            flags = [_FILTER_IP_DST if address is not None else 0 for address in (destination, reply_destination)]
            body += _nest(
                _CTA_FILTER,
                _attribute(_CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags[0]))
                + _attribute(_CTA_FILTER_REPLY_FLAGS, struct.pack("=I", flags[1])),
            )
        for message in self._ask(_CT_GET, _NLM_F_DUMP, body):
            entry = _parse(message)
            if entry is not None:
                yield entry

    def delete(self, entry: Entry) -> None:
        """Delete one entry; nothing to do when it is gone already. Raises OSError."""
        try:
            for _ in self._ask(_CT_DELETE, _NLM_F_ACK, entry.key):
                pass
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[memoryview]:
        """Send one request; yields the payloads of the answers behind their struct nfgenmsg."""
        self._sequence += 1
        header = struct.pack("=IHHII", 20 + len(body), kind, _NLM_F_REQUEST | flags, self._sequence, 0)
        self._socket.send(header + struct.pack("=BBH", socket.AF_INET, 0, 0) + body)
        while True:
            data = memoryview(self._socket.recv(1 << 18))
            offset = 0
            while offset + 16 <= len(data):
                length, answer, _, sequence, _ = struct.unpack_from("=IHHII", data, offset)
                if sequence == self._sequence:
                    if answer == _NLMSG_ERROR:
                        code = -struct.unpack_from("=i", data, offset + 16)[0]
                        if code:
                            raise OSError(code, f"conntrack: {os.strerror(code)}")
                        return
                    if answer == _NLMSG_DONE:
                        return
                    yield data[offset + 20 : offset + length]
                offset += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _nest(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _attributes(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """(kind, value, the whole attribute with its padding) of each."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        end = offset + ((length + 3) & ~3)
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length], data[offset:end]
        offset = end


def _parse(message: memoryview) -> Entry | None:
    found: dict[int, memoryview] = {}
    key, zone = b"", 0
    for kind, value, whole in _attributes(message):
        if kind in (_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY):
            found[kind] = value
        if kind in (_CTA_TUPLE_ORIG, _CTA_ID, _CTA_ZONE):
            key += bytes(whole)
        if kind == _CTA_ZONE:
            zone = int.from_bytes(value[:2], "big")
    if len(found) != 2:
        return None
    return Entry(_tuple(found[_CTA_TUPLE_ORIG]), _tuple(found[_CTA_TUPLE_REPLY]), key, zone)


def _tuple(data: memoryview) -> Tuple:
    address: dict[int, int] = {}
    service: dict[int, int] = {}
    for kind, value, _ in _attributes(data):
        for inner, number, _ in _attributes(value) if kind in (_CTA_TUPLE_IP, _CTA_TUPLE_PROTO) else ():
            (address if kind == _CTA_TUPLE_IP else service)[inner] = int.from_bytes(number, "big")
    return Tuple(
        protocol=service.get(_CTA_PROTO_NUM, 0),
        source=address.get(_CTA_IP_V4_SRC, 0),
        destination=address.get(_CTA_IP_V4_DST, 0),
        source_port=service.get(_CTA_PROTO_SRC_PORT, 0),
        destination_port=service.get(_CTA_PROTO_DST_PORT, 0),
        icmp_type=service.get(_CTA_PROTO_ICMP_TYPE, 0),
        icmp_code=service.get(_CTA_PROTO_ICMP_CODE, 0),
    )
