"""Security groups: create, rename, delete, list."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import listing, securitygroups, tagging
from controlplane.api.call import Call
from controlplane.api.command import Params, ScopedListParams, Success, command, param
from controlplane.api.securitygroups import GroupParams
from controlplane.api.tagging import TagEntry
from controlplane.api.views.securitygroups import SecurityGroupResponse, show_groups
from controlplane.securitygroups import groups
from controlplane.store.models import SecurityGroup, SecurityGroupMember, Vm


class CreateSecurityGroup(GroupParams):
    name: str = param("name of the group")
    description: str | None = param("what it is for", default=None, length=4096)


class DeleteSecurityGroup(GroupParams):
    id: str | None = param("id of the group", default=None, entity="SecurityGroup")
    name: str | None = param("name of the group, in place of its id", default=None)


class UpdateSecurityGroup(Params):
    id: str = param("id of the group", entity="SecurityGroup")
    name: str | None = param("new name", default=None)


class ListSecurityGroups(ScopedListParams):
    id: str | None = param("id of the group", default=None, entity="SecurityGroup")
    securitygroupname: str | None = param("groups of this name", default=None)
    virtualmachineid: str | None = param("groups of this VM", default=None, entity="UserVm")
    tags: list[TagEntry] | None = param("groups with all of these tags", default=None)


@command(
    "createSecurityGroup",
    description="Creates a security group: nothing comes in, everything goes out",
    params=CreateSecurityGroup,
    response=SecurityGroupResponse,
    object_name="securitygroup",
    event="SG.CREATE",
)
def create_security_group(call: Call, params: CreateSecurityGroup) -> SecurityGroupResponse:
    group = groups.create(call.session, call.owner(params.account, params.domainid), params.name, params.description)
    call.event(f"created security group {group.name}", ("SecurityGroup", group.id), account_id=group.account_id)
    return show_groups(call.session, [group])[0]


@command(
    "deleteSecurityGroup",
    description="Deletes a security group that no VM and no other group's rule uses",
    params=DeleteSecurityGroup,
    event="SG.DELETE",
)
def delete_security_group(call: Call, params: DeleteSecurityGroup) -> Success:
    group = securitygroups.find(call, params.id, params.name, params)
    groups.remove(call.session, group)
    call.event(f"deleted security group {group.name}", ("SecurityGroup", group.id), account_id=group.account_id)
    return Success()


@command(
    "updateSecurityGroup",
    description="Renames a security group",
    params=UpdateSecurityGroup,
    response=SecurityGroupResponse,
    object_name="securitygroup",
    event="SG.UPDATE",
)
def update_security_group(call: Call, params: UpdateSecurityGroup) -> SecurityGroupResponse:
    group = call.lookup(SecurityGroup, params.id)
    if params.name is not None and params.name != group.name:
        groups.rename(call.session, group, params.name)
    call.event(f"updated security group {group.name}", ("SecurityGroup", group.id), account_id=group.account_id)
    return show_groups(call.session, [group])[0]


@command(
    "listSecurityGroups",
    description="Lists security groups",
    params=ListSecurityGroups,
    response=SecurityGroupResponse,
    object_name="securitygroup",
)
def list_security_groups(call: Call, params: ListSecurityGroups) -> tuple[int, list[SecurityGroupResponse]]:
    statement = select(SecurityGroup).order_by(SecurityGroup.created, SecurityGroup.id)
    by_id = params.id is not None
    if params.virtualmachineid is not None:
        vm = call.lookup(Vm, params.virtualmachineid, "virtualmachineid")
        own = select(SecurityGroupMember.group_id).where(SecurityGroupMember.vm_id == vm.id)
        statement, by_id = statement.where(SecurityGroup.id.in_(own)), True
    statement = listing.scope(call, statement, SecurityGroup.account_id, params, by_id=by_id)
    if params.id is not None:
        statement = statement.where(SecurityGroup.id == params.id)
    if params.securitygroupname is not None:
        statement = statement.where(SecurityGroup.name == params.securitygroupname)
    statement = tagging.with_tags(statement, "SecurityGroup", SecurityGroup.id, params.tags)
    statement = listing.search(statement, params.keyword, SecurityGroup.name)
    return listing.fetch(call, statement, params, lambda rows: list(show_groups(call.session, rows)))
