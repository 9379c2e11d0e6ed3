"""qemu-img as it is run on images that somebody else wrote: with limits, and never guessing what an image is.

Who runs it adds what keeps it apart from the rest of the machine (a user of its own, no network).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: bytes of address space
MEMORY = 1 << 30
#: qemu-img has up to 64 threads. With 8 MiB of stack for each and as many of malloc's arenas as glibc likes, copying an
#: image took up to 900 MB of addresses, and now and then there was no room for a thread more; with these it takes 150
STACK, ARENAS = 1 << 20, 2
#: seconds to look at an image, and to copy one
INFO_SECONDS, CONVERT_SECONDS = 60, 6 * 3600


def limited(argv: Sequence[str], seconds: int) -> list[str]:
    """The command ``qemu-img ARGV`` with limits of memory, open files and ``seconds`` of processor time."""
    limits = [f"--as={MEMORY}", f"--stack={STACK}", f"--cpu={seconds}", "--core=0", "--nofile=64"]
    return ["prlimit", *limits, "--", "env", f"MALLOC_ARENA_MAX={ARENAS}", "qemu-img", *argv]


def refers(info: dict[str, Any]) -> str:
    """What other file an image refers to, by the JSON of ``qemu-img info``; "" for none."""
    for name in ("backing-filename", "full-backing-filename"):
        if info.get(name):
            return "backing file"
    data = (info.get("format-specific") or {}).get("data") or {}
    if data.get("data-file"):
        return "data file"
    if data.get("create-type") not in (None, "monolithicSparse", "streamOptimized"):
        return f"VMDK of type {data['create-type']}"
    if len(data.get("extents") or ()) > 1:
        return "several extents"
    return ""
