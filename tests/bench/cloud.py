"""What the subjects measure on: a lab, router states of any size, and a plain machine that only forwards."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from controlplane.hypervisors.base import Nic
from tests.documents import PUBLIC_MAC, Raw, add_rules, small_state
from tests.netns.lab import Lab, Machine, Router
from tests.wait import wait_for

#: first port of the rules that ``add_rules`` makes
FIRST_PORT = 10000

STORM = Path(__file__).with_name("storm.py")


@contextmanager
def lab() -> Iterator[Lab]:
    """A lab of this subject's own, gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-bench-"))
    built = Lab(directory)
    try:
        yield built
    except BaseException:
        for name, text in built.logs().items():
            print(f"--- {name}\n{text}", file=sys.stderr)
        raise
    finally:
        built.close()
        shutil.rmtree(directory)


def state(lab: Lab, *, rules: int, public: str = "203.0.113.2", guests: int = 0, mac: str = PUBLIC_MAC) -> Raw:
    """A router's state on guest network 10.1.0.0/16 with every service, ``rules`` forwards with their firewall rules
    to 10.1.1.10:80, and ``guests`` known guests from 10.1.1.10 on."""
    raw = small_state()
    guest, _, outside = raw["interfaces"]["interfaces"]
    guest.update(mac=lab.mac(), addresses=["10.1.0.1/16"])
    outside.update(mac=mac, addresses=[f"{public}/24"])
    raw["interfaces"]["interfaces"][1] = lab.control()
    raw["dhcp"]["networks"][0].update(subnet="10.1.0.0/16", gateway="10.1.0.1")
    raw["dhcp"].update(hosts=[], records=[{"name": "data-server", "address": "10.1.0.1"}], resolvers=[])
    raw["nat"] = {"source": [{"interface": "eth0", "address": public}], "static": [], "forwards": []}
    raw["firewall"].update(ingress=[], egress=[], egress_defaults=[{"interface": "eth0", "allow": True}])
    raw["metadata"].update(guests=[], token_required=[])
    raw["passwords"]["pending"] = []
    add_rules(raw, rules, address=public)
    for number in range(guests):
        add_guest(raw, number)
    return raw


def guest_mac(number: int) -> str:
    return f"02:01:00:00:{number >> 8:02x}:{number & 255:02x}"


def guest_address(number: int) -> str:
    return str(IPv4Address("10.1.1.10") + number)


def add_guest(raw: Raw, number: int) -> None:
    """One more known guest: lease, name, metadata and user data."""
    address = guest_address(number)
    raw["dhcp"]["hosts"].append(
        {
            "id": f"nic-{number}",
            "interface": "eth0",
            "mac": guest_mac(number),
            "address": address,
            "name": f"vm{number}",
        }
    )
    items = {
        "instance-id": f"i-{number}",
        "local-hostname": f"vm{number}",
        "local-ipv4": address,
        "availability-zone": "zone1",
        "service-offering": "small",
        "public-keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5vdCBhIHJlYWwga2V5LCBvbmx5IGZvciBhIGJlbmNo",
    }
    user_data = "I2Nsb3VkLWNvbmZpZwpwYWNrYWdlczogW2h0b3BdCg=="
    raw["metadata"]["guests"].append({"id": f"vm-{number}", "address": address, "items": items, "user_data": user_data})


def boot(lab: Lab, raw: Raw, guest_segment: str, public_segment: str, *, push: bool = True) -> Router:
    return lab.router(raw, segments={"eth0": guest_segment, "eth2": public_segment}, push=push)


def plain_router(lab: Lab, guest_segment: str, public_segment: str, inside: str, outside: str) -> Machine:
    """A machine between the two segments that forwards packets and does nothing else: no NAT, no rules."""
    machine = lab.guest(guest_segment, address=inside)
    mac = lab.mac()
    lab.hypervisor.attach_nic(machine.id, Nic(mac, public_segment, trusted=True))
    machine.configure([outside], interface="eth1")
    machine.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
    return machine


def storm_server(machine: Machine, port: int) -> Any:
    """Start the connection storm's server in ``machine``; it ends with the lab."""
    process = machine.popen([sys.executable, str(STORM), "serve", str(port)])
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def wait_open(machine: Machine, address: str, port: int) -> None:
    wait_for(lambda: machine.connects(address, port), 10, f"{address}:{port} to be reachable")
