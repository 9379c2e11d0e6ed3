"""Port forwarding (guide: chapter 15.14.3)."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError
from controlplane.network import addresses, firewall, services, vpn
from controlplane.network.ports import Ports, Traffic
from controlplane.store.models import FirewallRule, LoadBalancer, Network, Nic, PortForwardingRule, PublicIp, Vm

#: VMs that no rule may point to
GONE = ("Destroyed", "Expunging", "Error")


class Target(NamedTuple):
    """Where a rule sends its traffic: a NIC, at its primary address, or at a secondary one."""

    nic: Nic
    secondary: str | None = None


def target_on(session: Session, vm: Vm, network: Network, guest_address: str | None = None) -> Target:
    """The NIC of ``vm`` on ``network``, for rules that point to it; ``guest_address`` says which address of it.

    Raises ParameterError when the VM is going away, is not on the network, or has not got ``guest_address`` there.
    """
    if vm.removed is not None or vm.state in GONE:
        raise ParameterError(f"virtualmachineid: VM {vm.name} is {vm.state.lower()}")
    nic = session.execute(select(Nic).where(Nic.vm_id == vm.id, Nic.network_id == network.id)).scalar_one_or_none()
    if nic is None:
        raise ParameterError(f"virtualmachineid: VM {vm.name} is not on network {network.name} of the IP address")
    return address_of(nic, guest_address)


def address_of(nic: Nic, guest_address: str | None) -> Target:
    """The NIC at one of its addresses. ParameterError when it has not got ``guest_address``."""
    if guest_address in (None, nic.address):
        return Target(nic)
    if guest_address not in [row.address for row in nic.secondary]:
        known = ", ".join([nic.address, *(row.address for row in nic.secondary)])
        raise ParameterError(f"vmguestip: VM {nic.vm.name} has {known}, not {guest_address}, on {nic.network.name}")
    return Target(nic, guest_address)


def check_ranges(public: Ports, private: Ports) -> None:
    """ParameterError unless both ranges have the same length."""
    if len(public) != len(private):
        raise ParameterError(
            f"public ports {public} and private ports {private} differ in number; give ranges of the same length"
        )


def create(
    session: Session,
    *,
    address: PublicIp,
    nic: Nic,
    secondary: str | None = None,
    protocol: str,
    public: Ports,
    private: Ports,
    open_firewall: bool,
    source_cidrs: list[str],
) -> PortForwardingRule:
    """A rule in state Add, with a firewall rule for the same ports when ``open_firewall`` (and none is there).

    Raises RuleConflictError when the address is used for static NAT or a forwarding rule has one of the ports.
    """
    network = addresses.need_network(address)
    services.need(network, "PortForwarding")
    check_ranges(public, private)
    session.refresh(address, with_for_update=True)
    if address.static_nat_nic_id is not None:
        raise RuleConflictError(
            f"IP address {address.address} is in use by static NAT; disable it first or use another address"
        )
    _check_overlap(session, address, protocol, public)
    _check_balanced(session, address, protocol, public)
    vpn.check_ports(session, address, protocol, public)
    rule = PortForwardingRule(
        network_id=network.id,
        public_ip_id=address.id,
        nic_id=nic.id,
        guest_address=secondary,
        protocol=protocol,
        public_port=public.first,
        public_end_port=public.last,
        private_port=private.first,
        private_end_port=private.last,
    )
    session.add(rule)
    session.flush()
    if open_firewall:
        firewall.open_ports(session, address, Traffic(protocol, ports=public), source_cidrs, rule)
    return rule


def _check_overlap(session: Session, address: PublicIp, protocol: str, ports: Ports) -> None:
    # rules in force never overlap, so of those that begin at or below our last port only the highest can reach ours
    statement = (
        select(PortForwardingRule)
        .where(
            PortForwardingRule.public_ip_id == address.id,
            PortForwardingRule.protocol == protocol,
            PortForwardingRule.public_port <= ports.last,
            PortForwardingRule.state != "Revoke",
        )
        .order_by(PortForwardingRule.public_port.desc())
        .limit(1)
    )
    below = session.execute(statement).scalar_one_or_none()
    if below is not None and below.public_end_port >= ports.first:
        taken = Ports(below.public_port, below.public_end_port)
        raise RuleConflictError(
            f"The range specified, {protocol} {ports} of {address.address}, conflicts with "
            f"port forwarding rule {below.id} which has {taken}"
        )


def _check_balanced(session: Session, address: PublicIp, protocol: str, ports: Ports) -> None:
    balanced = session.execute(
        select(LoadBalancer.id, LoadBalancer.public_port).where(
            LoadBalancer.public_ip_id == address.id,
            LoadBalancer.public_port.between(ports.first, ports.last),
            LoadBalancer.state != "Revoke",
        )
    ).first()
    if balanced is not None and protocol == "tcp":
        raise RuleConflictError(
            f"The range specified, {protocol} {ports} of {address.address}, conflicts with "
            f"load balancer rule {balanced.id} which has {balanced.public_port}"
        )


def change(session: Session, rule: PortForwardingRule, *, target: Target | None, private: Ports | None) -> None:
    """Send a rule's traffic to another NIC or address, or to other ports of it."""
    if rule.state == "Revoke":
        raise ParameterError(f"port forwarding rule {rule.id} is being deleted")
    if private is not None:
        check_ranges(Ports(rule.public_port, rule.public_end_port), private)
        rule.private_port, rule.private_end_port = private.first, private.last
    if target is not None:
        rule.nic_id, rule.guest_address = target.nic.id, target.secondary
    rule.state = "Add"
    session.flush()


def revoke(session: Session, rule: PortForwardingRule) -> None:
    """Take a rule, and the firewall rule opened for it, out of the desired state; ``remove`` ends it."""
    rule.state = "Revoke"
    opened = FirewallRule.port_forwarding_rule_id == rule.id
    session.execute(update(FirewallRule).where(opened).values(state="Revoke"))
    session.flush()


def remove(session: Session, rule_id: str) -> None:
    """Delete the rows of a revoked rule. Doing so twice does nothing."""
    revoked = (PortForwardingRule.id == rule_id) & (PortForwardingRule.state == "Revoke")
    if session.execute(select(PortForwardingRule.id).where(revoked)).first() is None:
        return
    session.execute(delete(FirewallRule).where(FirewallRule.port_forwarding_rule_id == rule_id))
    session.execute(delete(PortForwardingRule).where(revoked))


def activate(session: Session, rule_id: str) -> PortForwardingRule | None:
    """Mark a rule, and the firewall rule opened for it, as in force; None when it is gone or going."""
    opened = (FirewallRule.port_forwarding_rule_id == rule_id) & (FirewallRule.state == "Add")
    rule = session.get(PortForwardingRule, rule_id)
    if rule is None or rule.state == "Revoke":
        return None
    rule.state = "Active"
    session.execute(update(FirewallRule).where(opened).values(state="Active"))
    session.flush()
    return rule
