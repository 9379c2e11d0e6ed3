"""What the tables say about one console proxy: the input of its compiler, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.convergence.intent.systemvm import SystemVmIntent, common, outward
from controlplane.core import Core
from controlplane.setting import words
from controlplane.store.models import Appliance, ConsoleSession, PublicIp, VlanIpRange, Vm
from controlplane.systemvms import certificates
from controlplane.systemvms import rows as systemvms
from controlplane.systemvms.names import names_of

#: states of sessions that a proxy may serve
SERVED = ("Pending", "Open")


class Screen(NamedTuple):
    """A console session as the proxy serves it. ``target`` and ``policy`` are sorted pairs of their fields."""

    id: str
    token_hash: str
    vm_id: str
    name: str
    target: tuple[tuple[str, Any], ...]
    policy: tuple[tuple[str, Any], ...]
    expires: datetime

    def __repr__(self) -> str:
        # the target's password
        return f"Screen({self.id})"


@dataclass(frozen=True, kw_only=True)
class ProxyIntent(SystemVmIntent):
    """Everything one console proxy's document is made of, at one generation."""

    certificate: certificates.ServedCertificate = field(repr=False)
    domain: str | None
    #: first and last addresses of the zone's public ranges, which names stand for
    ranges: tuple[tuple[str, str], ...]
    #: public addresses of all the zone's console proxies: each is a name server of the domain
    nameservers: tuple[str, ...]
    origins: tuple[str, ...]
    frame_ancestors: tuple[str, ...]
    session_max: int
    #: seconds
    idle_limit: int | None
    length_limit: int | None
    recording_age: int
    acknowledged: int
    sessions: tuple[Screen, ...]


def prepare(session: Session, proxy: Appliance, core: Core) -> bool:
    """See to it that the proxy has a certificate for its names; whether it needed another one."""
    address = systemvms.public_address(session, proxy.id).address
    names = names_of(address, core.configuration.get(session, "consoleproxy.url.domain"))
    return certificates.ensure(session, core.secrets, core.authority, proxy.id, names.subjects)


def load(session: Session, appliance_id: str, core: Core) -> ProxyIntent:
    """The intent of one console proxy from one snapshot of the tables. Raises NoResultFound for an unknown one."""
    proxy = session.get_one(Appliance, appliance_id)
    zone = proxy.zone_id

    def setting(name: str) -> str:
        return core.configuration.get(session, name, zone=zone)

    public = outward(session, appliance_id)
    names = names_of(public.address, setting("consoleproxy.url.domain"))
    servers = (
        select(PublicIp.address)
        .join(Appliance, Appliance.id == PublicIp.appliance_id)
        .where(Appliance.zone_id == zone, Appliance.role == proxy.role, Appliance.removed.is_(None))
    )
    ranges = select(VlanIpRange.start_ip, VlanIpRange.end_ip)
    ranges = ranges.where(VlanIpRange.zone_id == zone, VlanIpRange.network_id.is_(None))
    return ProxyIntent(
        **common(proxy, public),
        certificate=certificates.served(session, core.secrets, appliance_id, names.host),
        domain=names.domain,
        ranges=tuple(sorted((row.start_ip, row.end_ip) for row in session.execute(ranges))),
        nameservers=tuple(sorted(session.scalars(servers), key=IPv4Address)),
        origins=words(setting("consoleproxy.origins")),
        frame_ancestors=words(setting("consoleproxy.frame.ancestors")),
        session_max=int(setting("consoleproxy.session.max")),
        # at least a second where there is a limit
        idle_limit=-(-int(setting("consoleproxy.session.timeout")) // 1000) or None,
        length_limit=int(setting("consoleproxy.session.length")) or None,
        recording_age=int(setting("consoleproxy.recording.age")),
        acknowledged=proxy.reports_seen,
        sessions=_sessions(session, appliance_id, core),
    )


def _sessions(session: Session, appliance_id: str, core: Core) -> tuple[Screen, ...]:
    statement = (
        select(ConsoleSession, Vm.display_name, Vm.name)
        .join(Vm, Vm.id == ConsoleSession.vm_id)
        .where(ConsoleSession.appliance_id == appliance_id, ConsoleSession.state.in_(SERVED))
        .order_by(ConsoleSession.created, ConsoleSession.id)
    )
    found = []
    for row, display_name, name in session.execute(statement):
        target = dict(row.target or {})
        if row.password is not None:
            target["password"] = core.secrets.open(row.password)
        found.append(
            Screen(
                id=row.id,
                token_hash=row.token_hash,
                vm_id=row.vm_id,
                name=display_name or name,
                target=tuple(sorted(target.items())),
                policy=tuple(sorted(row.policy.items())),
                expires=row.expires,
            )
        )
    return tuple(found)
