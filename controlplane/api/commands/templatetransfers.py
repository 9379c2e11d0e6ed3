"""Templates and ISOs in by upload, out by links, and from zone to zone (guide: chapter 12)."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import templating, transferring
from controlplane.api.call import Call
from controlplane.api.command import Async, Later, Params, command, param
from controlplane.api.templating import NewImage
from controlplane.api.transferring import ExtractResponse, UploadResponse
from controlplane.api.views.templates import TemplateResponse, show_templates
from controlplane.errors import ParameterError, PermissionDeniedError
from controlplane.imagestores import images
from controlplane.network import limits
from controlplane.store.models import Account, AsyncJob, StoredImage, Template, Zone, now
from controlplane.templates import progress, rows, transfers
from controlplane.templates.progress import ISO

# --- out ----------------------------------------------------------------------------------------------------------


class ExtractImage(Params):
    id: str = param("the ID of the template or ISO", entity="Template")
    zoneid: str | None = param("the zone to take it from, any unless given", default=None, entity="Zone")
    mode: str = param("HTTP_DOWNLOAD", default="HTTP_DOWNLOAD", choices=("HTTP_DOWNLOAD",))
    url: str | None = param("must be left out: a link is made", default=None)


def _extract(call: Call, params: ExtractImage, *, iso: bool) -> Async:
    row = templating.find(call, params.id, iso=iso)
    if params.url is not None:
        raise ParameterError("url must be left out: the answer has a link to download from")
    if not (call.may_use(call.session.get_one(Account, row.account_id)) or row.is_extractable):
        raise PermissionDeniedError(f"{row.name} may not be downloaded: it is not extractable")
    there = [image for image in images.of_owner(call.session, "Template", row.id) if image.state == "Ready"]
    if not there:
        raise ParameterError(f"id: {row.name} is not in secondary storage")
    zone = call.lookup(Zone, params.zoneid or there[0].zone_id, "zoneid")
    made = transfers.extract(call.session, call.configuration, row, zone)
    kind, id = progress.resource(row)
    return Async(
        kind,
        id,
        f"making a link to {kind} {row.name}",
        target=(made.ssvm_id, made.generation),
        completion="template.extracted",
        completion_arguments={
            "template_id": id,
            "zone_id": zone.id,
            "link_id": made.id,
            "url": call.runtime.secrets.seal_text(made.url),
        },
    )


@jobs.completion("template.extracted")
def _extracted(
    session: Session, job: AsyncJob, *, template_id: str, zone_id: str, link_id: str, url: str
) -> ExtractResponse:
    row, zone = session.get_one(Template, template_id), session.get_one(Zone, zone_id)
    return ExtractResponse(
        id=row.id,
        name=row.name,
        extract_id=link_id,
        url=url,
        accountid=row.account_id,
        zoneid=zone.id,
        zonename=zone.name,
        created=now(),
    )


_EXTRACT: dict[str, Any] = {
    "description": "Makes a link by which a file can be downloaded for a while",
    "params": ExtractImage,
    "response": ExtractResponse,
    "is_async": True,
}


@command("extractTemplate", object_name="template", event="TEMPLATE.EXTRACT", **_EXTRACT)
def extract_template(call: Call, params: ExtractImage) -> Async:
    return _extract(call, params, iso=False)


@command("extractIso", object_name="iso", event="ISO.EXTRACT", **_EXTRACT)
def extract_iso(call: Call, params: ExtractImage) -> Async:
    return _extract(call, params, iso=True)


# --- in -----------------------------------------------------------------------------------------------------------


class UploadTemplate(NewImage):
    format: str = param("the format of the file", choices=rows.FORMATS)
    hypervisor: str = param("the hypervisor it is for")
    passwordenabled: bool = param("whether guests take their password from the router", default=False)
    sshkeyenabled: bool = param("whether guests take SSH keys from the router", default=False)
    requireshvm: bool = param("accepted; all guests are fully virtualised", default=True)
    bits: int = param("accepted; 32 or 64", default=64, minimum=32, maximum=64)


class UploadIso(NewImage):
    bootable: bool = param("whether a machine can start from it", default=True)


def _await_upload(call: Call, row: Template, zone: Zone) -> Later:
    session = call.session
    made = transfers.await_upload(session, call.configuration, row, zone, templating.size_limit(call, row.account_id))
    kind, id = progress.resource(row)
    call.event(f"{kind} {row.name} is to be uploaded", (kind, id), account_id=row.account_id)
    return transferring.upload(call, made, id, lambda again: rows.remove(again, again.get_one(Template, id)))


def _one_zone(call: Call, params: NewImage) -> Zone:
    zones = templating.zones_of(call, params.zoneid)
    if len(zones) != 1:
        raise ParameterError("zoneid: a file is uploaded to one zone; say which, and use copyTemplate or copyIso then")
    return zones[0]


@command(
    "getUploadParamsForTemplate",
    description="Says where the file of a new template can be uploaded from a browser, once",
    params=UploadTemplate,
    response=UploadResponse,
    object_name="getuploadparams",
    event="TEMPLATE.UPLOAD",
    reads=False,
)
def upload_template(call: Call, params: UploadTemplate) -> Later:
    zone = _one_zone(call, params)
    wish = templating.wish_of(
        call, params, [zone], format=params.format, hypervisor=templating.hypervisor(call, params.hypervisor), url=None
    )
    row = rows.create(call.session, wish)
    row.password_enabled, row.ssh_key_enabled = params.passwordenabled, params.sshkeyenabled
    return _await_upload(call, row, zone)


@command(
    "getUploadParamsForIso",
    description="Says where the file of a new ISO can be uploaded from a browser, once",
    params=UploadIso,
    response=UploadResponse,
    object_name="getuploadparams",
    event="ISO.UPLOAD",
    reads=False,
)
def upload_iso(call: Call, params: UploadIso) -> Later:
    if params.bootable and params.ostypeid is None:
        raise ParameterError("ostypeid: a bootable ISO needs one; see listOsTypes")
    zone = _one_zone(call, params)
    row = rows.create(call.session, templating.wish_of(call, params, [zone], format=ISO, hypervisor="", url=None))
    row.bootable = params.bootable
    return _await_upload(call, row, zone)


# --- from zone to zone --------------------------------------------------------------------------------------------


class CopyImage(Params):
    id: str = param("the ID of the template or ISO", entity="Template")
    sourcezoneid: str | None = param("the zone to copy from, any that has it unless given", default=None, entity="Zone")
    destzoneid: str | None = param("the zone to copy to", default=None, entity="Zone")
    destzoneids: list[str] | None = param("the zones to copy to", default=None)


def _copy(call: Call, params: CopyImage, *, iso: bool) -> Async:
    row = templating.own(call, params.id, iso=iso)
    source = call.lookup(Zone, params.sourcezoneid, "sourcezoneid") if params.sourcezoneid is not None else None
    if (params.destzoneid is None) == (not params.destzoneids):
        raise ParameterError("give either destzoneid or destzoneids")
    given = [params.destzoneid] if params.destzoneid is not None else list(dict.fromkeys(params.destzoneids or ()))
    targets = [call.lookup(Zone, id, "destzoneid" if params.destzoneid else "destzoneids") for id in given]
    limits.check_secondary(call.session, call.configuration, call.session.get_one(Account, row.account_id))
    made = [transfers.copy(call.session, row, source, zone) for zone in targets]
    call.after_commit(call.runtime.keep_storage)
    kind, id = progress.resource(row)
    return Async(
        kind,
        id,
        f"copying {kind} {row.name} to {', '.join(zone.name for zone in targets)}",
        workflow="await_images",
        arguments={"image_ids": [image.id for image in made]},
        completion="template.copied",
        completion_arguments={"image_id": made[0].id},
    )


@jobs.completion("template.copied")
def _copied(session: Session, job: AsyncJob, *, image_id: str) -> TemplateResponse:
    image = session.get_one(StoredImage, image_id)
    row = session.get_one(Template, image.owner_id)
    return show_templates(session, [row], zone_id=image.zone_id)[0]


_COPY: dict[str, Any] = {
    "description": "Copies a file from the secondary storage of one zone to that of others",
    "params": CopyImage,
    "response": TemplateResponse,
    "is_async": True,
}


@command("copyTemplate", object_name="template", event="TEMPLATE.COPY", **_COPY)
def copy_template(call: Call, params: CopyImage) -> Async:
    return _copy(call, params, iso=False)


@command("copyIso", object_name="iso", event="ISO.COPY", **_COPY)
def copy_iso(call: Call, params: CopyImage) -> Async:
    return _copy(call, params, iso=True)
