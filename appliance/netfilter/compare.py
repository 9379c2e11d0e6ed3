"""Does the kernel's table hold a ruleset? Compared as text that the same library printed for both.

nft prints a rule differently from how it was written, so the expected ruleset is loaded into a network
namespace of its own, made for this and gone with its thread, and listed there. The live table is only read.
"""

from __future__ import annotations

import ctypes
import os
import re
from concurrent.futures import ThreadPoolExecutor

from appliance.errors import ApplyError
from appliance.netfilter import transaction
from appliance.netfilter.libnftables import NftError, run
from appliance.netfilter.ruleset import Ruleset

_CLONE_NEWNET = 0x40000000  # linux/sched.h


def differences(ruleset: Ruleset) -> list[str]:
    """Lines that only one side has, the expected ones with ``-`` and the kernel's own with ``+``; [] when equal."""
    # a new thread for each call: the namespace ends with it, and no other code ever runs in it
    with ThreadPoolExecutor(1, thread_name_prefix="nft-compare") as thread:
        expected = thread.submit(_list_in_new_namespace, ruleset).result()
    try:
        actual = _normalise(run(f"list table {ruleset.table}\n", stateless=True))
    except NftError:
        actual = {}
    return [
        *(f"-{line}" for line in expected if expected[line] != actual.get(line)),
        *(f"+{line}" for line in actual if actual[line] != expected.get(line)),
    ]


def _list_in_new_namespace(ruleset: Ruleset) -> dict[str, int]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        raise ApplyError(f"no network namespace to compare rulesets in: {os.strerror(ctypes.get_errno())}")
    run(transaction.replacement(ruleset))
    return _normalise(run(f"list table {ruleset.table}\n", stateless=True))


def _normalise(listing: str) -> dict[str, int]:
    """Each line with its place: number within its chain (order matters), 0 for an element (order does not).

    Elements of dynamic sets are left out: packets put them there.
    """
    lines: dict[str, int] = {}
    section, number = "", 0
    in_elements = dynamic = False
    for raw in listing.splitlines():
        line = raw.strip()
        if line.startswith(("table ", "set ", "map ", "chain ")):
            section, number, dynamic = line, 0, False
            lines[section] = 0
            continue
        if line.startswith("flags "):
            dynamic = "dynamic" in line
        if line.startswith("elements = {"):
            in_elements, line = True, line.removeprefix("elements = {")
        if in_elements:
            ended = line.endswith("}")
            for element in re.split(r",\s*", line.removesuffix("}")):
                if element.strip() and not dynamic:
                    lines[f"{section} {element.strip()}"] = 0
            in_elements = not ended
            continue
        if line and line != "}":
            number += 1
            lines[f"{section} {number} {line}"] = number
    return lines
