"""Guests' metadata."""

from __future__ import annotations

from ipaddress import IPv4Address

from controlplane.convergence.compile.encoding import dump, extend
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import Guest
from router.services.metadata.model import GuestMetadata, Metadata


def section(served: Served) -> bytes | None:
    """The document's ``metadata``; None when no network has the service."""
    names, intent = served.offering("UserData"), served.intent
    if not names:
        return None
    metadata = Metadata(interfaces=tuple(names.values()))
    public = {public.network_id: public.address for public in intent.addresses if public.source_nat}
    shared = {network.id for network in served.networks if network.shared}
    rows = (
        (
            guest.nic_id,
            # what is not told need not be compared
            guest._replace(password_id=None, password=None),
            # on a shared network a guest is addressed directly
            guest.address if guest.network_id in shared else public.get(guest.network_id, ""),
            intent.zone,
            intent.cloud,
        )
        for guest in intent.guests
        if guest.network_id in names
    )
    return extend(dump(metadata, "guests"), guests=served.memo.join("metadata.guests", rows, _guest_metadata))


def _guest_metadata(row: tuple[str, Guest, str, str, str]) -> GuestMetadata:
    id, guest, public, zone, cloud = row
    return GuestMetadata(
        id=id,
        address=IPv4Address(guest.address),
        items={
            "service-offering": guest.offering,
            "availability-zone": zone,
            "local-ipv4": guest.address,
            "local-hostname": guest.name,
            "public-ipv4": public,
            "public-hostname": public,
            "instance-id": guest.vm_id,
            "vm-id": guest.vm_id,
            "public-keys": guest.public_key or "",
            "cloud-identifier": f"CloudStack-{{{cloud}}}",
            "hypervisor-host-name": guest.host or "",
            "cloud-domain": guest.domain,
            "cloud-domain-id": guest.domain_id,
        },
        user_data=guest.user_data,
    )
