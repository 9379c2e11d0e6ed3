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
from controlplane.securitygroups.groups import of_vms
from controlplane.store.models import Host, Network, Nic, OsType, PublicIp, ServiceOffering, Template, Vm, Zone


class GroupMember(Response):
    """A security or affinity group that a VM is in."""

    id: str = shown("id of the group", ...)
    name: str | None = shown("name of the group")
    description: str | None = shown("what the group is for")
    account: str | None = shown("account of the group")


class VirtualMachineResponse(OwnedResponse):
    """A virtual machine."""

    id: str = shown("id of the VM", ...)
    name: str = shown("its host name", ...)
    displayname: str = shown("its name for people")
    created: datetime = shown("when it was created", ...)
    state: str = shown("Starting, Running, Stopping, Stopped, Destroyed, Expunging or Error", ...)
    haenable: bool = shown("it is started again when its host fails", False)
    group: str | None = shown("its group")
    zoneid: str = shown("id of its zone", ...)
    zonename: str = shown("name of its zone", ...)
    hostid: str | None = shown("id of its host, for root administrators")
    hostname: str | None = shown("name of its host, for root administrators")
    templateid: str = shown("id of its template", ...)
    templatename: str = shown("name of its template", ...)
    templatedisplaytext: str = shown("description of its template", ...)
    passwordenabled: bool = shown("its template takes passwords", False)
    serviceofferingid: str = shown("id of its offering", ...)
    serviceofferingname: str = shown("name of its offering", ...)
    cpunumber: int = shown("number of virtual CPUs", ...)
    cpuspeed: int = shown("MHz of each", ...)
    memory: int = shown("MiB of memory", ...)
    guestosid: str | None = shown("id of the kind of its operating system")
    ostypeid: str | None = shown("the same as guestosid")
    osdisplayname: str | None = shown("kind of its operating system")
    rootdeviceid: int = shown("number of the root volume", 0)
    rootdevicetype: str = shown("kind of the root volume", "ROOT")
    hypervisor: str = shown("kind of hypervisor", ...)
    instancename: str | None = shown("name that never changes, for root administrators")
    nic: list[NicResponse] = shown("its NICs", [])
    securitygroup: list[GroupMember] = shown("its security groups", [])
    affinitygroup: list[GroupMember] = shown("its affinity groups", [])
    tags: list[TagResponse] = shown("its tags", [])
    publicip: str | None = shown("its static NAT address")
    publicipid: str | None = shown("id of its static NAT address")
    keypair: str | None = shown("names of its SSH key pairs, comma-joined")
    keypairs: str | None = shown("the same as keypair")
    details: dict[str, str] | None = shown("free key-value pairs")
    userdata: str | None = shown("user data in base64, when asked for")
    displayvm: bool = shown("it is shown to its owner", True)
    isdynamicallyscalable: bool = shown("CPU and memory can change while it runs", False)
    password: str | None = shown("its new password, in the job that made it")


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
    groups = of_vms(session, ids)
    answers = []
    for vm in vms:
        own = nics.get(vm.id, [])
        public = next((static[nic.id] for nic in own if nic.id in static), None)
        answer = _show_vm(session, vm, own, public)
        answer.tags = tags.get(vm.id, [])
        answer.securitygroup = [
            GroupMember(id=group.id, name=group.name, description=group.description, account=vm.account.name)
            for group in groups.get(vm.id, [])
        ]
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
