"""Templates: what guests are made from (guide: chapter 12)."""

from __future__ import annotations

from controlplane.api import templating
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, command, param
from controlplane.api.templating import ListImages, NewImage
from controlplane.api.views.templates import TemplateResponse
from controlplane.errors import ParameterError
from controlplane.store.models import Template, Zone
from controlplane.templates import progress, rows


class RegisterTemplate(NewImage):
    url: str = param("where it is downloaded from, by HTTP or HTTPS", length=2048)
    format: str = param("the format of the file, which may be compressed", choices=rows.FORMATS)
    hypervisor: str = param("the hypervisor it is for")
    zoneids: list[str] | None = param("the zones it is for, in place of zoneid", default=None)
    passwordenabled: bool = param("whether guests take their password from the router", default=False)
    sshkeyenabled: bool = param("whether guests take SSH keys from the router", default=False)
    templatetag: str | None = param("the tag of the template", default=None)
    details: dict[str, str] | None = param("free key-value pairs", default=None)
    requireshvm: bool = param("accepted; all guests are fully virtualised", default=True)
    bits: int = param("accepted; 32 or 64", default=64, minimum=32, maximum=64)
    templatetype: str | None = param("accepted: USER", default=None)
    isrouting: bool = param("must be false: the system VMs' image is the operator's", default=False)
    directdownload: bool = param("must be false", default=False)


@command(
    "registerTemplate",
    description="Has a template downloaded to the secondary storage of a zone",
    params=RegisterTemplate,
    response=TemplateResponse,
    object_name="template",
    event="TEMPLATE.CREATE",
)
def register_template(call: Call, params: RegisterTemplate) -> tuple[int, list[TemplateResponse]]:
    if params.isrouting or params.directdownload:
        name = "isrouting" if params.isrouting else "directdownload"
        raise ParameterError(f"{name} must be false: templates are kept in secondary storage, for users' guests")
    url = rows.check_url(params.url)
    zones = templating.zones_of(call, params.zoneid, params.zoneids)
    wish = templating.wish_of(
        call, params, zones, format=params.format, hypervisor=templating.hypervisor(call, params.hypervisor), url=url
    )
    template = rows.create(call.session, wish)
    template.password_enabled, template.ssh_key_enabled = params.passwordenabled, params.sshkeyenabled
    template.tag, template.details = params.templatetag, params.details or {}
    return begin(call, template, zones)


def begin(call: Call, template: Template, zones: list[Zone]) -> tuple[int, list[TemplateResponse]]:
    """Begin to download to each zone; the answer of registering."""
    limit = templating.size_limit(call)
    for zone in zones:
        rows.fetch(call.session, template, zone, limit)
    call.event(
        f"registering {progress.resource(template)[0]} {template.name}",
        progress.resource(template),
        account_id=template.account_id,
    )
    call.after_commit(call.runtime.keep_storage)
    shown = templating.show(call, [template])
    return len(shown), shown


class ListTemplates(ListImages):
    templatefilter: str = param(
        "possible values are featured, self, selfexecutable, sharedexecutable, executable, community and all (for "
        "administrators)",
        choices=templating.FILTERS,
    )
    templatetype: str | None = param("the type of the template", default=None)


@command(
    "listTemplates",
    description="List all public, private, and privileged templates.",
    params=ListTemplates,
    response=TemplateResponse,
    object_name="template",
)
def list_templates(call: Call, params: ListTemplates) -> tuple[int, list[TemplateResponse]]:
    return templating.fetch(call, params, params.templatefilter, iso=False, type=params.templatetype)


class DeleteTemplate(Params):
    id: str = param("the ID of the template", entity="Template")
    zoneid: str | None = param("the zone to delete it from, all unless given", default=None, entity="Zone")
    forced: bool = param("accepted; guests that were made of it go on in any case", default=False)


@command(
    "deleteTemplate",
    description="Deletes a template from a zone or all of them. Guests that were made of it go on.",
    params=DeleteTemplate,
    is_async=True,
    event="TEMPLATE.DELETE",
)
def delete_template(call: Call, params: DeleteTemplate) -> Async:
    return templating.delete(call, params.id, params.zoneid, iso=False)
