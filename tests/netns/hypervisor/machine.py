"""What the machine itself looks like, to see that nothing was added to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from appliance.run import run


@dataclass(frozen=True)
class Machine:
    """The network of the namespace the tests run in, and the mounts below a directory."""

    links: frozenset[str]
    addresses: frozenset[str]
    routes: str
    ruleset: str
    forwarding: str
    mounts: tuple[str, ...]


def look(directory: Path) -> Machine:
    links = json.loads(run(["ip", "-json", "address", "show"]).stdout)
    return Machine(
        links=frozenset(link["ifname"] for link in links),
        addresses=frozenset(item["local"] for link in links for item in link["addr_info"]),
        routes=run(["ip", "route", "show", "table", "all"]).stdout,
        ruleset=run(["nft", "list", "ruleset"]).stdout,
        forwarding=Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        mounts=mounts_below(directory),
    )


def mounts_below(directory: Path) -> tuple[str, ...]:
    targets = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return tuple(target for target in targets if Path(target).is_relative_to(directory))


def namespaces_of(directory: Path) -> list[int]:
    """Processes that still have a file below ``directory`` as their output: the inits of its instances."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                output = (entry / "fd/1").readlink()
            except OSError:
                continue
            if output.is_relative_to(directory):
                found.append(int(entry.name))
    return found
