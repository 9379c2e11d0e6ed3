"""RouterState: the desired state of a virtual router, composed of its services' sections.

Rules that concern one section are in that section's model; here are the ones between sections.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from appliance.schema.envelope import Document
from appliance.schema.problems import Place, Problem, refuse
from appliance.schema.types import Frozen, Hostname, IPv4Address
from appliance.services.interfaces.model import Interfaces
from appliance.services.shaping.model import Shaping
from router.services.accounting.model import Accounting
from router.services.dhcp.model import Dhcp
from router.services.firewall.model import Firewall
from router.services.loadbalancer.model import LoadBalancer
from router.services.metadata.model import Metadata
from router.services.nat.model import Nat
from router.services.password.model import Passwords
from router.services.sourceguard.model import SourceGuard
from router.services.vpn.model import Vpn


class RouterState(Frozen):
    """Everything a router must be. A section that is absent turns its service off."""

    hostname: Hostname
    interfaces: Interfaces
    dhcp: Dhcp | None = None
    nat: Nat | None = None
    firewall: Firewall | None = None
    metadata: Metadata | None = None
    passwords: Passwords | None = None
    accounting: Accounting | None = None
    loadbalancer: LoadBalancer | None = None
    shaping: Shaping | None = None
    sourceguard: SourceGuard | None = None
    vpn: Vpn | None = None

    @model_validator(mode="after")
    def _check(self) -> RouterState:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        guests = {nic.name: nic for nic in self.interfaces.of_role("guest")}
        for place, name in self._guest_interfaces():
            if name not in guests:
                yield place, f"{name} is not a guest interface of this router"
        for index, network in enumerate(self.dhcp.networks if self.dhcp else ()):
            nic = guests.get(network.interface)
            if nic and network.router not in [address.ip for address in nic.addresses]:
                field = "gateway" if network.server is None else "server"
                yield ("dhcp", "networks", index, field), f"{network.router} is not on {network.interface}"
        public = {int(address) for address in self.interfaces.public_addresses()}
        for where, numbers in self._public_users():
            for index, number in enumerate(numbers):
                if number not in public:
                    text = f"{IPv4Address(number)} is not an address of a public interface"
                    yield (*where, index, "address"), text
        yield from self._balanced_problems()
        yield from self._shaped_problems()
        yield from self._vpn_problems()

    def _balanced_problems(self) -> Iterator[Problem]:
        """A port that is balanced cannot be forwarded too: the packets would never arrive here."""
        rules = self.loadbalancer.rules if self.loadbalancer else ()
        if not rules or self.nat is None:
            return
        static = {int(one.address) for one in self.nat.static}
        taken = [forward.span for forward in self.nat.forwards if forward.protocol == "tcp"]
        for index, rule in enumerate(rules):
            number = int(rule.address)
            if number in static:
                yield ("loadbalancer", "rules", index, "address"), f"{rule.address} is in use by static NAT"
            if any(span[0] == number and span[2] <= rule.port <= span[3] for span in taken):
                text = f"port {rule.port} of {rule.address} is forwarded to a guest"
                yield ("loadbalancer", "rules", index, "port"), text

    def _shaped_problems(self) -> Iterator[Problem]:
        roles = {nic.name: nic.role for nic in self.interfaces.interfaces}
        for index, shaped in enumerate(self.shaping.interfaces if self.shaping else ()):
            if roles.get(shaped.interface, "control") == "control":
                text = f"{shaped.interface} is not a guest, public or private-gateway interface of this router"
                yield ("shaping", "interfaces", index, "interface"), text

    def _vpn_problems(self) -> Iterator[Problem]:
        """Packets of the VPN must arrive here, and an address of each local network is what tunnels are bound to."""
        if self.vpn is None:
            return
        own = [address for nic in self.interfaces.of_role("guest") for address in nic.addresses]
        ends: list[tuple[Place, IPv4Address, tuple[int, ...]]] = []
        for index, one in enumerate(self.vpn.connections):
            place: Place = ("vpn", "connections", index)
            ends.append(((*place, "local"), one.local, (500, 4500)))
            for number, network in enumerate(one.local_networks):
                if not any(address.ip in network for address in own):
                    text = f"no guest interface has an address in {network}"
                    yield (*place, "local_networks", number), text
        for index, access in enumerate(self.vpn.remote):
            place = ("vpn", "remote", index)
            ends.append(((*place, "address"), access.address, (500, 4500, 1701) if access.l2tp else (500, 4500)))
            for number, network in enumerate(access.networks):
                if not any(address.ip in network for address in own):
                    yield (*place, "networks", number), f"no guest interface has an address in {network}"
            if not any(address.ip == access.dns for address in own):
                yield (*place, "dns"), f"{access.dns} is not an address of a guest interface"
            for nic in self.interfaces.interfaces:
                if any(access.clients.overlaps(address.network) for address in nic.addresses):
                    yield (*place, "clients"), f"{access.clients} overlaps the network of {nic.name}"
        yield from self._vpn_end_problems(ends)

    def _vpn_end_problems(self, ends: list[tuple[Place, IPv4Address, tuple[int, ...]]]) -> Iterator[Problem]:
        """Ends of tunnels: addresses of this router, whose UDP ports nobody else has."""
        public = self.interfaces.public_addresses()
        static = {one.address for one in self.nat.static} if self.nat else set()
        taken = {
            (forward.address, port)
            for forward in (self.nat.forwards if self.nat else ())
            for port in (500, 4500, 1701)
            if forward.protocol == "udp" and forward.ports.first <= port <= forward.ports.last
        }
        for place, address, ports in ends:
            if address not in public:
                yield place, f"{address} is not an address of a public interface"
            if address in static:
                yield place, f"{address} is in use by static NAT"
            for port in ports:
                if (address, port) in taken:
                    yield place, f"UDP port {port} of {address} is forwarded to a guest"

    def _guest_interfaces(self) -> Iterator[tuple[Place, str]]:
        """Every field that must name a guest interface."""
        if self.dhcp:
            yield from (
                (("dhcp", "networks", i, "interface"), net.interface) for i, net in enumerate(self.dhcp.networks)
            )
        if self.nat:
            yield from ((("nat", "source", i, "interface"), nat.interface) for i, nat in enumerate(self.nat.source))
        if self.firewall:
            for i, default in enumerate(self.firewall.egress_defaults):
                yield ("firewall", "egress_defaults", i, "interface"), default.interface
        if self.metadata:
            yield from ((("metadata", "interfaces", i), name) for i, name in enumerate(self.metadata.interfaces))
        if self.passwords:
            yield from ((("passwords", "interfaces", i), name) for i, name in enumerate(self.passwords.interfaces))
        if self.loadbalancer:
            for i, rule in enumerate(self.loadbalancer.rules):
                yield ("loadbalancer", "rules", i, "interface"), rule.interface
        if self.sourceguard:
            yield from ((("sourceguard", "interfaces", i), name) for i, name in enumerate(self.sourceguard.interfaces))

    def _public_users(self) -> Iterator[tuple[Place, list[int]]]:
        """Every list whose entries stand for a public address of this router: these addresses as numbers.

        Numbers, because the lists of rules are long and hashing IPv4Address is slow.
        """
        if self.nat:
            yield ("nat", "source"), [int(nat.address) for nat in self.nat.source]
            yield ("nat", "static"), [int(nat.address) for nat in self.nat.static]
            yield ("nat", "forwards"), [forward.span[0] for forward in self.nat.forwards]
        if self.firewall:
            yield ("firewall", "ingress"), [rule.number for rule in self.firewall.ingress]
        if self.loadbalancer:
            yield ("loadbalancer", "rules"), [int(rule.address) for rule in self.loadbalancer.rules]


RouterDocument = Document[RouterState]

#: what the agent of a router validates documents with
DOCUMENT = RouterDocument
