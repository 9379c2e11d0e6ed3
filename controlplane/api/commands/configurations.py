"""Settings, and the limits of accounts, which are settings by another name."""

from __future__ import annotations

from functools import partial

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ADMINS, ROOT, ListParams, Params, Response, ScopedListParams, command, param, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.configuration import Scope, Setting
from controlplane.convergence.roles import desire_setting
from controlplane.errors import ParameterError
from controlplane.network import rates
from controlplane.network.limits import NETWORKS, PUBLIC_IPS, TEMPLATES, VMS
from controlplane.storage.settings import PRIMARY, SECONDARY, SNAPSHOTS, VOLUMES
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import Account, Domain, Zone


class ConfigurationResponse(Response):
    name: str = shown("the name of the configuration", ...)
    value: str = shown("the value of the configuration", ...)
    defaultvalue: str = shown("the default value of the configuration", ...)
    category: str = shown("the category of the configuration", ...)
    description: str = shown("the description of the configuration", ...)
    type: str = shown("the type of the configuration value", ...)
    scope: str | None = shown("scope(zone/domain/account) of the value, when it is not global")
    isdynamic: bool = shown("true if the configuration takes effect without a restart", ...)


class ScopeParams(Params):
    zoneid: str | None = param("the ID of the Zone whose value is meant", default=None, entity="Zone")
    domainid: str | None = param("the ID of the Domain whose value is meant", default=None, entity="Domain")
    accountid: str | None = param("the ID of the Account whose value is meant", default=None, entity="Account")


def _scope(call: Call, params: ScopeParams) -> tuple[Scope | None, str]:
    """The one scope that a request names: ("account", id) and the like, (None, "") for global."""
    found: list[tuple[Scope, str]] = []
    if params.zoneid is not None:
        found.append(("zone", call.lookup(Zone, params.zoneid, "zoneid").id))
    if params.domainid is not None:
        found.append(("domain", call.lookup(Domain, params.domainid, "domainid").id))
    if params.accountid is not None:
        found.append(("account", call.lookup(Account, params.accountid, "accountid").id))
    if len(found) > 1:
        raise ParameterError("cannot handle multiple IDs: give zoneid, domainid or accountid")
    return found[0] if found else (None, "")


def _show(call: Call, setting: Setting, scope: Scope | None, scope_id: str) -> ConfigurationResponse:
    ids = {scope: scope_id} if scope is not None else {}
    return ConfigurationResponse(
        name=setting.name,
        value=call.configuration.get(call.session, setting.name, **ids),
        defaultvalue=setting.default,
        category=setting.category,
        description=setting.description,
        type=setting.kind,
        scope=scope,
        isdynamic=not setting.restart,
    )


class ListConfigurations(ListParams, ScopeParams):
    name: str | None = param("lists configuration by name", default=None)
    category: str | None = param("lists configurations by category", default=None)


@command(
    "listConfigurations",
    description="Lists all configurations.",
    params=ListConfigurations,
    response=ConfigurationResponse,
    object_name="configuration",
    roles=ROOT,
)
def list_configurations(call: Call, params: ListConfigurations) -> tuple[int, list[ConfigurationResponse]]:
    scope, scope_id = _scope(call, params)
    keyword = (params.keyword or "").lower()
    chosen = [
        setting
        for setting in sorted(call.configuration.settings.values(), key=lambda setting: setting.name)
        if (scope is None or scope in setting.scopes)
        and params.name in (None, setting.name)
        and (params.category is None or setting.category.lower() == params.category.lower())
        and keyword in setting.name.lower()
    ]
    total, page = listing.cut(call, chosen, params)
    return total, [_show(call, setting, scope, scope_id) for setting in page]


class UpdateConfiguration(ScopeParams):
    name: str = param("the name of the configuration")
    value: str = param("the value of the configuration; nothing empties one that is text", default="", length=4095)


@command(
    "updateConfiguration",
    description="Updates a configuration.",
    params=UpdateConfiguration,
    response=ConfigurationResponse,
    object_name="configuration",
    roles=ROOT,
    event="CONFIGURATION.VALUE.EDIT",
)
def update_configuration(call: Call, params: UpdateConfiguration) -> ConfigurationResponse:
    scope, scope_id = _scope(call, params)
    call.configuration.set(call.session, params.name, params.value, scope, scope_id)
    for appliance_id in desire_setting(call.session, params.name):
        call.after_commit(partial(call.runtime.wake, appliance_id))
    if params.name in (rates.NETWORK_RATE, rates.VM_RATE):
        call.after_commit(lambda: call.runtime.hurry("rates"))
    where = f" of {scope} {scope_id}" if scope is not None else ""
    call.event(f"Successfully updated configuration {params.name}{where} to {params.value}")
    return _show(call, call.configuration.settings[params.name], scope, scope_id)


#: the API's numbers of what is limited
LIMITS = {
    0: ("user_vm", VMS),
    1: ("public_ip", PUBLIC_IPS),
    2: ("volume", VOLUMES),
    3: ("snapshot", SNAPSHOTS),
    4: ("template", TEMPLATES),
    6: ("network", NETWORKS),
    10: ("primary_storage", PRIMARY),
    11: ("secondary_storage", SECONDARY),
}
_KINDS = ", ".join(f"{number} {name}" for number, (name, _) in LIMITS.items())


class LimitResponse(OwnedResponse):
    resourcetype: str = shown(f"resource type: {_KINDS}", ...)
    resourcetypename: str = shown("resource type name", ...)
    max: int = shown("the maximum number of the resource. A -1 means the resource currently has no limit.", ...)


class ListLimits(ScopedListParams):
    resourcetype: int | None = param(f"Type of resource: {_KINDS}", default=None)


def _limits(call: Call, account: Account, kinds: list[int]) -> list[LimitResponse]:
    return [
        LimitResponse(
            resourcetype=str(kind),
            resourcetypename=LIMITS[kind][0],
            max=call.configuration.get_int(call.session, LIMITS[kind][1], account=account.id, domain=account.domain_id),
            **owned_by(account),
        )
        for kind in kinds
    ]


def _kind(number: int | None) -> list[int]:
    if number is None:
        return list(LIMITS)
    if number not in LIMITS:
        raise ParameterError(f"resourcetype: there are limits for {_KINDS}")
    return [number]


@command(
    "listResourceLimits",
    description="Lists resource limits.",
    params=ListLimits,
    response=LimitResponse,
    object_name="resourcelimit",
)
def list_limits(call: Call, params: ListLimits) -> tuple[int, list[LimitResponse]]:
    statement = select(Account).where(Account.removed.is_(None), Account.id != SYSTEM_ACCOUNT_ID)
    accounts = listing.accounts_in_scope(call, params, everything=params.listall)
    if accounts is not None:
        statement = statement.where(Account.id.in_(accounts))
    found = [
        limit
        for account in call.session.scalars(statement.order_by(Account.name, Account.id))
        for limit in _limits(call, account, _kind(params.resourcetype))
    ]
    return listing.cut(call, found, params)


class UpdateLimit(Params):
    resourcetype: int = param(f"Type of resource to update: {_KINDS}")
    account: str | None = param("Update resource for a specified account. Must be used with domainid.", default=None)
    domainid: str | None = param(
        "Update resource limits for all accounts in this domain.", default=None, entity="Domain"
    )
    max: int = param("Maximum resource limit. -1 means no limit.", default=-1, minimum=-1)


@command(
    "updateResourceLimit",
    description="Updates resource limits for an account or domain.",
    params=UpdateLimit,
    response=LimitResponse,
    object_name="resourcelimit",
    roles=ADMINS,
    event="RESOURCE.LIMIT.UPDATE",
)
def update_limit(call: Call, params: UpdateLimit) -> LimitResponse:
    [kind] = _kind(params.resourcetype)
    setting = LIMITS[kind][1]
    if params.account is None and params.domainid is not None:
        domain = call.lookup(Domain, params.domainid, "domainid")
        if not call.is_root and domain.id == call.account.domain_id:
            raise ParameterError("domainid: the limits of one's own domain are set by those above it")
        call.configuration.set(call.session, setting, str(params.max), "domain", domain.id)
        owner = {"domainid": domain.id, "domain": domain.name, "domainpath": domain.path}
    else:
        account = call.owner(params.account, params.domainid)
        if not call.is_root and account.id == call.account.id:
            raise ParameterError("account: one's own limits are set by those above")
        call.configuration.set(call.session, setting, str(params.max), "account", account.id)
        owner = owned_by(account)
    call.event(f"Successfully updated limit of {LIMITS[kind][0]} to {params.max}")
    return LimitResponse(resourcetype=str(kind), resourcetypename=LIMITS[kind][0], max=params.max, **owner)
