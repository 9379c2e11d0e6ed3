"""What commands about templates and ISOs share: parameters, who may do what, and lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, and_, not_, or_, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import USER, Async, Params, ScopedListParams, param
from controlplane.api.tagging import TagEntry, with_tags
from controlplane.api.views.templates import TemplateResponse, show_templates
from controlplane.errors import ParameterError, PermissionDeniedError, unknown_id
from controlplane.imagestores.images import GIB
from controlplane.network import limits
from controlplane.store.models import Account, OsType, Template, Zone
from controlplane.templates import checksums, progress, rows
from controlplane.templates.progress import ISO

FILTERS = ("featured", "self", "selfexecutable", "sharedexecutable", "executable", "community", "all")
#: that templates can be for
HYPERVISORS = ("KVM",)
#: zoneid of what is to be in every zone
ALL_ZONES = "-1"


class NewImage(Params):
    """What registering and uploading have in common."""

    name: str = param("the name of the template or ISO")
    displaytext: str | None = param("the text for people, the name unless given", default=None, length=4096)
    zoneid: str | None = param("the zone it is for; -1 for all zones", default=None)
    account: str | None = param("the owner's account; needs domainid", default=None)
    domainid: str | None = param("the owner's domain", default=None, entity="Domain")
    ostypeid: str | None = param("the OS type in it", default=None, entity="OsType")
    checksum: str | None = param("what the file must have, such as {SHA-256}9f86d0...", default=None)
    isextractable: bool = param("whether its users may download it", default=False)
    ispublic: bool = param("whether everybody may use it", default=False)
    isfeatured: bool = param("whether it is shown among the featured ones", default=False)
    isdynamicallyscalable: bool = param("whether it has drivers for dynamic scaling", default=False)


def zones_of(call: Call, zoneid: str | None, zoneids: Sequence[str] | None = None) -> list[Zone]:
    """The zones that something is to be in; all enabled ones for none in particular."""
    given = list(dict.fromkeys(zoneids or ([zoneid] if zoneid else [])))
    if zoneid and zoneids:
        raise ParameterError("zoneid and zoneids cannot be given together")
    if given in ([], [ALL_ZONES]):
        found = list(
            call.session.scalars(select(Zone).where(Zone.allocation_state == "Enabled").order_by(Zone.created))
        )
        if not given and len(found) > 1:
            raise ParameterError("zoneid: there are several zones; say which, or -1 for all")
        return found
    return [call.lookup(Zone, id, "zoneids" if zoneids else "zoneid") for id in given]


def wish_of(
    call: Call, params: NewImage, zones: Sequence[Zone], *, format: str, hypervisor: str, url: str | None
) -> rows.Wish:
    """A template or ISO to be, checked against what the owner may have."""
    owner = call.owner(params.account, params.domainid)
    _check_public(call, owner, params.ispublic)
    if params.isfeatured and not call.is_root:
        raise PermissionDeniedError("isfeatured: only root administrators feature templates and ISOs")
    call.check_limit(owner, limits.TEMPLATES, limits.used(call.session, owner, limits.TEMPLATES))
    limits.check_secondary(call.session, call.configuration, owner)
    return rows.Wish(
        account=owner,
        name=params.name,
        display_text=params.displaytext or params.name,
        format=format,
        hypervisor=hypervisor,
        zones=zones,
        os_type=call.lookup(OsType, params.ostypeid, "ostypeid") if params.ostypeid is not None else None,
        url=url,
        checksum=checksums.parse(params.checksum) if params.checksum is not None else None,
        is_public=params.ispublic,
        is_featured=params.isfeatured,
        is_extractable=params.isextractable,
        is_dynamically_scalable=params.isdynamicallyscalable,
    )


def _check_public(call: Call, owner: Account, wanted: bool) -> None:
    name = "allow.public.user.templates"
    if wanted and owner.type == USER and not call.configuration.get_bool(call.session, name, account=owner.id):
        raise PermissionDeniedError(f"ispublic: only administrators make templates and ISOs public here ({name})")


def check_public(call: Call, template: Template, wanted: bool | None) -> None:
    """Raises PermissionDeniedError when the owner may not have it public."""
    _check_public(call, call.session.get_one(Account, template.account_id), bool(wanted))


def size_limit(call: Call, owner_id: str) -> int:
    """Bytes that an image may have: of any, and of what its owner has left. Raises LimitError when that is nothing."""
    most = call.configuration.get_int(call.session, "max.template.iso.size") * GIB
    left = limits.check_secondary(call.session, call.configuration, call.session.get_one(Account, owner_id))
    return most if left is None else min(most, left)


def find(call: Call, id: str, parameter: str = "id", *, iso: bool) -> Template:
    """A template or ISO that the caller may use. Raises ParameterError as for an unknown one when it is the other."""
    row = call.lookup(Template, id, parameter)
    if (row.format == ISO) != iso:
        raise unknown_id(parameter, id)
    return row


def own(call: Call, id: str, *, iso: bool) -> Template:
    """One that the caller may change: its own, or of an account that it administers."""
    row = find(call, id, iso=iso)
    if row.type == "BUILTIN" and not call.is_root:
        raise PermissionDeniedError(f"{row.name} comes with the hypervisor; only root administrators change it")
    call.check_account(call.session.get_one(Account, row.account_id))
    return row


def is_full(call: Call, row: Template) -> bool:
    """Whether the caller sees all of it."""
    return call.is_root or call.may_use(call.session.get_one(Account, row.account_id))


def show(call: Call, found: Sequence[Template], zone_id: str | None = None) -> list[TemplateResponse]:
    """Entries for the caller."""
    answers = []
    for row in found:
        answers += show_templates(call.session, [row], zone_id=zone_id, full=is_full(call, row))
    return answers


class ListImages(ScopedListParams):
    """What lists of templates and of ISOs take."""

    id: str | None = param("the ID", default=None, entity="Template")
    ids: list[str] | None = param("the IDs, mutually exclusive with id", default=None)
    name: str | None = param("the name", default=None)
    zoneid: str | None = param("those in this zone", default=None, entity="Zone")
    hypervisor: str | None = param("the hypervisor for which to restrict the search", default=None)
    tags: list[TagEntry] | None = param("List resources by tags (key/value pairs)", default=None)
    showremoved: bool = param("accepted; what was removed is gone", default=False)


def fetch(
    call: Call,
    params: ListImages,
    filter: str,
    *,
    iso: bool,
    type: str | None = None,
    ready: bool | None = None,
    keep: Callable[[TemplateResponse], bool] = lambda entry: True,
) -> tuple[int, list[TemplateResponse]]:
    """The answer of a list, one entry for each zone that something is in. ``ready``: only those, or only the others.

    ``keep``: which entries else.
    """
    kind = "ISO" if iso else "Template"
    statement = select(Template).where(Template.removed.is_(None), _visible(call, params, filter))
    statement = statement.where((Template.format == ISO) if iso else (Template.format != ISO))
    if params.id is not None and params.ids:
        raise ParameterError("parameters id and ids cannot be given together")
    if params.id is not None:
        statement = statement.where(Template.id == find(call, params.id, iso=iso).id)
    if params.ids:
        statement = statement.where(Template.id.in_(params.ids))
    if params.name is not None:
        statement = statement.where(Template.name == params.name)
    zone = call.lookup(Zone, params.zoneid, "zoneid") if params.zoneid is not None else None
    if params.hypervisor is not None:
        statement = statement.where(Template.hypervisor.ilike(params.hypervisor))
    if type is not None:
        statement = statement.where(Template.type == type.upper())
    statement = with_tags(statement, kind, Template.id, params.tags)
    statement = listing.search(statement, params.keyword, Template.name, Template.display_text)
    found = list(call.session.scalars(statement.order_by(Template.created, Template.name)))
    entries = show(call, found, zone.id if zone is not None else None)
    if zone is not None:
        entries = [entry for entry in entries if entry.zoneid in (None, zone.id)]
    if filter in ("selfexecutable", "sharedexecutable", "executable"):
        ready = True
    entries = [entry for entry in entries if ready in (None, entry.isready) and keep(entry)]
    return listing.cut(call, entries, params)


def _visible(call: Call, params: ListImages, filter: str) -> ColumnElement[bool]:
    public = Template.is_public.is_(True)
    owner = call.owner(params.account, params.domainid) if params.account is not None else call.account
    own = Template.account_id == owner.id
    match filter:
        case "featured":
            return and_(public, Template.is_featured.is_(True))
        case "self" | "selfexecutable":
            return own
        case "executable":
            return or_(own, public, rows.shared_with(owner.id))
        case "community":
            return and_(public, not_(Template.is_featured))
        case "sharedexecutable":
            return and_(rows.shared_with(owner.id), not_(own))
    if call.account.type == USER:
        raise PermissionDeniedError("Filter all can be specified by administrators only")
    accounts = listing.accounts_in_scope(call, params, everything=True)
    return Template.id.is_not(None) if accounts is None else or_(public, Template.account_id.in_(accounts))


def hypervisor(call: Call, name: str) -> str:
    """A hypervisor's name as its driver has it. Raises ParameterError for one that no driver has."""
    for known in HYPERVISORS:
        if known.lower() == name.lower():
            return known
    raise ParameterError(f"hypervisor: {name} is not known; known are {', '.join(HYPERVISORS)}")


def delete(call: Call, id: str, zoneid: str | None, *, iso: bool) -> Async:
    """Delete a template or ISO from a zone, or from all."""
    row = own(call, id, iso=iso)
    zone = call.lookup(Zone, zoneid, "zoneid") if zoneid is not None else None
    if row.type == "BUILTIN":
        raise PermissionDeniedError(f"{row.name} comes with the hypervisor and cannot be deleted")
    kind, resource_id = progress.resource(row)
    rows.remove(call.session, row, zone)
    call.after_commit(call.runtime.keep_storage)
    where = f" from zone {zone.name}" if zone is not None else ""
    return Async(kind, resource_id, f"deleting {kind} {row.name}{where}")


class ChangedImage(Params):
    """What changing a template or ISO takes."""

    id: str = param("the ID", entity="Template")
    name: str | None = param("another name", default=None)
    displaytext: str | None = param("another text for people", default=None, length=4096)
    ostypeid: str | None = param("the OS type in it", default=None, entity="OsType")
    isdynamicallyscalable: bool | None = param("whether it has drivers for dynamic scaling", default=None)
    passwordenabled: bool | None = param("whether guests take their password from the router", default=None)
    sshkeyenabled: bool | None = param("whether guests take SSH keys from the router", default=None)
    bootable: bool | None = param("of an ISO: whether a machine can start from it", default=None)
    details: dict[str, str] | None = param("key-value pairs to add or replace", default=None)
    cleanupdetails: bool = param("remove all key-value pairs", default=False)


def change(call: Call, row: Template, params: ChangedImage) -> None:
    """Take over what templates and ISOs have in common."""
    for column, value in (
        ("name", params.name),
        ("display_text", params.displaytext),
        ("is_dynamically_scalable", params.isdynamicallyscalable),
        ("password_enabled", params.passwordenabled),
        ("ssh_key_enabled", params.sshkeyenabled),
        ("bootable", params.bootable),
    ):
        if value is not None:
            setattr(row, column, value)
    if params.ostypeid is not None:
        row.os_type_id = call.lookup(OsType, params.ostypeid, "ostypeid").id
    if params.cleanupdetails:
        row.details = {}
    elif params.details is not None:
        row.details = {**row.details, **params.details}
    call.event(f"changing {progress.resource(row)[0]} {row.name}", progress.resource(row), account_id=row.account_id)
    call.session.flush()


def show_one(call: Call, row: Template) -> TemplateResponse:
    """The answer of commands about one; of several zones, the first."""
    return show(call, [row])[0]


def begin(call: Call, template: Template, zones: list[Zone]) -> tuple[int, list[TemplateResponse]]:
    """Begin to download to each zone; the answer of registering."""
    limit = size_limit(call, template.account_id)
    for zone in zones:
        rows.fetch(call.session, template, zone, limit)
    call.event(
        f"registering {progress.resource(template)[0]} {template.name}",
        progress.resource(template),
        account_id=template.account_id,
    )
    call.after_commit(call.runtime.keep_storage)
    shown = show(call, [template])
    return len(shown), shown
