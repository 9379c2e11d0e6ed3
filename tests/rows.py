"""Rows for tests of the domain logic: one zone, one account, and networks, guests and addresses as asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TypeVar

from sqlalchemy.orm import Session

from controlplane.compute import vms
from controlplane.network import addresses, networks
from controlplane.network.supported import SERVICES
from controlplane.store.models import (
    Account,
    Base,
    Cluster,
    Domain,
    Host,
    Network,
    NetworkOffering,
    Nic,
    PhysicalNetwork,
    Pod,
    PublicIp,
    ServiceOffering,
    Template,
    VlanIpRange,
    Vm,
    Zone,
)

R = TypeVar("R", bound=Base)


@dataclass
class Rows:
    """Makes rows in one session."""

    session: Session
    domain: Domain = field(init=False)
    account: Account = field(init=False)
    zone: Zone = field(init=False)
    physical: PhysicalNetwork = field(init=False)
    cluster: Cluster = field(init=False)
    host: Host = field(init=False)
    public: VlanIpRange = field(init=False)
    offering: NetworkOffering = field(init=False)
    size: ServiceOffering = field(init=False)
    template: Template = field(init=False)

    def __post_init__(self) -> None:
        self.domain = self.add(Domain(name="ROOT", path="ROOT"))
        self.account = self.add(Account(name="alice", domain_id=self.domain.id))
        self.zone = self.add(Zone(name="z1", dns1="192.0.2.53", internal_dns1="192.0.2.53"))
        self.physical = self.add(PhysicalNetwork(zone_id=self.zone.id, name="p1"))
        pod = self.add(
            Pod(
                zone_id=self.zone.id,
                name="pod1",
                gateway="192.0.2.1",
                netmask="255.255.255.0",
                start_ip="192.0.2.2",
                end_ip="192.0.2.9",
            )
        )
        self.cluster = self.add(Cluster(pod_id=pod.id, name="cluster1", hypervisor="Namespace"))
        self.host = self.add(Host(cluster_id=self.cluster.id, name="host1", url="namespace://host1"))
        self.public = self.public_range("198.51.100.10", "198.51.100.19")
        self.offering = self.network_offering("isolated")
        self.size = self.add(ServiceOffering(name="small", display_text="small", cpu_number=1, cpu_speed=1, memory=64))
        self.template = self.add(
            Template(
                name="t", display_text="t", account_id=self.account.id, hypervisor="Namespace", format="DIR", image="t"
            )
        )

    def add(self, row: R) -> R:
        self.session.add(row)
        self.session.flush()
        return row

    def public_range(self, start: str, end: str, account: Account | None = None) -> VlanIpRange:
        return self.add(
            VlanIpRange(
                zone_id=self.zone.id,
                physical_network_id=self.physical.id,
                gateway="198.51.100.1",
                netmask="255.255.255.0",
                start_ip=start,
                end_ip=end,
                account_id=account.id if account else None,
            )
        )

    def network_offering(self, name: str, **values: object) -> NetworkOffering:
        services = {service: {"providers": ["VirtualRouter"], "capabilities": {}} for service in SERVICES}
        return self.add(NetworkOffering(**({"name": name, "display_text": name, "services": services} | values)))

    def network(self, subnet: networks.Subnet | None = None, name: str = "net", **values: object) -> Network:
        given = {"offering": self.offering, "account": self.account, "network_domain": None} | values
        return networks.create(
            self.session,
            name=name,
            display_text=name,
            zone=self.zone,
            subnet=subnet or networks.Subnet(),
            default_suffix="cloud.internal",
            **given,  # type: ignore[arg-type]
        )

    def vm(self, *nets: Network, address: str | None = None, **values: object) -> Vm:
        nics = [vms.NicRequest(network) for network in nets]
        if address is not None:
            nics[0] = vms.NicRequest(nets[0], IPv4Address(address))
        request = vms.VmRequest(
            zone=self.zone,
            account=self.account,
            template=self.template,
            service_offering=self.size,
            nics=nics,
            **values,  # type: ignore[arg-type]
        )
        vm = vms.create(self.session, request)
        vm.state = "Running"
        return vm

    def nic(self, network: Network) -> Nic:
        return self.vm(network).nics[0]

    def address(self, network: Network) -> PublicIp:
        """A public address that is not the source-NAT one."""
        addresses.ensure_source_nat(self.session, network)
        return addresses.associate(self.session, network, None)
