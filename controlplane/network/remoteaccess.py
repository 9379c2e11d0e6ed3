"""Remote access VPNs of isolated networks and their certificates (guide: chapter 15.17.1)."""

from __future__ import annotations

import secrets as random
import string
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError
from controlplane.network import addresses, addressing, services, vpn
from controlplane.pki import Authority
from controlplane.secrets import Secrets
from controlplane.store.models import PublicIp, RemoteAccessVpn, VpnConnection, VpnGateway, now
from router.services.vpn.remote.model import LARGEST_POOL

#: clients trust the authority, not this; the next one is made at half of it
CERTIFICATE_LIFE = timedelta(days=90)

#: what is easily read aloud and typed: nothing that looks like something else
_KEY_LETTERS = "".join(sorted(set(string.ascii_letters + string.digits) - set("0OoIl1")))


@dataclass(frozen=True)
class ClientRange:
    """Addresses of clients, both ends included; the first one is the server's own."""

    first: IPv4Address
    last: IPv4Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def need(row: RemoteAccessVpn) -> None:
    """ParameterError when a remote access VPN is being deleted."""
    if row.state == vpn.REMOVED:
        raise ParameterError(f"remote access VPN {row.id} is being deleted")


def parse_range(text: str) -> ClientRange:
    """A range such as 10.1.2.1-10.1.2.8. ParameterError unless it is private, with 3 to 4096 addresses."""
    start, _, end = text.partition("-")
    first, last = (addressing.parse_address("iprange", part.strip()) for part in (start, end))
    if not 2 <= int(last) - int(first) < LARGEST_POOL:
        raise ParameterError(
            f"iprange: {text} must be 3 to {LARGEST_POOL} addresses, the first for the server; write 10.1.2.1-10.1.2.8"
        )
    if not any(first in space and last in space for space in addressing.GUEST_SPACE):
        raise ParameterError(f"iprange: {text} is not within private address space (RFC 1918, RFC 6598)")
    return ClientRange(first, last)


def new_psk(length: int) -> str:
    """A preshared key."""
    return "".join(random.choice(_KEY_LETTERS) for _ in range(length))


def parse_name(text: str, address: str) -> str | None:
    """What IKEv2 clients know the server by: a full DNS name, or None for its address. ParameterError otherwise."""
    if text == address:
        return None
    name = addressing.check_domain("servername", text).lower()
    # a numeric top-level domain is none: that is another address, which the server does not have
    if "." not in name or name.rpartition(".")[2].isdigit():
        raise ParameterError(
            f"servername: {text!r} is neither a full DNS name, such as vpn.example.org, nor the VPN's address {address}"
        )
    return name


def create(
    session: Session,
    secrets: Secrets,
    authority: Authority,
    address: PublicIp,
    *,
    clients: ClientRange,
    psk: str,
    server_name: str | None,
    open_firewall: bool,
    for_display: bool,
) -> RemoteAccessVpn:
    """A VPN in state Added on a network's source-NAT address, with its certificate.

    Raises ParameterError for another address, RuleConflictError for a range that is in use behind it, and for ports of
    the address that are.
    """
    network = addresses.need_network(address)
    services.need(network, "Vpn")
    if not address.is_source_nat:
        raise ParameterError(
            f"publicipid: a VPN must be on the source-NAT address of its network, which {address.address} is not"
        )
    session.refresh(address, with_for_update=True)
    held = session.scalars(select(RemoteAccessVpn).where(RemoteAccessVpn.network_id == network.id)).one_or_none()
    if held is not None:
        how = "is being deleted" if held.state == vpn.REMOVED else "is there already"
        raise RuleConflictError(f"publicipid: remote access VPN {held.id} of {address.address} {how}")
    vpn.need_free_ports(session, address, vpn.REMOTE_ACCESS_PORTS)
    _check_range(session, network.id, IPv4Network(network.cidr), clients)
    row = RemoteAccessVpn(
        account_id=network.account_id,
        network_id=network.id,
        public_ip=address,
        first=str(clients.first),
        last=str(clients.last),
        psk=secrets.seal(psk),
        open_firewall=open_firewall,
        for_display=for_display,
        server_name=server_name,
    )
    certify(row, secrets, authority)
    session.add(row)
    session.flush()
    return row


def _check_range(session: Session, network_id: str, guests: IPv4Network, clients: ClientRange) -> None:
    far = [
        (IPv4Network(cidr), f"VPN connection {connection.id}")
        for connection in session.scalars(
            select(VpnConnection)
            .join(VpnGateway, VpnGateway.id == VpnConnection.gateway_id)
            .where(VpnGateway.network_id == network_id)
        )
        for cidr in connection.customer_gateway.cidrs
    ]
    for used, owner in ((guests, "the guest network"), *far):
        if vpn.overlaps(used, str(clients.first), str(clients.last)):
            raise RuleConflictError(f"iprange: {clients} overlaps {used} of {owner}; give another range")


def certify(row: RemoteAccessVpn, secrets: Secrets, authority: Authority) -> None:
    """Give a VPN a new certificate for what IKEv2 clients know it by."""
    made = authority.issue_vpn(identity(row), CERTIFICATE_LIFE)
    row.certificate, row.authority = made.certificate.decode(), authority.certificate.decode()
    row.private_key = secrets.seal(made.key.decode())
    row.expires = now() + CERTIFICATE_LIFE


def identity(row: RemoteAccessVpn) -> str:
    """What IKEv2 clients know a VPN by."""
    return row.server_name or row.public_ip.address


def renew(session: Session, secrets: Secrets, authority: Authority) -> list[str]:
    """Make the next certificate of each VPN whose own has lived half its life; the networks of those."""
    due = select(RemoteAccessVpn).where(RemoteAccessVpn.expires < now() + CERTIFICATE_LIFE / 2)
    found = list(session.scalars(due))
    for row in found:
        certify(row, secrets, authority)
    session.flush()
    return [row.network_id for row in found]


def of_account(session: Session, account_id: str) -> list[RemoteAccessVpn]:
    """An account's VPNs that are not on their way out, the oldest first."""
    statement = select(RemoteAccessVpn).where(
        RemoteAccessVpn.account_id == account_id, RemoteAccessVpn.state != vpn.REMOVED
    )
    return list(session.scalars(statement.order_by(RemoteAccessVpn.created, RemoteAccessVpn.id)))


def remove(session: Session, vpn_id: str) -> None:
    """Delete a VPN that was removed. Doing so twice does nothing."""
    row = session.get(RemoteAccessVpn, vpn_id)
    if row is not None and row.state == vpn.REMOVED:
        session.delete(row)
        session.flush()
