"""Virtual machines as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.api.views.nics import NicResponse, show_nics
from controlplane.store.models import Host, Network, Nic, OsType, PublicIp, ServiceOffering, Template, Vm, Zone


class GroupMember(Response):
    """A security or affinity group that a VM is in."""

    id: str = shown("the ID of the group", ...)
    name: str | None = shown("the name of the group")


class VirtualMachineResponse(OwnedResponse):
    """A virtual machine."""

    id: str = shown("the ID of the virtual machine", ...)
    name: str = shown("the name of the virtual machine", ...)
    displayname: str = shown(
        "user generated name. The name of the virtual machine is returned if no displayname exists"
    )
    created: datetime = shown("the date when this virtual machine was created", ...)
    state: str = shown("the state of the virtual machine", ...)
    haenable: bool = shown("true if high-availability is enabled, false otherwise", False)
    group: str | None = shown("the group name of the virtual machine")
    zoneid: str = shown("the ID of the availability zone for the virtual machine", ...)
    zonename: str = shown("the name of the availability zone for the virtual machine", ...)
    hostid: str | None = shown("the ID of the host for the virtual machine")
    hostname: str | None = shown("the name of the host for the virtual machine")
    templateid: str = shown("the ID of the template for the virtual machine", ...)
    templatename: str = shown("the name of the template for the virtual machine", ...)
    templatedisplaytext: str = shown("an alternate display text of the template for the virtual machine", ...)
    passwordenabled: bool = shown("true if the password rest feature is enabled, false otherwise", False)
    serviceofferingid: str = shown("the ID of the service offering of the virtual machine", ...)
    serviceofferingname: str = shown("the name of the service offering of the virtual machine", ...)
    cpunumber: int = shown("the number of vCPUs this virtual machine is using", ...)
    cpuspeed: int = shown("the speed of each vCPU", ...)
    memory: int = shown("the memory allocated for the virtual machine", ...)
    guestosid: str | None = shown("Os type ID of the virtual machine")
    ostypeid: str | None = shown("OS type id of the vm")
    osdisplayname: str | None = shown("OS name of the vm")
    rootdeviceid: int = shown("device ID of the root volume", 0)
    rootdevicetype: str = shown("device type of the root volume", "ROOT")
    hypervisor: str = shown("the hypervisor on which the template runs", ...)
    instancename: str | None = shown("instance name of the user vm; this parameter is returned to the ROOT admin only")
    nic: list[NicResponse] = shown("the list of nics associated with vm", [])
    securitygroup: list[GroupMember] = shown("list of security groups associated with the virtual machine", [])
    affinitygroup: list[GroupMember] = shown("list of affinity groups associated with the virtual machine", [])
    tags: list[TagResponse] = shown("the list of resource tags associated", [])
    publicip: str | None = shown("public IP address that static NAT gives to the virtual machine")
    publicipid: str | None = shown("public IP address id that static NAT gives to the virtual machine")
    keypair: str | None = shown("ssh key-pair")
    keypairs: str | None = shown("ssh key-pairs")
    details: dict[str, str] | None = shown("Vm details in key/value pairs.")
    userdata: str | None = shown("Base64 string containing the user data; shown when asked for")
    displayvm: bool = shown("an optional field whether to the display the vm to the end user or not.", True)
    isdynamicallyscalable: bool = shown("true if vm contains support for cpu and memory on the fly", False)
    password: str | None = shown("the password (if exists) of the virtual machine")


def show_vms(
    session: Session, vms: Sequence[Vm], *, for_root: bool = False, with_user_data: bool = False
) -> list[VirtualMachineResponse]:
    """Virtual machines; ``for_root`` adds where they run."""
    ids = [vm.id for vm in vms]
    # filled in advance for all rows; the identity map then answers what follows
    session.scalars(select(Template).where(Template.id.in_({vm.template_id for vm in vms}))).all()
    session.scalars(select(ServiceOffering).where(ServiceOffering.id.in_({vm.service_offering_id for vm in vms}))).all()
    loaded = select(Nic).where(Nic.vm_id.in_(ids)).options(joinedload(Nic.network).joinedload(Network.offering))
    nics: dict[str, list[Nic]] = {}
    for nic in session.scalars(loaded.order_by(Nic.device_id)):
        nics.setdefault(nic.vm_id, []).append(nic)
    static = {
        row.static_nat_nic_id: row
        for row in session.scalars(
            select(PublicIp).join(Nic, Nic.id == PublicIp.static_nat_nic_id).where(Nic.vm_id.in_(ids))
        )
    }
    tags = tags_of(session, "UserVm", ids)
    answers = []
    for vm in vms:
        own = nics.get(vm.id, [])
        public = next((static[nic.id] for nic in own if nic.id in static), None)
        answer = _show_vm(session, vm, own, public)
        answer.tags = tags.get(vm.id, [])
        if for_root:
            host = session.get(Host, vm.host_id) if vm.host_id else None
            answer.hostid, answer.hostname = (host.id, host.name) if host else (None, None)
            answer.instancename = f"i-{vm.id}"
        if with_user_data:
            answer.userdata = vm.user_data
        answers.append(answer)
    return answers


def _show_vm(session: Session, vm: Vm, nics: Sequence[Nic], public: PublicIp | None) -> VirtualMachineResponse:
    template, offering = vm.template, vm.service_offering
    os_type = session.get(OsType, template.os_type_id) if template.os_type_id else None
    return VirtualMachineResponse(
        **owned_by(vm.account),
        id=vm.id,
        name=vm.name,
        displayname=vm.display_name,
        created=vm.created,
        state=vm.state,
        haenable=vm.ha_enable,
        group=vm.group,
        zoneid=vm.zone_id,
        zonename=session.get_one(Zone, vm.zone_id).name,
        templateid=template.id,
        templatename=template.name,
        templatedisplaytext=template.display_text,
        passwordenabled=template.password_enabled,
        serviceofferingid=offering.id,
        serviceofferingname=offering.name,
        cpunumber=offering.cpu_number,
        cpuspeed=offering.cpu_speed,
        memory=offering.memory,
        guestosid=template.os_type_id,
        ostypeid=template.os_type_id,
        osdisplayname=os_type.description if os_type else None,
        hypervisor=template.hypervisor,
        nic=show_nics(nics),
        publicip=public.address if public else None,
        publicipid=public.id if public else None,
        keypair=vm.ssh_keypair,
        keypairs=vm.ssh_keypair,
        details=vm.details or None,
        displayvm=vm.display_vm,
    )
