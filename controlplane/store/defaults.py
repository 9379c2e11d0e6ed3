"""What a new installation begins with: the administrator, one zone, offerings and templates."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.api.passwords import hash_password, new_api_key, new_password
from controlplane.compute.hosts import note_hosts
from controlplane.hypervisors.base import HostFacts
from controlplane.secrets import Secrets
from controlplane.securitygroups import groups
from controlplane.store.defaultofferings import ensure_network_offerings
from controlplane.store.models import (
    Account,
    Cluster,
    DiskOffering,
    Domain,
    Host,
    OsType,
    PhysicalNetwork,
    Pod,
    ServiceOffering,
    Template,
    User,
    VlanIpRange,
    Zone,
)

ADMIN_USER_ID = "00000000-0000-4000-8000-000000000002"
ADMIN_ACCOUNT_ID = "00000000-0000-4000-8000-000000000012"
#: Owns what belongs to nobody in particular (built-in templates); nobody logs in as it and no list shows it.
SYSTEM_ACCOUNT_ID = "00000000-0000-4000-8000-000000000011"
ROOT_DOMAIN_ID = "00000000-0000-4000-8000-000000000001"

#: Name and password of the first administrator, mode 0600 in the data directory.
ADMIN_FILE = "admin.json"

# RFC 5737 TEST-NET-3: it works inside the fabric and harms nobody; real ranges come with createVlanIpRange
_PUBLIC_GATEWAY, _PUBLIC_NETMASK = "203.0.113.1", "255.255.255.0"
_PUBLIC_RANGE = ("203.0.113.10", "203.0.113.250")

#: type, name and MiB of memory
_SYSTEM_OFFERINGS = (
    ("domainrouter", "System Offering For Software Router", 256),
    ("consoleproxy", "System Offering For Console Proxy", 512),
    ("secondarystoragevm", "System Offering For Secondary Storage VM", 512),
)

_OS_TYPES = (
    ("CentOS", "CentOS 7"),
    ("Debian", "Debian GNU/Linux 11 (64-bit)"),
    ("Debian", "Debian GNU/Linux 12 (64-bit)"),
    ("Debian", "Debian GNU/Linux 13 (64-bit)"),
    ("Oracle", "Oracle Linux 9"),
    ("RedHat", "Red Hat Enterprise Linux 9"),
    ("SUSE", "openSUSE Leap 15"),
    ("Ubuntu", "Ubuntu 22.04 LTS"),
    ("Ubuntu", "Ubuntu 24.04 LTS"),
    ("Windows", "Windows Server 2022 (64-bit)"),
    ("Unix", "FreeBSD 14"),
    ("Other", "Other Linux (64-bit)"),
)
#: by hypervisor: image as the driver calls it, format, description
_TEMPLATES = {
    "Namespace": (
        ("builtin", "DIR", "A small guest with DHCP, SSH, and a start that fetches keys, password and user data"),
        ("bare", "DIR", "A guest that starts nothing, not even a DHCP client: for what you run in it yourself"),
    ),
    "KVM": (
        ("builtin", "QCOW2", "A small guest with DHCP, SSH, and a start that fetches keys and password"),
        ("bare", "QCOW2", "A small guest that starts nothing, not even a DHCP client"),
    ),
}
_TEMPLATE_OS = "Other Linux (64-bit)"


def ensure_defaults(session: Session, secrets: Secrets, hosts: Sequence[HostFacts], data_dir: Path) -> None:
    """Fill an empty database; on later starts note what the hosts have now, and add what came with a newer version.

    What an operator deleted or changed since stays so. The administrator's password goes to ``admin.json`` only.
    """
    facts = hosts[0]
    _system_offerings(session)
    if session.get(Domain, ROOT_DOMAIN_ID) is not None:
        note_hosts(session, hosts)
    else:
        _accounts(session, secrets, data_dir)
        _zone(session, facts)
        _offerings(session)
        _templates(session, facts)
        session.flush()
    groups.ensure_defaults(session)
    router = session.scalars(
        select(ServiceOffering).where(
            ServiceOffering.system_vm_type == "domainrouter",
            ServiceOffering.is_default,
            ServiceOffering.removed.is_(None),
        )
    ).first()
    ensure_network_offerings(session, router)
    # what the hypervisor brings along is there in every zone; older versions said it was in the first one
    session.execute(update(Template).where(Template.type == "BUILTIN").values(zone_id=None))


def _accounts(session: Session, secrets: Secrets, data_dir: Path) -> None:
    session.add(Domain(id=ROOT_DOMAIN_ID, name="ROOT", path="ROOT"))
    session.flush()
    session.add_all(
        [
            Account(id=SYSTEM_ACCOUNT_ID, name="system", domain_id=ROOT_DOMAIN_ID, type=1),
            Account(id=ADMIN_ACCOUNT_ID, name="admin", domain_id=ROOT_DOMAIN_ID, type=1),
        ]
    )
    session.flush()
    password = new_password()
    session.add(
        User(
            id=ADMIN_USER_ID,
            account_id=ADMIN_ACCOUNT_ID,
            username="admin",
            firstname="Admin",
            lastname="User",
            password_hash=hash_password(password),
            api_key=new_api_key(),
            secret_key=secrets.seal(new_api_key()),
        )
    )
    _write_private(data_dir / ADMIN_FILE, json.dumps({"username": "admin", "password": password}) + "\n")


def _write_private(path: Path, text: str) -> None:
    """A file only its owner can read from the moment it exists; an older one is replaced."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _zone(session: Session, facts: HostFacts) -> Zone:
    zone = Zone(name="zone1", dns1=_PUBLIC_GATEWAY, internal_dns1=_PUBLIC_GATEWAY, security_groups=True)
    session.add(zone)
    session.flush()
    pod = Pod(
        zone_id=zone.id,
        name="pod1",
        gateway="169.254.0.1",
        netmask="255.255.0.0",
        start_ip="169.254.0.2",
        end_ip="169.254.255.254",
    )
    physical = PhysicalNetwork(zone_id=zone.id, name="physical1", isolation_methods=["VLAN"])
    session.add_all([pod, physical])
    session.flush()
    cluster = Cluster(pod_id=pod.id, name="cluster1", hypervisor=facts.hypervisor)
    session.add(cluster)
    session.flush()
    session.add_all(
        [
            Host(
                cluster_id=cluster.id,
                name=facts.name,
                url=facts.url,
                cpus=facts.cpus,
                cpu_mhz=facts.cpu_mhz,
                memory_bytes=facts.memory_bytes,
                reserves=facts.reserves,
            ),
            VlanIpRange(
                zone_id=zone.id,
                physical_network_id=physical.id,
                gateway=_PUBLIC_GATEWAY,
                netmask=_PUBLIC_NETMASK,
                start_ip=_PUBLIC_RANGE[0],
                end_ip=_PUBLIC_RANGE[1],
            ),
        ]
    )
    return zone


def _system_offerings(session: Session) -> None:
    """Offerings for appliances, each unless there ever was one of its type."""
    for kind, text, memory in _SYSTEM_OFFERINGS:
        of_kind = select(ServiceOffering.id).where(ServiceOffering.system_vm_type == kind)
        if session.scalars(of_kind.limit(1)).first() is None:
            session.add(
                ServiceOffering(
                    name=text,
                    display_text=text,
                    cpu_number=1,
                    cpu_speed=500,
                    memory=memory,
                    is_system=True,
                    system_vm_type=kind,
                    is_default=True,
                )
            )
    session.flush()


def _offerings(session: Session) -> None:
    session.add_all(
        [
            ServiceOffering(
                name="Small Instance", display_text="Small Instance", cpu_number=1, cpu_speed=500, memory=512
            ),
            ServiceOffering(
                name="Medium Instance", display_text="Medium Instance", cpu_number=1, cpu_speed=1000, memory=1024
            ),
            DiskOffering(name="Small", display_text="Small Disk, 5 GB", disk_size=5),
            DiskOffering(name="Medium", display_text="Medium Disk, 20 GB", disk_size=20),
            DiskOffering(name="Large", display_text="Large Disk, 100 GB", disk_size=100),
            DiskOffering(name="Custom", display_text="Custom Disk", is_customized=True),
        ]
    )


def _templates(session: Session, facts: HostFacts) -> None:
    kinds = [OsType(category=category, description=text) for category, text in _OS_TYPES]
    session.add_all(kinds)
    session.flush()
    other = next(kind for kind in kinds if kind.description == _TEMPLATE_OS)
    for image, format, text in _TEMPLATES.get(facts.hypervisor, ()):
        session.add(
            Template(
                name=image,
                display_text=text,
                account_id=SYSTEM_ACCOUNT_ID,
                hypervisor=facts.hypervisor,
                format=format,
                os_type_id=other.id,
                image=image,
                is_featured=True,
                password_enabled=True,
                ssh_key_enabled=True,
                type="BUILTIN",
            )
        )
