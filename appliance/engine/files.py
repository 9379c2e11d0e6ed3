"""Rendered files on disk: staged for the checkers, swapped in one by one by renaming, compared for drift."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from appliance.engine.service import File
from appliance.engine.undo import Undo

#: what stat(2) says of a file that nobody touched: a cheap stand-in for comparing its content
Signature = tuple[int, ...]


def _content(file: File) -> bytes:
    return file.text.encode() if isinstance(file.text, str) else file.text


def _owner(name: str) -> tuple[int, int]:
    if name == "root":
        return 0, 0
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def _write(path: Path, content: bytes, mode: int, owner: tuple[int, int]) -> None:
    """Put a file into place by renaming, so that a reader sees the old one or the new one.

    Not flushed to disk: a machine that loses power renders its files again from the last-good document.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    # 0600 until the owner is right: the content may be secret
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write(path: Path, file: File) -> None:
    """Make ``path`` what ``file`` says. Raises OSError, and KeyError for an owner that does not exist."""
    _write(path, _content(file), file.mode, _owner(file.owner))


def swap(path: Path, file: File | None, undo: Undo) -> None:
    """Write ``path``, or remove it when ``file`` is None; ``undo`` brings back what is on disk now."""
    try:
        about = path.lstat()
        old = path.read_bytes() if stat.S_ISREG(about.st_mode) else None
    except FileNotFoundError:
        about, old = None, None
    if about is not None and old is not None:
        mode, owner = stat.S_IMODE(about.st_mode), (about.st_uid, about.st_gid)
        undo.push(f"restore {path}", lambda: _write(path, old, mode, owner))
    else:
        undo.push(f"remove {path}", lambda: path.unlink(missing_ok=True))
    if file is not None:
        write(path, file)
    else:
        path.unlink(missing_ok=True)


def stage(directory: Path, files: Mapping[Path, File]) -> dict[Path, Path]:
    """Write ``files`` below ``directory`` under their full paths; returns final path -> staged path."""
    staged = {path: directory / path.relative_to("/") for path in files}
    for path, file in files.items():
        write(staged[path], file)
    return staged


def clear(directory: Path) -> None:
    """Empty ``directory`` (mode 0700), creating it when needed."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def below(directory: Path) -> set[Path]:
    """Every file (not directory) below ``directory``, leftovers of interrupted writes included."""
    return {Path(root, name) for root, _, names in os.walk(directory) for name in names}


def signature(path: Path) -> Signature:
    """Changes whenever the file, its mode or its owner does; () when there is none."""
    try:
        about = os.lstat(path)
    except OSError:
        return ()
    return (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def difference(path: Path, file: File) -> str | None:
    """What about ``path`` is not as ``file`` says, or None."""
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            return f"{path} is no regular file"
        if path.read_bytes() != _content(file):
            return f"{path} was changed"
        if stat.S_IMODE(about.st_mode) != file.mode or (about.st_uid, about.st_gid) != _owner(file.owner):
            return f"mode or owner of {path} was changed"
    except FileNotFoundError:
        return f"{path} is gone"
    except OSError as error:
        return f"{path} cannot be read: {error}"
    return None


def signatures(paths: Iterable[Path]) -> dict[Path, Signature]:
    return {path: signature(path) for path in paths}
