"""deployVirtualMachine: from parameters to a VM's rows and the workflow that starts it."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import securitygroups, sharing
from controlplane.api.call import Call
from controlplane.api.command import Async, Entry, Params, Response, command, param
from controlplane.api.commands.networks import create as create_network
from controlplane.api.commands.volumes import check_room
from controlplane.api.guests import show_guest
from controlplane.api.views.vms import VirtualMachineResponse
from controlplane.compute import keypairs, userdata, vms
from controlplane.errors import ParameterError
from controlplane.network import addressing, limits, networks
from controlplane.storage import volumes
from controlplane.storage.settings import LARGEST
from controlplane.store.models import (
    Account,
    AsyncJob,
    DiskOffering,
    Network,
    NetworkOffering,
    ServiceOffering,
    Template,
    Vm,
    Zone,
    new_id,
    now,
)

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class NetworkAddress(Entry):
    """``iptonetworklist[n].networkid``, ``.ip`` and ``.mac``."""

    networkid: str = param("id of the network", entity="Network")
    ip: str | None = param("address on the network, any free one unless given", default=None)
    mac: str | None = param("MAC address of the NIC", default=None)


class DeployVirtualMachine(Params):
    zoneid: str = param("id of the zone", entity="Zone")
    templateid: str = param("id of the template", entity="Template")
    serviceofferingid: str = param("id of the service offering", entity="ServiceOffering")
    networkids: list[str] | None = param("ids of networks, the first is the default one", default=None)
    iptonetworklist: list[NetworkAddress] | None = param(
        "networks with addresses, in place of networkids", default=None
    )
    ipaddress: str | None = param("address on the default network", default=None)
    macaddress: str | None = param("MAC address of the default NIC", default=None)
    name: str | None = param("host name; made from the id unless given", default=None)
    displayname: str | None = param("name for people, the host name unless given", default=None)
    group: str | None = param("group of the VM", default=None)
    account: str | None = param("owner of the VM; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")
    hypervisor: str | None = param("hypervisor; must be the template's", default=None)
    userdata: str | None = param("user data in base64", default=None, length=2 * 1024 * 1024)
    keypair: str | None = param("name of an SSH key pair", default=None)
    keypairs: list[str] | None = param("names of SSH key pairs", default=None)
    securitygroupids: list[str] | None = param("ids of security groups, the default one unless given", default=None)
    securitygroupnames: list[str] | None = param("names of security groups, in place of their ids", default=None)
    diskofferingid: str | None = param("attach a new volume of this disk offering", default=None, entity="DiskOffering")
    size: int | None = param("GiB of that volume, for a customized disk offering", default=None, minimum=1)
    rootdisksize: int | None = param("GiB of its root volume, at least the template's", default=None, minimum=1)
    startvm: bool = param("start it", default=True)
    displayvm: bool = param("show it to its owner", default=True)
    details: dict[str, str] | None = param("free key-value pairs", default=None)


@command(
    "deployVirtualMachine",
    description="Creates a VM on networks and starts it",
    params=DeployVirtualMachine,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    creates=True,
    event="VM.CREATE",
)
def deploy_virtual_machine(call: Call, params: DeployVirtualMachine) -> Async:
    session = call.session
    owner = call.owner(params.account, params.domainid)
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    template = call.lookup(Template, params.templateid, "templateid")
    offering = call.lookup(ServiceOffering, params.serviceofferingid, "serviceofferingid")
    if params.hypervisor is not None and params.hypervisor.lower() != template.hypervisor.lower():
        raise ParameterError(f"hypervisor: template {template.name} is for {template.hypervisor}")
    call.check_limit(owner, limits.VMS, limits.used(session, owner, limits.VMS))
    names, keys = _keys(session, owner, params)
    root_size, data = _volumes(call, params, owner, template)
    user_data = None
    if params.userdata is not None:
        limit = call.configuration.get_int(session, "vm.userdata.max.length")
        user_data = userdata.check(params.userdata, limit)
    vm = vms.create(
        session,
        vms.VmRequest(
            zone=zone,
            account=owner,
            template=template,
            service_offering=offering,
            nics=_nics(call, params, owner, zone),
            name=params.name,
            display_name=params.displayname,
            group=params.group,
            user_data=user_data,
            ssh_keypair=names,
            public_key=keys,
            start=params.startvm,
            display=params.displayvm,
            details=params.details or {},
            root_size=root_size,
            security_groups=securitygroups.wanted(call, owner, params.securitygroupids, params.securitygroupnames),
        ),
    )
    if data is not None:
        disk_offering, size = data
        volume = volumes.create_data(session, f"DATA-{vm.name}", owner, zone, offering=disk_offering, size=size)
        volumes.attach(session, volume, vm, None)
        if not params.startvm:
            volume.attached = now()
    sealed = new_password(call, vm) if template.password_enabled else None
    return Async(
        "VirtualMachine",
        vm.id,
        f"{'starting' if params.startvm else 'creating'} VM {vm.name}",
        workflow="deploy_vm" if params.startvm else None,
        arguments={"vm_id": vm.id},
        completion="vm.show",
        completion_arguments={"vm_id": vm.id, "password": sealed},
    )


def _volumes(
    call: Call, params: DeployVirtualMachine, owner: Account, template: Template
) -> tuple[int, tuple[DiskOffering, int] | None]:
    """Bytes asked for of the root volume, and offering and bytes of a data volume. Raises for what may not be."""
    largest = call.configuration.get_int(call.session, LARGEST)
    root = (params.rootdisksize or 0) * volumes.GIB
    if root > largest * volumes.GIB:
        raise ParameterError(f"rootdisksize: a volume may have {largest} GiB ({LARGEST})")
    if 0 < root < template.size:
        raise ParameterError(f"rootdisksize: template {template.name} has {template.size} bytes; give more, or nothing")
    data = None
    if params.diskofferingid is not None:
        offering = call.lookup(DiskOffering, params.diskofferingid, "diskofferingid")
        data = (offering, volumes.size_of(offering, params.size, largest))
    elif params.size is not None:
        raise ParameterError("size: it is of the volume of diskofferingid; rootdisksize is of the root volume")
    check_room(call, owner, root + (data[1] if data else 0), number=1 + (data is not None))
    return root, data


def new_password(call: Call, vm: Vm) -> str:
    """Make a password that the guest will fetch; returns it sealed for the job's result."""
    secrets = call.runtime.secrets
    password = userdata.new_password(call.configuration.get_int(call.session, "vm.password.length"))
    vm.password_id, vm.password = new_id(), secrets.seal(password)
    call.session.flush()
    return secrets.seal_text(password)


def _keys(session: Session, owner: Account, params: DeployVirtualMachine) -> tuple[str | None, str | None]:
    """Names, comma-joined, and key lines of the key pairs asked for."""
    wanted = ([params.keypair] if params.keypair else []) + (params.keypairs or [])
    pairs = [keypairs.find(session, owner, name) for name in dict.fromkeys(wanted)]
    if not pairs:
        return None, None
    return ",".join(pair.name for pair in pairs), "\n".join(pair.public_key for pair in pairs)


def parse_mac(value: str | None) -> str | None:
    """A unicast MAC in lower case; ParameterError otherwise."""
    if value is None:
        return None
    mac = value.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise ParameterError(f"macaddress: {value!r} is not a unicast MAC address, write it like 02:00:5e:10:00:01")
    return mac


def _nics(call: Call, params: DeployVirtualMachine, owner: Account, zone: Zone) -> list[vms.NicRequest]:
    """The NICs asked for; without any, one on the account's only network, or on a new default one."""
    if zone.network_type == "Basic" and (params.networkids or params.iptonetworklist):
        name = "networkids" if params.networkids else "iptonetworklist"
        raise ParameterError(
            f"{name}: zone {zone.name} is a basic one, whose VMs are all on its one network; leave it out"
        )
    if params.iptonetworklist:
        if params.networkids or params.ipaddress is not None:
            raise ParameterError("iptonetworklist can't be given along with networkids or ipaddress")
        return [
            vms.NicRequest(
                sharing.find(call, entry.networkid, "networkid"),
                addressing.parse_address("ip", entry.ip) if entry.ip else None,
                parse_mac(entry.mac),
            )
            for entry in params.iptonetworklist
        ]
    if params.networkids:
        asked = [sharing.find(call, id, "networkids") for id in params.networkids]
    else:
        asked = [_default_network(call, owner, zone)]
    address = addressing.parse_address("ipaddress", params.ipaddress) if params.ipaddress else None
    first, *others = asked
    default = vms.NicRequest(first, address, parse_mac(params.macaddress))
    return [default, *(vms.NicRequest(network) for network in others)]


def _default_network(call: Call, owner: Account, zone: Zone) -> Network:
    if zone.network_type == "Basic":
        # all guests of a basic zone are on its one network
        found = call.session.scalars(
            select(Network).where(Network.zone_id == zone.id, Network.removed.is_(None), Network.state != "Destroy")
        ).first()
        if found is None:
            raise ParameterError(f"zone {zone.name} has no guest network yet; an administrator must create it")
        return found
    owned = networks.of_account(call.session, owner, zone)
    if len(owned) == 1:
        return owned[0]
    if owned:
        raise ParameterError(
            f"account {owner.name} has {len(owned)} networks in zone {zone.name}; give networkids to say which"
        )
    statement = select(NetworkOffering).where(
        NetworkOffering.removed.is_(None),
        NetworkOffering.state == "Enabled",
        NetworkOffering.availability == "Required",
        NetworkOffering.guest_ip_type == "Isolated",
        NetworkOffering.for_vpc.is_(False),
    )
    offering = call.session.scalars(statement.order_by(NetworkOffering.created)).first()
    if offering is None:
        raise ParameterError("networkids: there is no required network offering to make a network of; create one")
    call.check_limit(owner, limits.NETWORKS, limits.used(call.session, owner, limits.NETWORKS))
    return create_network(call, owner=owner, zone=zone, offering=offering, name=f"{owner.name}-network")


@jobs.completion("vm.show")
def _shown(session: Session, job: AsyncJob, *, vm_id: str, password: str | None = None) -> Response:
    return show_guest(session, job, vm_id, password=password)
