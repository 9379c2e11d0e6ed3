"""What each guest is told: an index of all guests, and a file for each one with large user data.

The server looks at the index file on every request and rereads it when it was replaced, so a change needs no signal.
Rereading splits lines only; a guest's line is parsed when the guest asks.

A line of the index is the guest's address, a space and JSON ``{"items": {name: value}, "token": bool}`` with either
``"user_data"`` (base64), ``"large": true`` (base64 in the file ``data/<address>``), or neither.
"""

from __future__ import annotations

import json
import os
from binascii import a2b_base64
from dataclasses import dataclass
from typing import Any

#: base64 characters of user data that stay in the index; a change of one guest writes the index of all again
MOST_INLINE = 2048
#: guests whose lines are kept parsed
MOST_PARSED = 256

ROOT = "/latest"
USER_DATA = f"{ROOT}/user-data"
META_DATA = f"{ROOT}/meta-data"


class MissingError(Exception):
    """User data is being replaced just now."""


@dataclass(frozen=True)
class Guest:
    """``pages``: path in lower case without a slash at its end -> body. ``token``: it must show a session token.

    ``large``: file with user data in base64, "" when the user data is among the pages or there is none.
    """

    pages: dict[str, bytes]
    token: bool
    large: str = ""

    def page(self, path: str) -> bytes | None:
        """The body at ``path``, None when there is none. Raises MissingError, OSError and ValueError."""
        if path != USER_DATA or not self.large:
            return self.pages.get(path)
        try:
            with open(self.large, "rb", 0) as file:  # noqa: PTH123  unbuffered: one read
                return a2b_base64(file.readall())
        except FileNotFoundError as error:
            raise MissingError from error


def line(address: str, items: dict[str, str], user_data: str | None, *, token: bool) -> str:
    """A guest's line of the index. Items without a value are left out; ``user_data`` is base64."""
    about: dict[str, Any] = {"items": {name: value for name, value in items.items() if value}, "token": token}
    if is_large(user_data):
        about["large"] = True
    elif user_data:
        about["user_data"] = user_data
    return f"{address} {json.dumps(about)}\n"


def is_large(user_data: str | None) -> bool:
    """Whether ``user_data`` is kept in a file of its own."""
    return user_data is not None and len(user_data) > MOST_INLINE


def parse(about: bytes, data_file: str) -> Guest:
    """The guest of an index line's JSON. Raises ValueError when it is not what ``line`` writes."""
    told = json.loads(about)
    items: dict[str, str] = told["items"]
    pages = {META_DATA: "\n".join(items).encode()}
    for name, value in items.items():
        # the second form is the older one, of clients that know no meta-data folder
        pages[f"{META_DATA}/{name}"] = pages[f"{ROOT}/{name}"] = value.encode()
    pages.pop(USER_DATA, None)
    if "user_data" in told:
        pages[USER_DATA] = a2b_base64(told["user_data"])
    return Guest(pages, told["token"], data_file if told.get("large") else "")


class Guests:
    """Guests by address, from the file ``index`` and the files of the folder ``data``."""

    def __init__(self, index: str, data: str) -> None:
        self._index, self._data = index, data
        #: inode, time of change and size of the index that was read
        self._signature: tuple[int, int, int] | None = None
        self._lines: dict[bytes, bytes] = {}
        self._parsed: dict[str, Guest] = {}

    def find(self, address: str) -> Guest | None:
        """The guest at ``address`` (dotted), None when there is none. Raises OSError and ValueError on a bad file."""
        about = os.stat(self._index)  # noqa: PTH116  on every request, and a Path costs twice the call
        signature = (about.st_ino, about.st_ctime_ns, about.st_size)
        if signature != self._signature:
            self._read()
        guest = self._parsed.get(address)
        if guest is None and (text := self._lines.get(address.encode())) is not None:
            guest = parse(text, f"{self._data}/{address}")
            if len(self._parsed) >= MOST_PARSED:
                self._parsed.clear()
            self._parsed[address] = guest
        return guest

    def _read(self) -> None:
        with open(self._index, "rb", 0) as file:  # noqa: PTH123
            about = os.fstat(file.fileno())
            lines = file.readall().splitlines()
        self._lines = {address: text for address, _, text in (line.partition(b" ") for line in lines)}
        self._signature = (about.st_ino, about.st_ctime_ns, about.st_size)
        self._parsed.clear()
