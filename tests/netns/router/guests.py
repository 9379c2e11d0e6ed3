"""A router with one guest network for the tests of what guests are served: DHCP, DNS, metadata, passwords."""

from __future__ import annotations

from typing import Any

from tests.netns.lab import Lab, Machine, Router

Raw = dict[str, Any]

SUBNET, GATEWAY, DOMAIN = "10.1.1.0/24", "10.1.1.1", "a.example"


class Network:
    """One guest network behind a router of its own. Change ``state`` and ``push`` it."""

    def __init__(self, lab: Lab, guests: int = 2) -> None:
        self.lab, self.segment = lab, lab.segment()
        self.macs = [lab.mac() for _ in range(guests)]
        control = lab.control()
        self.state: Raw = {
            "hostname": "router",
            "interfaces": {
                "interfaces": [
                    {"name": "eth0", "mac": lab.mac(), "role": "guest", "network": "n", "addresses": [f"{GATEWAY}/24"]},
                    control,
                ]
            },
            "dhcp": {
                "networks": [{"interface": "eth0", "subnet": SUBNET, "gateway": GATEWAY, "domain": DOMAIN}],
                "hosts": [self.host(number) for number in range(guests)],
            },
            "metadata": {"interfaces": ["eth0"], "guests": []},
            "passwords": {"interfaces": ["eth0"], "pending": []},
        }
        self.router: Router = lab.router(self.state, segments={"eth0": self.segment})

    @staticmethod
    def address(number: int) -> str:
        return f"10.1.1.{10 + number}"

    def host(self, number: int, **more: Any) -> Raw:
        """DHCP entry of guest ``number``: vm1 at 10.1.1.11 and so on."""
        return {
            "id": f"nic-{number}",
            "interface": "eth0",
            "mac": self.macs[number],
            "address": self.address(number),
            "name": f"vm{number}",
            **more,
        }

    def push(self) -> None:
        self.router.push(self.state)

    def guest(self, number: int) -> Machine:
        return self.lab.guest(self.segment, self.macs[number], hostname=f"vm{number}")

    def configured(self, number: int) -> Machine:
        """Guest ``number`` with its address set by hand, where DHCP is not what is tested."""
        guest = self.guest(number)
        guest.configure([f"{self.address(number)}/24"], GATEWAY)
        return guest
