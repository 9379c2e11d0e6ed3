"""Who may use a template or ISO (guide: chapter 12.9)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select

from controlplane.api import templating
from controlplane.api.call import Call
from controlplane.api.command import Params, Response, Success, command, param, shown
from controlplane.errors import ParameterError, PermissionDeniedError
from controlplane.store.models import Account, Template, TemplatePermission
from controlplane.templates import progress

_OPERATIONS = ("add", "remove", "reset")


class Permissions(Params):
    id: str = param("the ID of the template or ISO", entity="Template")
    accounts: list[str] | None = param("names of accounts of the owner's domain that op is about", default=None)
    op: str | None = param("add or remove accounts, or reset: nobody but the owner", default=None, choices=_OPERATIONS)
    ispublic: bool | None = param("whether everybody may use it", default=None)
    isfeatured: bool | None = param("whether it is among the featured ones; for root administrators", default=None)
    isextractable: bool | None = param("whether its users may download it", default=None)


def _update(call: Call, params: Permissions, *, iso: bool) -> Success:
    row = templating.own(call, params.id, iso=iso)
    templating.check_public(call, row, params.ispublic)
    if params.isfeatured is not None and not call.is_root:
        raise PermissionDeniedError("isfeatured: only root administrators feature templates and ISOs")
    for column, value in (
        ("is_public", params.ispublic),
        ("is_featured", params.isfeatured),
        ("is_extractable", params.isextractable),
    ):
        if value is not None:
            setattr(row, column, value)
    _share(call, row, params)
    kind, id = progress.resource(row)
    call.event(f"changing who may use {kind} {row.name}", (kind, id), account_id=row.account_id)
    return Success()


def _share(call: Call, row: Template, params: Permissions) -> None:
    permitted = delete(TemplatePermission).where(TemplatePermission.template_id == row.id)
    if params.op == "reset":
        row.is_public, row.is_featured = False, False
        call.session.execute(permitted)
        return
    if bool(params.accounts) != (params.op is not None):
        raise ParameterError("op and accounts belong together: op=add or op=remove, accounts=name,name")
    domain_id = call.session.get_one(Account, row.account_id).domain_id
    for name in params.accounts or ():
        account = call.session.scalars(
            select(Account).where(Account.name == name, Account.domain_id == domain_id, Account.removed.is_(None))
        ).one_or_none()
        if account is None:
            raise ParameterError(f"accounts: there is no account {name} in the owner's domain")
        if params.op == "remove":
            call.session.execute(permitted.where(TemplatePermission.account_id == account.id))
        elif account.id != row.account_id:
            call.session.merge(TemplatePermission(template_id=row.id, account_id=account.id))
    call.session.flush()


class PermissionsResponse(Response):
    id: str = shown("the ID of the template or ISO", ...)
    ispublic: bool = shown("whether everybody may use it", ...)
    domainid: str = shown("the ID of the owner's domain", ...)
    account: list[str] = shown("names of the accounts that may use it beside its owner", ...)


class PermissionsOf(Params):
    id: str = param("the ID of the template or ISO", entity="Template")


def _list(call: Call, params: PermissionsOf, *, iso: bool) -> PermissionsResponse:
    row = templating.own(call, params.id, iso=iso)
    names = select(Account.name).join(TemplatePermission, TemplatePermission.account_id == Account.id)
    names = names.where(TemplatePermission.template_id == row.id, Account.removed.is_(None)).order_by(Account.name)
    return PermissionsResponse(
        id=row.id,
        ispublic=row.is_public,
        domainid=call.session.get_one(Account, row.account_id).domain_id,
        account=list(call.session.scalars(names)),
    )


_CHANGE: dict[str, Any] = {
    "description": "Changes who may use, see and download it",
    "params": Permissions,
}
_SHOW: dict[str, Any] = {
    "description": "Says which accounts may use it",
    "params": PermissionsOf,
    "response": PermissionsResponse,
}


@command("updateTemplatePermissions", event="TEMPLATE.UPDATE", **_CHANGE)
def update_template_permissions(call: Call, params: Permissions) -> Success:
    return _update(call, params, iso=False)


@command("updateIsoPermissions", event="ISO.UPDATE", **_CHANGE)
def update_iso_permissions(call: Call, params: Permissions) -> Success:
    return _update(call, params, iso=True)


@command("listTemplatePermissions", object_name="templatepermission", **_SHOW)
def list_template_permissions(call: Call, params: PermissionsOf) -> PermissionsResponse:
    return _list(call, params, iso=False)


@command("listIsoPermissions", object_name="templatepermission", **_SHOW)
def list_iso_permissions(call: Call, params: PermissionsOf) -> PermissionsResponse:
    return _list(call, params, iso=True)
