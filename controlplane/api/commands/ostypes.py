"""OS types and their categories: what templates and ISOs have in them."""

from __future__ import annotations

import uuid

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ListParams, Response, command, param, shown
from controlplane.errors import unknown_id
from controlplane.store.models import OsType

#: ids of OS categories are made from their names, so they need no table
_CATEGORY_SPACE = uuid.UUID("5ab1d6a8-74bc-4c0a-9f43-0a8ad4a3c8d1")


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
