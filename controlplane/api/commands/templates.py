"""Templates: what guests are made from (guide: chapter 12)."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import templating
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, Params, command, param
from controlplane.api.templating import ChangedImage, ListImages, NewImage
from controlplane.api.views.templates import TemplateResponse, show_templates
from controlplane.errors import ParameterError
from controlplane.store.models import AsyncJob, Template, Zone
from controlplane.templates import rows


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
    return templating.begin(call, template, zones)


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


class UpdateTemplate(ChangedImage):
    templatetag: str | None = param("another tag", default=None, clears=True)
    format: str | None = param("must be what it is", default=None)
    templatetype: str | None = param("must be what it is", default=None)


@command(
    "updateTemplate",
    description="Changes a template's name, text and what guests take from the router",
    params=UpdateTemplate,
    response=TemplateResponse,
    object_name="template",
    event="TEMPLATE.UPDATE",
)
def update_template(call: Call, params: UpdateTemplate) -> TemplateResponse:
    row = templating.own(call, params.id, iso=False)
    for name, given, is_now in (("format", params.format, row.format), ("templatetype", params.templatetype, row.type)):
        if given is not None and given.upper() != is_now:
            raise ParameterError(f"{name}: the template is {is_now} and stays so; register another one")
    if params.templatetag is not None:
        row.tag = params.templatetag or None
    templating.change(call, row, params)
    return templating.show_one(call, row)


class PrepareTemplate(Params):
    templateid: str = param("the ID of the template", entity="Template")
    zoneid: str = param("the zone in whose primary storage it is to be", entity="Zone")
    storageid: str | None = param("accepted: there is one primary storage", default=None)


@command(
    "prepareTemplate",
    description="Copies a template to primary storage before the first guest needs it",
    params=PrepareTemplate,
    response=TemplateResponse,
    object_name="template",
    roles=ROOT,
    is_async=True,
    event="TEMPLATE.PREPARE",
)
def prepare_template(call: Call, params: PrepareTemplate) -> Async:
    row = templating.find(call, params.templateid, "templateid", iso=False)
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    rows.check_deployable(call.session, row, zone)
    return Async(
        "Template",
        row.id,
        f"copying template {row.name} to the primary storage of zone {zone.name}",
        workflow="prepare_template",
        arguments={"template_id": row.id, "zone_id": zone.id},
        completion="template.show",
        completion_arguments={"template_id": row.id, "zone_id": zone.id},
    )


@jobs.completion("template.show")
def _shown(session: Session, job: AsyncJob, *, template_id: str, zone_id: str) -> TemplateResponse:
    row = session.get_one(Template, template_id)
    session.refresh(row)
    return show_templates(session, [row], zone_id=zone_id)[0]
