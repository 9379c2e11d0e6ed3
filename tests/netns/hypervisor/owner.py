"""A hypervisor's owner to be killed: ``python -m tests.netns.hypervisor.owner DIRECTORY GUESTS``.

Starts guests g-1, g-2, ... with addresses 10.1.1.N on one segment, prints the name of each that is up, then waits.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from appliance.run import run
from controlplane.hypervisors.base import GuestSpec, Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor


def main(directory: Path, guests: int) -> None:
    hypervisor = NamespaceHypervisor(directory)
    hypervisor.open()
    print("open", flush=True)
    hypervisor.ensure_segment(Segment("guest-1"))
    for number in range(1, guests + 1):
        name = f"g-{number}"
        nic = Nic(f"02:00:00:00:00:{number:02x}", "guest-1", addresses=(f"10.1.1.{number}",))
        hypervisor.start_guest(GuestSpec(name, name, (nic,), "bare"))
        run(hypervisor.command(name, ["ip", "address", "add", f"10.1.1.{number}/24", "dev", "eth0"]))
        run(hypervisor.command(name, ["ip", "link", "set", "eth0", "up"]))
        print(name, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
