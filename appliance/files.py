"""Files that are written whole, and survive a power cut where they should."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Have a directory's entries on the disk: files that were made, renamed or removed there (fsync(2))."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, *parts: bytes, flush: bool) -> None:
    """Write a new file (mode 0600), onto the disk itself when ``flush``."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out:
        for part in parts:
            out.write(part)
        if flush:
            out.flush()
            os.fsync(out.fileno())


def replace_file(path: Path, content: bytes, *, flush: bool) -> None:
    """Replace ``path`` (mode 0600) so that a kill leaves the old content or the new.

    ``flush``: so does a power cut, and the new content is on the disk when this returns.
    """
    temporary = path.with_name(f".{path.name}.new")
    write_file(temporary, content, flush=flush)
    temporary.replace(path)
    if flush:
        sync_directory(path.parent)
