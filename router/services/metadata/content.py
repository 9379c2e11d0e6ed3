"""What each guest is told: one file a guest, read when the guest asks.

A file is replaced by renaming, so a lookup needs no reload, and a guest added among a thousand costs the rest nothing.
What was read is kept, within ``KEPT`` bytes, until the file changes.

A guest's file is one line of JSON, ``{"items": {name: value}, "token": bool}``, and below it its user data in base64
(nothing when it has none).
"""

from __future__ import annotations

import json
import os
from binascii import a2b_base64
from dataclasses import dataclass

#: bytes of content that are kept in memory
KEPT = 4 * 1024 * 1024
#: rough size of what holds an entry together
_OVERHEAD = 4096

ROOT = "/latest"
USER_DATA = f"{ROOT}/user-data"
META_DATA = f"{ROOT}/meta-data"


@dataclass(frozen=True)
class Guest:
    """``pages``: path in lower case without a slash at its end -> body. ``token``: it must show a session token."""

    pages: dict[str, bytes]
    token: bool


def dump(items: dict[str, str], user_data: str | None, *, token: bool) -> str:
    """The text of a guest's file. Items without a value are left out; ``user_data`` is base64."""
    told = {name: value for name, value in items.items() if value}
    return f"{json.dumps({'items': told, 'token': token})}\n{user_data or ''}"


def load(content: bytes) -> Guest:
    """The pages of a guest's file. Raises ValueError when it is not what ``dump`` writes."""
    line, _, user_data = content.partition(b"\n")
    about = json.loads(line)
    items: dict[str, str] = about["items"]
    pages = {META_DATA: "\n".join(items).encode()}
    for name, value in items.items():
        # the second form is the older one, of clients that know no meta-data folder
        pages[f"{META_DATA}/{name}"] = pages[f"{ROOT}/{name}"] = value.encode()
    pages.pop(USER_DATA, None)
    if user_data:
        pages[USER_DATA] = a2b_base64(user_data)
    return Guest(pages, about["token"])


class Guests:
    """Guests by address, from the files of ``directory`` named after the addresses."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        #: address -> (inode, time of change, size), guest; the least recently used first
        self._kept: dict[str, tuple[tuple[int, int, int], Guest]] = {}
        self._bytes = 0

    def find(self, address: str) -> Guest | None:
        """The guest at ``address`` (dotted), None when there is none. Raises OSError and ValueError on a bad file."""
        path = f"{self._directory}/{address}"
        kept = self._kept.pop(address, None)
        try:
            about = os.stat(path)  # noqa: PTH116  on every request, and a Path costs twice the call
        except FileNotFoundError:
            about = None
        signature = (about.st_ino, about.st_ctime_ns, about.st_size) if about else None
        if kept is not None:
            if kept[0] == signature:
                self._kept[address] = kept
                return kept[1]
            self._bytes -= kept[0][2] + _OVERHEAD
        if signature is None:
            return None
        try:
            # unbuffered: one read of a small file
            with open(path, "rb", 0) as file:  # noqa: PTH123  as above
                guest = load(file.readall())
        except FileNotFoundError:
            return None
        self._keep(address, signature, guest)
        return guest

    def _keep(self, address: str, signature: tuple[int, int, int], guest: Guest) -> None:
        self._kept[address] = (signature, guest)
        self._bytes += signature[2] + _OVERHEAD
        while self._bytes > KEPT and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            self._bytes -= self._kept.pop(oldest)[0][2] + _OVERHEAD
