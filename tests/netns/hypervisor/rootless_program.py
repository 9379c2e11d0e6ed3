"""Run as an ordinary user: ``python -m tests.netns.hypervisor.rootless_program DATA PART``.

``serve``: a router and a guest behind it, used; then wait to be killed. ``adopt``: the same guest goes on; then remove
everything. ``purge``: remove what ``gatehouse serve`` left running. Prints one JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from appliance.run import run
from controlplane.hypervisors.base import GuestDisk
from controlplane.hypervisors.namespace import rootless
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from controlplane.hypervisors.registry import make_hypervisor
from tests.netns.lab import Lab


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def serve(data: Path) -> None:
    lab = Lab(data)
    tell(
        uid=os.getuid(),
        network=str(Path("/proc/self/ns/net").readlink()),
        users=Path("/proc/self/uid_map").read_text().split(),
    )
    public, segment = lab.segment("public"), lab.segment("guest")
    internet = lab.host("internet", public, ["203.0.113.1/24"])
    internet.serve(80, "hello")
    guest = lab.guest(segment, "02:aa:00:00:00:01")
    state = {
        "hostname": "r-1",
        "interfaces": {
            "interfaces": [
                {"name": "eth0", "mac": lab.mac(), "role": "guest", "addresses": ["10.1.1.1/24"]},
                lab.control(),
                {
                    "name": "eth2",
                    "mac": lab.mac(),
                    "role": "public",
                    "addresses": ["203.0.113.10/24"],
                    "gateway": "203.0.113.1",
                },
            ]
        },
        "dhcp": {
            "networks": [{"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": "10.1.1.1", "domain": "a.example"}],
            "hosts": [
                {"id": "n1", "interface": "eth0", "mac": "02:aa:00:00:00:01", "address": "10.1.1.5", "name": "vm1"}
            ],
        },
        "nat": {"source": [{"interface": "eth0", "address": "203.0.113.10"}]},
        "firewall": {"egress_defaults": [{"interface": "eth0", "allow": True}]},
    }
    router = lab.router(state, segments={"eth0": segment, "eth2": public})
    lease = guest.dhcp()
    volume = lab.hypervisor.pool / "volumes/data.qcow2"
    lab.hypervisor.volumes.prepare_pool(lab.hypervisor.pool)
    lab.hypervisor.volumes.create(volume, 16 << 20)
    lab.hypervisor.attach_disk(guest.id, GuestDisk(volume, 1, "data"))
    written = guest.run(
        ["sh", "-ec", "mkfs.ext4 -q /dev/vdb; echo mine | dd of=/dev/disk/by-id/virtio-data; head -c 4 /dev/vdb"]
    )
    tell(
        guest=guest.id,
        router=router.id,
        lease=lease["ip"],
        page=guest.http("http://203.0.113.1/"),
        client=internet.clients(),
        own_name=guest.run(["dig", "+short", "vm1.a.example", "@10.1.1.1"]).stdout.strip(),
        daemons=sorted(router.processes().values()),
        volume=written.stdout,
        user_of_volume=volume.stat().st_uid,
        user_of_dnsmasq=router.run(["stat", "-c", "%U", f"/proc/{router.pids('sbin/dnsmasq')[0]}"]).stdout.strip(),
    )
    signal.pause()


def adopt(data: Path, guest: str) -> None:
    hypervisor = NamespaceHypervisor(data / "hypervisor", data=data)
    fetch = ["curl", "-s", "-m", "5", "http://203.0.113.1/"]
    status_before = hypervisor.exec(guest, fetch)
    print(flush=True)
    hypervisor.open()
    [volume] = (hypervisor.pool / "volumes").iterdir()
    copied = hypervisor.copy_disk(guest, volume, hypervisor.pool / "snapshots/s.qcow2", quiesce=False)
    kept = run(hypervisor.command(guest, ["head", "-c", "4", "/dev/vdb"])).stdout
    power = {item.id: item.power for item in hypervisor.instances()}
    tell(status=status_before, power=power, kept=kept, copied=copied)
    hypervisor.purge()


def purge(data: Path) -> None:
    # as the command line makes it
    hypervisor = make_hypervisor("namespace", data)
    hypervisor.open()
    assert isinstance(hypervisor, NamespaceHypervisor)
    hypervisor.purge()


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    rootless.ensure(directory)
    if sys.argv[2] == "serve":
        serve(directory)
    elif sys.argv[2] == "adopt":
        adopt(directory, sys.argv[3])
    else:
        purge(directory)
