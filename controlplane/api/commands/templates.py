"""Templates and OS types: what guests are made from."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, false, not_, or_, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import USER, ListParams, Response, ScopedListParams, command, param, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagEntry, TagResponse, tags_of, with_tags
from controlplane.errors import ParameterError, PermissionDeniedError, unknown_id
from controlplane.store.models import Account, OsType, Template, Zone

FILTERS = ("featured", "self", "selfexecutable", "sharedexecutable", "executable", "community", "all")
#: ids of OS categories are made from their names, so they need no table
_CATEGORY_SPACE = uuid.UUID("5ab1d6a8-74bc-4c0a-9f43-0a8ad4a3c8d1")


class TemplateResponse(OwnedResponse):
    id: str = shown("the template ID", ...)
    name: str = shown("the template name", ...)
    displaytext: str = shown("the template display text", ...)
    hypervisor: str = shown("the hypervisor on which the template runs", ...)
    format: str = shown("the format of the template.", ...)
    ispublic: bool = shown("true if this template is a public template, false otherwise", ...)
    isfeatured: bool = shown("true if this template is a featured template, false otherwise", ...)
    isready: bool = shown("true if the template is ready to be deployed from, false otherwise.", True)
    isextractable: bool = shown("true if the template is extractable, false otherwise", False)
    isdynamicallyscalable: bool = shown("true if template contains drivers to support dynamic scaling", False)
    passwordenabled: bool = shown("true if the reset password feature is enabled, false otherwise", ...)
    sshkeyenabled: bool = shown("true if template is sshkey enabled, false otherwise", ...)
    cross_zones: bool = shown("true if the template is managed across all Zones", ..., name="crossZones")
    ostypeid: str | None = shown("the ID of the OS type for this template.")
    ostypename: str | None = shown("the name of the OS type for this template.")
    size: int = shown("the size of the template", ...)
    status: str = shown("the status of the template", "Download Complete")
    templatetype: str = shown("the type of the template", ...)
    zoneid: str | None = shown("the ID of the zone for this template")
    zonename: str | None = shown("the name of the zone for this template")
    created: datetime = shown("the date this template was created", ...)
    tags: list[TagResponse] = shown("the list of resource tags associated", ...)


def _templates(call: Call, rows: Sequence[Template]) -> list[TemplateResponse]:
    session = call.session
    tags = tags_of(session, "Template", [row.id for row in rows])
    answers = []
    for row in rows:
        os_type = session.get(OsType, row.os_type_id) if row.os_type_id is not None else None
        zone = session.get(Zone, row.zone_id) if row.zone_id is not None else None
        answers.append(
            TemplateResponse(
                id=row.id,
                name=row.name,
                displaytext=row.display_text,
                hypervisor=row.hypervisor,
                format=row.format,
                ispublic=row.is_public,
                isfeatured=row.is_featured,
                passwordenabled=row.password_enabled,
                sshkeyenabled=row.ssh_key_enabled,
                cross_zones=row.zone_id is None,
                ostypeid=row.os_type_id,
                ostypename=os_type.description if os_type is not None else None,
                size=row.size,
                templatetype=row.type,
                zoneid=row.zone_id,
                zonename=zone.name if zone is not None else None,
                created=row.created,
                tags=tags.get(row.id, []),
                **owned_by(session.get_one(Account, row.account_id)),
            )
        )
    return answers


class ListTemplates(ScopedListParams):
    templatefilter: str = param(
        "possible values are featured, self, selfexecutable, sharedexecutable, executable, community and all (for "
        "administrators)",
        choices=FILTERS,
    )
    id: str | None = param("the template ID", default=None, entity="Template")
    ids: list[str] | None = param("the IDs of the templates, mutually exclusive with id", default=None)
    name: str | None = param("the template name", default=None)
    zoneid: str | None = param("list templates by zoneId", default=None, entity="Zone")
    hypervisor: str | None = param("the hypervisor for which to restrict the search", default=None)
    templatetype: str | None = param("the type of the template", default=None)
    tags: list[TagEntry] | None = param("List resources by tags (key/value pairs)", default=None)


@command(
    "listTemplates",
    description="List all public, private, and privileged templates.",
    params=ListTemplates,
    response=TemplateResponse,
    object_name="template",
)
def list_templates(call: Call, params: ListTemplates) -> tuple[int, list[TemplateResponse]]:
    statement = select(Template).where(Template.removed.is_(None), _filter(call, params))
    if params.id is not None and params.ids:
        raise ParameterError("parameters id and ids cannot be given together")
    if params.id is not None:
        statement = statement.where(Template.id == call.lookup(Template, params.id).id)
    if params.ids:
        statement = statement.where(Template.id.in_(params.ids))
    if params.name is not None:
        statement = statement.where(Template.name == params.name)
    if params.zoneid is not None:
        zone = call.lookup(Zone, params.zoneid, "zoneid")
        statement = statement.where(or_(Template.zone_id == zone.id, Template.zone_id.is_(None)))
    if params.hypervisor is not None:
        statement = statement.where(Template.hypervisor.ilike(params.hypervisor))
    if params.templatetype is not None:
        statement = statement.where(Template.type == params.templatetype.upper())
    statement = with_tags(statement, "Template", Template.id, params.tags)
    statement = listing.search(statement, params.keyword, Template.name, Template.display_text)
    statement = statement.order_by(Template.created, Template.name)
    return listing.fetch(call, statement, params, lambda rows: _templates(call, rows))


def _filter(call: Call, params: ListTemplates) -> ColumnElement[bool]:
    public = Template.is_public.is_(True)
    owner = call.owner(params.account, params.domainid) if params.account is not None else call.account
    own = Template.account_id == owner.id
    match params.templatefilter:
        case "featured":
            return and_(public, Template.is_featured.is_(True))
        case "self" | "selfexecutable":
            return own
        case "executable":
            return or_(own, public)
        case "community":
            return and_(public, not_(Template.is_featured))
        case "sharedexecutable":
            # templates are public or private: none is shared with single accounts
            return false()
    if call.account.type == USER:
        raise PermissionDeniedError("Filter all can be specified by administrators only")
    accounts = listing.accounts_in_scope(call, params, everything=True)
    return Template.id.is_not(None) if accounts is None else or_(public, Template.account_id.in_(accounts))


class OsTypeResponse(Response):
    id: str = shown("the ID of the OS type", ...)
    oscategoryid: str = shown("the ID of the OS category", ...)
    oscategoryname: str = shown("the name of the OS category", ...)
    description: str = shown("the name/description of the OS type", ...)
    name: str = shown("the name of the OS type", ...)
    isuserdefined: bool = shown("is the guest OS user defined", False)


class ListOsTypes(ListParams):
    id: str | None = param("list by Os type Id", default=None, entity="OsType")
    oscategoryid: str | None = param("list by Os Category id", default=None, entity="OsCategory")
    description: str | None = param("list os by description", default=None)


@command(
    "listOsTypes",
    description="Lists all supported OS types for this cloud.",
    params=ListOsTypes,
    response=OsTypeResponse,
    object_name="ostype",
)
def list_os_types(call: Call, params: ListOsTypes) -> tuple[int, list[OsTypeResponse]]:
    statement = select(OsType)
    if params.id is not None:
        statement = statement.where(OsType.id == call.lookup(OsType, params.id).id)
    if params.oscategoryid is not None:
        statement = statement.where(OsType.category == _category_name(call, params.oscategoryid, "oscategoryid"))
    if params.description is not None:
        statement = statement.where(OsType.description == params.description)
    statement = listing.search(statement, params.keyword, OsType.description).order_by(OsType.description, OsType.id)
    return listing.fetch(
        call,
        statement,
        params,
        lambda rows: [
            OsTypeResponse(
                id=row.id,
                oscategoryid=_category_id(row.category),
                oscategoryname=row.category,
                description=row.description,
                name=row.description,
            )
            for row in rows
        ],
    )


def _category_id(name: str) -> str:
    return str(uuid.uuid5(_CATEGORY_SPACE, name))


def _category_name(call: Call, category_id: str, parameter: str) -> str:
    for name in _categories(call):
        if _category_id(name) == category_id:
            return name
    raise unknown_id(parameter, category_id)


def _categories(call: Call) -> list[str]:
    return list(call.session.scalars(select(OsType.category).distinct().order_by(OsType.category)))


class OsCategoryResponse(Response):
    id: str = shown("the ID of the OS category", ...)
    name: str = shown("the name of the OS category", ...)


class ListOsCategories(ListParams):
    id: str | None = param("list Os category by id", default=None, entity="OsCategory")
    name: str | None = param("list os category by name", default=None)


@command(
    "listOsCategories",
    description="Lists all supported OS categories for this cloud.",
    params=ListOsCategories,
    response=OsCategoryResponse,
    object_name="oscategory",
)
def list_os_categories(call: Call, params: ListOsCategories) -> tuple[int, list[OsCategoryResponse]]:
    wanted = _category_name(call, params.id, "id") if params.id is not None else None
    found = [
        OsCategoryResponse(id=_category_id(name), name=name)
        for name in _categories(call)
        if wanted in (None, name) and params.name in (None, name) and (params.keyword or "").lower() in name.lower()
    ]
    return listing.cut(call, found, params)
