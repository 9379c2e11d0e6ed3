"""Security groups as rows: groups, rules and members (guide: chapter 15.7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError, UnsupportedError
from controlplane.network import services, tags
from controlplane.network.ports import Traffic, parse_traffic
from controlplane.securitygroups.compile import SERVICE
from controlplane.store.models import Account, SecurityGroup, SecurityGroupMember, SecurityGroupRule, Vm

DEFAULT = "default"
PROTOCOLS = ("tcp", "udp", "icmp", "all")
#: what clients call by name beside those (IANA)
_NAMED = {"gre": "47", "esp": "50", "ah": "51"}


def create(session: Session, account: Account, name: str, description: str | None) -> SecurityGroup:
    """A group without rules or members. ParameterError when the account has one of that name (in any case)."""
    if not name.strip():
        raise ParameterError("name: a security group needs a name")
    _check_free(session, account.id, name)
    group = SecurityGroup(name=name.strip(), description=description, account_id=account.id)
    session.add(group)
    session.flush()
    return group


def rename(session: Session, group: SecurityGroup, name: str) -> None:
    """ParameterError for the default group, and when the name is taken."""
    if group.name == DEFAULT:
        raise ParameterError("the default security group cannot be renamed")
    if not name.strip():
        raise ParameterError("name: a security group needs a name")
    _check_free(session, group.account_id, name, besides=group.id)
    group.name = name.strip()
    session.flush()


def _check_free(session: Session, account_id: str, name: str, *, besides: str | None = None) -> None:
    statement = select(SecurityGroup.id).where(
        SecurityGroup.account_id == account_id, func.lower(SecurityGroup.name) == name.strip().lower()
    )
    if [id for id in session.scalars(statement) if id != besides]:
        raise ParameterError(f"Unable to create security group, a group with name {name.strip()} already exists")


def default_of(session: Session, account_id: str) -> SecurityGroup:
    """The account's default group, made if it has none."""
    statement = select(SecurityGroup).where(SecurityGroup.account_id == account_id, SecurityGroup.name == DEFAULT)
    group = session.scalars(statement).one_or_none()
    if group is None:
        group = SecurityGroup(name=DEFAULT, description="Default Security Group", account_id=account_id)
        session.add(group)
        session.flush()
    return group


def ensure_defaults(session: Session) -> None:
    """A default group for every account that has none."""
    having = select(SecurityGroup.account_id).where(SecurityGroup.name == DEFAULT)
    for id in list(session.scalars(select(Account.id).where(Account.removed.is_(None), Account.id.not_in(having)))):
        default_of(session, id)


def remove(session: Session, group: SecurityGroup) -> None:
    """Delete a group with its rules. ParameterError for the default one, InUseError while anything refers to it."""
    if group.name == DEFAULT:
        raise ParameterError("The default security group is undeletable")
    if session.scalar(select(func.count()).where(SecurityGroupMember.group_id == group.id)):
        raise InUseError(f"Cannot delete group {group.name} when there are VMs in it; destroy or move them first")
    others = select(SecurityGroupRule.id).where(
        SecurityGroupRule.peer_id == group.id, SecurityGroupRule.group_id != group.id
    )
    if session.execute(others.limit(1)).first():
        raise InUseError(f"Cannot delete group {group.name}: rules of other groups refer to it; revoke them first")
    forget(session, group)


def forget(session: Session, group: SecurityGroup) -> None:
    """Delete a group and all that refers to it."""
    rules = (SecurityGroupRule.group_id == group.id) | (SecurityGroupRule.peer_id == group.id)
    tags.forget(session, "SecurityGroupRule", select(SecurityGroupRule.id).where(rules))
    tags.forget(session, "SecurityGroup", select(SecurityGroup.id).where(SecurityGroup.id == group.id))
    session.execute(delete(SecurityGroupRule).where(rules))
    session.execute(delete(SecurityGroupMember).where(SecurityGroupMember.group_id == group.id))
    session.delete(group)
    session.flush()


# --- rules ------------------------------------------------------------------------------------------------------


def parse_service(
    protocol: str, *, start_port: int | None, end_port: int | None, icmp_type: int | None, icmp_code: int | None
) -> Traffic:
    """What a rule matches besides addresses; any IANA protocol number is one too. ParameterError."""
    text = _NAMED.get(protocol.strip().lower(), protocol.strip())
    if text.isdecimal() and int(text) not in (1, 6, 17):
        if int(text) > 255:
            raise ParameterError(f"protocol: {text} is not a protocol number, they go from 0 to 255")
        if start_port is not None or end_port is not None or icmp_type is not None or icmp_code is not None:
            raise ParameterError(f"ports go with protocol tcp or udp, ICMP numbers with icmp, not with {text}")
        return Traffic(str(int(text)))
    if text.lower() == "all":
        # some clients send ports of -1 or the whole range along
        return Traffic("all")
    if text.lower() in ("icmp", "1"):
        # and the ICMP numbers as ports
        icmp_type = start_port if icmp_type is None else icmp_type
        icmp_code = end_port if icmp_code is None else icmp_code
        start_port = end_port = None
    return parse_traffic(
        protocol, PROTOCOLS, start_port=start_port, end_port=end_port, icmp_type=icmp_type, icmp_code=icmp_code
    )


def authorize(
    session: Session,
    group: SecurityGroup,
    traffic_type: str,
    traffic: Traffic,
    *,
    cidrs: Sequence[str],
    peers: Sequence[SecurityGroup],
) -> tuple[list[SecurityGroupRule], list[str]]:
    """A rule for each block and each peer; what is there already is not made twice.

    Returns the rules asked for, and the ids of those that are new.
    """
    if not cidrs and not peers:
        raise ParameterError("cidrlist or usersecuritygrouplist: at least one block or one group is needed")
    session.refresh(group, with_for_update=True)
    rules, new = [], []
    sides = [(cidr, None) for cidr in dict.fromkeys(cidrs)] + [(None, peer.id) for peer in dict.fromkeys(peers)]
    for cidr, peer_id in sides:
        values = {
            "group_id": group.id,
            "traffic_type": traffic_type,
            "protocol": traffic.protocol,
            "start_port": traffic.ports.first if traffic.ports else None,
            "end_port": traffic.ports.last if traffic.ports else None,
            "icmp_type": traffic.icmp_type,
            "icmp_code": traffic.icmp_code,
            "cidr": cidr,
            "peer_id": peer_id,
        }
        same = [getattr(SecurityGroupRule, name).is_not_distinct_from(value) for name, value in values.items()]
        rule = session.scalars(select(SecurityGroupRule).where(*same)).first()
        if rule is None:
            rule = SecurityGroupRule(**values)
            session.add(rule)
            session.flush()
            new.append(rule.id)
        rules.append(rule)
    return rules, new


def revoke(session: Session, ids: Iterable[str]) -> None:
    """Delete rules with their tags. Doing so twice does nothing."""
    wanted = SecurityGroupRule.id.in_(list(ids))
    tags.forget(session, "SecurityGroupRule", select(SecurityGroupRule.id).where(wanted))
    session.execute(delete(SecurityGroupRule).where(wanted))


# --- members ----------------------------------------------------------------------------------------------------


def secured(vm: Vm) -> bool:
    """Whether the VM is on a network with security groups."""
    return any(services.offers(nic.network, SERVICE) for nic in vm.nics)


def assign(session: Session, vm: Vm, wanted: Sequence[SecurityGroup] | None) -> None:
    """Make a VM a member of exactly these groups, None for its account's default one.

    ParameterError when one belongs to another account, UnsupportedError when no network of the VM has security groups.
    """
    if not secured(vm):
        if wanted:
            raise UnsupportedError(
                f"securitygroupids: VM {vm.name} is on no network with security groups; deploy it on one whose "
                f"offering has the service {SERVICE}"
            )
        return
    for group in wanted or ():
        if group.account_id != vm.account_id:
            raise ParameterError(f"securitygroupids: group {group.name} belongs to another account than VM {vm.name}")
    chosen = {group.id for group in wanted} if wanted else {default_of(session, vm.account_id).id}
    own = SecurityGroupMember.vm_id == vm.id
    # a membership that lasts stays the same row: usage is of rows
    session.execute(delete(SecurityGroupMember).where(own, SecurityGroupMember.group_id.not_in(chosen)))
    new = chosen.difference(session.scalars(select(SecurityGroupMember.group_id).where(own)))
    session.add_all(SecurityGroupMember(vm_id=vm.id, group_id=id) for id in sorted(new))
    session.flush()


def leave(session: Session, vm: Vm) -> None:
    """Take a VM out of all groups."""
    session.execute(delete(SecurityGroupMember).where(SecurityGroupMember.vm_id == vm.id))


def of_vms(session: Session, ids: Sequence[str]) -> dict[str, list[SecurityGroup]]:
    """VM -> its groups, by name."""
    found: dict[str, list[SecurityGroup]] = {}
    statement = (
        select(SecurityGroupMember.vm_id, SecurityGroup)
        .join(SecurityGroup, SecurityGroup.id == SecurityGroupMember.group_id)
        .where(SecurityGroupMember.vm_id.in_(ids))
        .order_by(SecurityGroup.name)
    )
    for vm_id, group in session.execute(statement):
        found.setdefault(vm_id, []).append(group)
    return found
