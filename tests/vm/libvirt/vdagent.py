"""A guest's end of the clipboard, for guests without spice-vdagent; messages are those of spice-protocol's vd_agent.h.

Shell in the guest holds the port open; what is said and heard on it is made and read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from subprocess import CompletedProcess

from controlplane.hypervisors.libvirt.domain import CLIPBOARD_AGENT
from tests.wait import wait_for

_CLIPBOARD, _CAPABILITIES, _GRAB, _REQUEST = 4, 6, 7, 8
_TEXT = struct.pack("<I", 1)
_BY_DEMAND = 1 << 5
#: VDIChunkHeader and VDAgentMessage
_CHUNK, _MESSAGE = struct.Struct("<II"), struct.Struct("<IIQI")

_AGENT = f"""
name=$(grep -lx {CLIPBOARD_AGENT} /sys/class/virtio-ports/*/name) || exit 1
port=${{name%/name}}
exec 3<>/dev/${{port##*/}} || exit 1
mkfifo /run/say
cat <&3 >/run/heard 2>&1 &
while cat /run/say; do :; done >&3 2>/dev/null &
"""


class GuestClipboard:
    """``sh`` runs a script in the guest. Texts are short: one chunk each."""

    def __init__(self, sh: Callable[[str], CompletedProcess[str]]) -> None:
        self._sh = sh
        started = sh(f"( {_AGENT} ) </dev/null >/dev/null 2>&1")
        assert started.returncode == 0, "the guest has no port for the clipboard"
        # 1: and what are yours?
        self._say(_CAPABILITIES, struct.pack("<II", 1, _BY_DEMAND))
        self._hears(_CAPABILITIES)

    def paste(self) -> str:
        """The text that a viewer has put into the clipboard since the last time."""
        known = len(self._heard(_CLIPBOARD))
        self._hears(_GRAB)
        self._say(_REQUEST, _TEXT)
        text = wait_for(lambda: self._heard(_CLIPBOARD)[known:], 20, "the text")[-1][len(_TEXT) :]
        # QEMU leaves what ends it in RFB's extended clipboard
        return text.removesuffix(b"\0").decode()

    def copy(self, text: str) -> None:
        """Put a text into the clipboard; returns when the viewer has asked for it."""
        self._say(_GRAB, _TEXT)
        self._hears(_REQUEST)
        self._say(_CLIPBOARD, _TEXT + text.encode())

    def _say(self, kind: int, data: bytes) -> None:
        message = _MESSAGE.pack(1, kind, 0, len(data)) + data
        octets = "".join(f"\\{octet:03o}" for octet in _CHUNK.pack(1, len(message)) + message)
        self._sh(f"printf '{octets}' >/run/say")

    def _hears(self, kind: int) -> None:
        wait_for(lambda: self._heard(kind), 20, f"message {kind} of QEMU")

    def _heard(self, kind: int) -> list[bytes]:
        """The data of all messages of a kind that QEMU has sent."""
        rest = bytes.fromhex(self._sh("hexdump -v -e '/1 \"%02x\"' /run/heard").stdout)
        found = []
        while len(rest) >= _CHUNK.size:
            _, size = _CHUNK.unpack_from(rest)
            message, rest = rest[_CHUNK.size : _CHUNK.size + size], rest[_CHUNK.size + size :]
            if _MESSAGE.unpack_from(message)[1] == kind:
                found.append(message[_MESSAGE.size :])
        return found
