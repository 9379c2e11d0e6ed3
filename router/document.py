"""RouterState: the desired state of a virtual router, composed of its services' sections.

Rules that concern one section are in that section's model; here are the ones between sections.
"""

from __future__ import annotations

from pydantic import model_validator

from appliance.schema.envelope import Document
from appliance.schema.types import Frozen, Hostname
from router.services.accounting.model import Accounting
from router.services.dhcp.model import Dhcp
from router.services.firewall.model import Firewall
from router.services.interfaces.model import Interfaces
from router.services.metadata.model import Metadata
from router.services.nat.model import Nat
from router.services.password.model import Passwords


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

    @model_validator(mode="after")
    def _check(self) -> RouterState:
        guests = {nic.name: nic for nic in self.interfaces.of_role("guest")}
        public = set(self.interfaces.public_addresses())

        def need_guest(field: str, name: str) -> None:
            if name not in guests:
                raise ValueError(f"{field}: {name} is not a guest interface of this router")

        for network in self.dhcp.networks if self.dhcp else ():
            need_guest("dhcp.networks", network.interface)
            if network.gateway not in [address.ip for address in guests[network.interface].addresses]:
                raise ValueError(f"dhcp.networks: gateway {network.gateway} is not on {network.interface}")
        if self.nat:
            for source in self.nat.source:
                need_guest("nat.source", source.interface)
            used = {(nat.address, "nat.static") for nat in self.nat.static}
            used |= {(nat.address, "nat.source") for nat in self.nat.source}
            used |= {(nat.address, "nat.forwards") for nat in self.nat.forwards}
            for address, field in sorted(used, key=str):
                if address not in public:
                    raise ValueError(f"{field}: {address} is not an address of a public interface")
        if self.firewall:
            for default in self.firewall.egress_defaults:
                need_guest("firewall.egress_defaults", default.interface)
            for unknown in {rule.address for rule in self.firewall.ingress} - public:
                raise ValueError(f"firewall.ingress: {unknown} is not an address of a public interface")
        for section, names in (
            ("metadata.interfaces", self.metadata.interfaces if self.metadata else ()),
            ("passwords.interfaces", self.passwords.interfaces if self.passwords else ()),
        ):
            for name in names:
                need_guest(section, name)
        return self


RouterDocument = Document[RouterState]
