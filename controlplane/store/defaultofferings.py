"""The network offerings that every installation has (guide: chapter 9.4)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.network import supported
from controlplane.store.models import NetworkOffering, ServiceOffering

DEFAULT_NETWORK_OFFERING = "DefaultIsolatedNetworkOfferingWithSourceNatService"
SHARED_NETWORK_OFFERING = "DefaultSharedNetworkOffering"
SHARED_NETWORK_OFFERING_WITH_GROUPS = "DefaultSharedNetworkOfferingWithSGService"

_ISOLATED = supported.BY_GUEST_TYPE["Isolated"]
_SHARED = ("Dhcp", "Dns", "UserData")


@dataclass(frozen=True)
class Default:
    """A default offering."""

    name: str
    display_text: str
    services: tuple[str, ...]
    guest_ip_type: str = "Isolated"
    required: bool = False
    persistent: bool = False
    egress_allow: bool = False


DEFAULTS = (
    Default(DEFAULT_NETWORK_OFFERING, "Offering for isolated networks with source NAT", _ISOLATED, required=True),
    Default(
        f"{DEFAULT_NETWORK_OFFERING}EgressAllow",
        "Offering for isolated networks with source NAT, outgoing traffic allowed unless a rule denies it",
        _ISOLATED,
        egress_allow=True,
    ),
    Default(
        f"{DEFAULT_NETWORK_OFFERING}Persistent",
        "Offering for isolated networks with source NAT that have their router without any guest",
        _ISOLATED,
        persistent=True,
    ),
    Default(SHARED_NETWORK_OFFERING, "Offering for shared networks", _SHARED, "Shared"),
    Default(
        SHARED_NETWORK_OFFERING_WITH_GROUPS,
        "Offering for shared networks whose guests are kept apart by security groups",
        (*_SHARED, "SecurityGroup"),
        "Shared",
    ),
)


def ensure_network_offerings(session: Session, router: ServiceOffering | None) -> None:
    """Add the default offerings, and services of them, that an installation does not have yet.

    A default offering that an operator removed keeps its row, so it stays removed. The services of an offering cannot
    be changed through the API: one that a default offering lacks is one that came with a newer version. ``router`` is
    what routers of new offerings run with.
    """
    known = {row.name: row for row in session.scalars(select(NetworkOffering))}
    for default in DEFAULTS:
        row = known.get(default.name)
        if row is None:
            shared = default.guest_ip_type == "Shared"
            session.add(
                NetworkOffering(
                    name=default.name,
                    display_text=default.display_text,
                    guest_ip_type=default.guest_ip_type,
                    availability="Required" if default.required else "Optional",
                    is_default=True,
                    is_persistent=default.persistent,
                    egress_default_allow=default.egress_allow,
                    specify_vlan=shared,
                    specify_ip_ranges=shared,
                    service_offering_id=router.id if router is not None else None,
                    services=supported.entries(default.services),
                )
            )
        elif row.is_default and (missing := [name for name in default.services if name not in row.services]):
            row.services = row.services | supported.entries(missing)
    session.flush()
