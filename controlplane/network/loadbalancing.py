"""Load balancer rules, their members, policies and certificates (guide: chapters 15.9, 15.15).

Everything that is part of the desired state has the states of a rule: Add, Active, Revoke. ``settle`` runs when a
router has taken a change in, and what was added is in force; who revoked something deletes it then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError
from controlplane.network import addresses, firewall, services
from controlplane.network.forwarding import Target
from controlplane.network.ports import Ports, Traffic
from controlplane.store.models import (
    FirewallRule,
    LoadBalancer,
    LoadBalancerCertificate,
    LoadBalancerMember,
    LoadBalancerPolicy,
    Nic,
    PortForwardingRule,
    PublicIp,
    SslCertificate,
)

ALGORITHMS = ("roundrobin", "leastconn", "source")
PROTOCOLS = ("tcp", "tcp-proxy", "http", "ssl")

_PARTS = (LoadBalancerMember, LoadBalancerPolicy, LoadBalancerCertificate)


def create(
    session: Session,
    *,
    address: PublicIp,
    name: str,
    description: str | None,
    algorithm: str,
    protocol: str,
    public_port: int,
    private_port: int,
    source_cidrs: list[str],
    open_firewall: bool,
) -> LoadBalancer:
    """A rule in state Add, with a firewall rule for its port when ``open_firewall`` (and none is there).

    Raises RuleConflictError when the address is used for static NAT or another rule has the port.
    """
    network = addresses.need_network(address)
    services.need(network, "Lb")
    session.refresh(address, with_for_update=True)
    _check_free(session, address, public_port)
    rule = LoadBalancer(
        network_id=network.id,
        public_ip_id=address.id,
        name=name,
        description=description,
        algorithm=algorithm,
        protocol=protocol,
        public_port=public_port,
        private_port=private_port,
        source_cidrs=source_cidrs,
    )
    session.add(rule)
    session.flush()
    if open_firewall:
        opened = firewall.open_ports(
            session, address, Traffic("tcp", ports=Ports(public_port, public_port)), source_cidrs
        )
        rule.firewall_rule_id = opened.id if opened is not None else None
        session.flush()
    return rule


def _check_free(session: Session, address: PublicIp, port: int) -> None:
    if address.static_nat_nic_id is not None:
        raise RuleConflictError(
            f"IP address {address.address} is in use by static NAT; disable it first or use another address"
        )
    forward = select(PortForwardingRule.id).where(
        PortForwardingRule.public_ip_id == address.id,
        PortForwardingRule.protocol == "tcp",
        PortForwardingRule.public_port <= port,
        PortForwardingRule.public_end_port >= port,
        PortForwardingRule.state != "Revoke",
    )
    balanced = select(LoadBalancer.id).where(
        LoadBalancer.public_ip_id == address.id, LoadBalancer.public_port == port, LoadBalancer.state != "Revoke"
    )
    for kind, statement in (("port forwarding", forward), ("load balancer", balanced)):
        holder = session.execute(statement.limit(1)).scalar()
        if holder is not None:
            raise RuleConflictError(f"port {port} of {address.address} is in use by {kind} rule {holder}")


def need(rule: LoadBalancer) -> None:
    """ParameterError for a rule that is being deleted."""
    if rule.state == "Revoke":
        raise ParameterError(f"load balancer rule {rule.id} is being deleted")


def assign(session: Session, rule: LoadBalancer, targets: Iterable[Target]) -> list[str]:
    """Make addresses of NICs members; ids of the members. RuleConflictError for one that is one already."""
    need(rule)
    added = []
    for nic, secondary in targets:
        same = [member for member in _members(session, rule, nic) if member.address == secondary]
        if any(member.state != "Revoke" for member in same):
            address = secondary or nic.address
            raise RuleConflictError(
                f"{address} of VM {nic.vm.name} is a member of load balancer rule {rule.id} already"
            )
        member = same[0] if same else LoadBalancerMember(rule_id=rule.id, nic_id=nic.id, address=secondary)
        member.state = "Add"
        session.add(member)
        session.flush()
        added.append(member.id)
    return added


def unassign(session: Session, rule: LoadBalancer, targets: Iterable[Target]) -> list[str]:
    """Take addresses of NICs out of the rule; ids of the members. Their connections go on.

    ParameterError for one that is none.
    """
    revoked = []
    for nic, secondary in targets:
        there = [member for member in _members(session, rule, nic) if member.state != "Revoke"]
        found = [member for member in there if member.address == secondary]
        if not found:
            address = secondary or nic.address
            raise ParameterError(f"{address} of VM {nic.vm.name} is not a member of load balancer rule {rule.id}")
        found[0].state = "Revoke"
        revoked.append(found[0].id)
    session.flush()
    return revoked


def targets_of(session: Session, rule: LoadBalancer, nic: Nic) -> list[Target]:
    """The addresses of a NIC that are members of the rule."""
    return [Target(nic, member.address) for member in _members(session, rule, nic) if member.state != "Revoke"]


def _members(session: Session, rule: LoadBalancer, nic: Nic) -> list[LoadBalancerMember]:
    same = (LoadBalancerMember.rule_id == rule.id) & (LoadBalancerMember.nic_id == nic.id)
    return list(session.scalars(select(LoadBalancerMember).where(same)))


def add_policy(session: Session, rule: LoadBalancer, policy: LoadBalancerPolicy) -> LoadBalancerPolicy:
    """Give a rule a policy. RuleConflictError when it has one of the kind."""
    need(rule)
    if policies(session, [rule.id], policy.kind):
        raise RuleConflictError(f"load balancer rule {rule.id} has a policy of this kind already; delete it first")
    policy.rule_id = rule.id
    session.add(policy)
    session.flush()
    return policy


def policies(session: Session, rule_ids: Collection[str], kind: str) -> list[LoadBalancerPolicy]:
    """Policies of rules that are not on their way out."""
    statement = select(LoadBalancerPolicy).where(
        LoadBalancerPolicy.rule_id.in_(rule_ids), LoadBalancerPolicy.kind == kind, LoadBalancerPolicy.state != "Revoke"
    )
    return list(session.scalars(statement.order_by(LoadBalancerPolicy.created, LoadBalancerPolicy.id)))


def use_certificate(session: Session, rule: LoadBalancer, certificate: SslCertificate) -> LoadBalancerCertificate:
    """Add a certificate to a rule; of several, the name that a client asks for (SNI) chooses."""
    need(rule)
    if rule.protocol != "ssl":
        raise ParameterError(f"load balancer rule {rule.id} has protocol {rule.protocol}; certificates go with ssl")
    use = _use(session, rule, certificate)
    if use is None:
        use = LoadBalancerCertificate(rule_id=rule.id, certificate_id=certificate.id)
        session.add(use)
    elif use.state != "Revoke":
        raise RuleConflictError(f"load balancer rule {rule.id} has certificate {certificate.name} already")
    use.state = "Add"
    session.flush()
    return use


def uses(session: Session, rule: LoadBalancer, certificate: SslCertificate) -> bool:
    """Whether a rule has a certificate."""
    use = _use(session, rule, certificate)
    return use is not None and use.state != "Revoke"


def _use(session: Session, rule: LoadBalancer, certificate: SslCertificate) -> LoadBalancerCertificate | None:
    same = (LoadBalancerCertificate.rule_id == rule.id) & (LoadBalancerCertificate.certificate_id == certificate.id)
    return session.scalars(select(LoadBalancerCertificate).where(same)).one_or_none()


def drop_certificates(session: Session, rule: LoadBalancer, keep: str = "") -> list[str]:
    """Take all certificates but ``keep`` from a rule; ids of the uses that end."""
    used = (LoadBalancerCertificate.rule_id == rule.id) & (LoadBalancerCertificate.state != "Revoke")
    found = session.scalars(
        select(LoadBalancerCertificate).where(used, LoadBalancerCertificate.certificate_id != keep)
    ).all()
    for use in found:
        use.state = "Revoke"
    session.flush()
    return [use.id for use in found]


def revoke(session: Session, rule: LoadBalancer) -> None:
    """Take a rule, and the firewall rule opened for it, out of the desired state."""
    rule.state = "Revoke"
    session.execute(update(FirewallRule).where(FirewallRule.id == rule.firewall_rule_id).values(state="Revoke"))
    session.flush()


def remove(session: Session, rule_id: str) -> None:
    """Delete a revoked rule with everything of it. Doing so twice does nothing."""
    rule = session.get(LoadBalancer, rule_id)
    if rule is None or rule.state != "Revoke":
        return
    opened = rule.firewall_rule_id
    for part in _PARTS:
        session.execute(delete(part).where(part.rule_id == rule_id))
    session.delete(rule)
    session.flush()
    if opened is not None:
        firewall.remove(session, opened)


def settle(session: Session, rule_id: str) -> LoadBalancer | None:
    """A router has a rule as it is wanted now; None when the rule is gone or going."""
    rule = session.get(LoadBalancer, rule_id)
    if rule is None or rule.state == "Revoke":
        return None
    rule.state = "Active"
    if rule.firewall_rule_id is not None:
        firewall.activate(session, rule.firewall_rule_id)
    for part in _PARTS:
        session.execute(update(part).where(part.rule_id == rule_id, part.state == "Add").values(state="Active"))
    session.flush()
    return rule
