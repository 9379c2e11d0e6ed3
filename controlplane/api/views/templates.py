"""Templates and ISOs as the API shows them: one entry for each zone that one is in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.imagestores import images, jobs
from controlplane.store.models import Account, ImageStore, OsType, StorageJob, StoredImage, Template, Zone
from controlplane.templates import progress
from controlplane.templates.checksums import show as show_checksum
from controlplane.templates.progress import ISO


class DownloadDetail(Response):
    """Where an image is, and how far."""

    datastore: str = shown("name of the image store", ...)
    datastore_id: str = shown("id of the image store", ..., name="datastoreId")
    datastore_role: str = shown("what the store is for", "Image", name="datastoreRole")
    percent: str = shown("percent that has come", ..., name="downloadPercent")
    state: str = shown("how far it is, in one word", ..., name="downloadState")


class TemplateResponse(OwnedResponse):
    """A template in a zone, or one that is in all of them."""

    id: str = shown("the template ID", ...)
    name: str = shown("the template name", ...)
    displaytext: str = shown("the template display text", ...)
    hypervisor: str | None = shown("the hypervisor on which the template runs")
    format: str = shown("the format of the template.", ...)
    ispublic: bool = shown("true if this template is a public template, false otherwise", ...)
    isfeatured: bool = shown("true if this template is a featured template, false otherwise", ...)
    isready: bool = shown("true if the template is ready to be deployed from, false otherwise.", True)
    isextractable: bool = shown("true if the template is extractable, false otherwise", False)
    isdynamicallyscalable: bool = shown("true if template contains drivers to support dynamic scaling", False)
    bootable: bool | None = shown("of an ISO: true if a machine can start from it")
    passwordenabled: bool = shown("true if the reset password feature is enabled, false otherwise", ...)
    sshkeyenabled: bool = shown("true if template is sshkey enabled, false otherwise", ...)
    cross_zones: bool = shown("true if the template is managed across all Zones", ..., name="crossZones")
    ostypeid: str | None = shown("the ID of the OS type for this template.")
    ostypename: str | None = shown("the name of the OS type for this template.")
    size: int = shown("bytes of the disk that a guest sees", ...)
    physicalsize: int | None = shown("bytes of the file in secondary storage")
    status: str = shown("how far the template is, or why it could not be had", "Download Complete")
    downloadstate: str | None = shown("the same in one word")
    downloadpercent: int | None = shown("percent that has come")
    downloadrate: int | None = shown("bytes a second at which it comes now")
    downloadtimeleft: int | None = shown("seconds until all has come, at this rate")
    downloaddetails: list[DownloadDetail] | None = shown("where it is, and how far")
    url: str | None = shown("where it was downloaded from")
    checksum: str | None = shown("checksum of the file as it came")
    templatetype: str = shown("the type of the template", ...)
    templatetag: str | None = shown("the tag of this template")
    details: dict[str, Any] | None = shown("additional key/value details tied with this template")
    zoneid: str | None = shown("the ID of the zone for this template")
    zonename: str | None = shown("the name of the zone for this template")
    created: datetime = shown("the date this template was created", ...)
    tags: list[TagResponse] = shown("the list of resource tags associated", ...)


def show_templates(
    session: Session, rows: Sequence[Template], *, zone_id: str | None = None, full: bool = False
) -> list[TemplateResponse]:
    """An entry for each template and zone; of ``zone_id`` only, if given. ``full``: for an owner or administrator."""
    ids = [row.id for row in rows]
    stored = images.of_owners(session, "Template", ids)
    newest = jobs.newest(session, [image.id for each in stored.values() for image in each])
    tags = {kind: tags_of(session, kind, ids) for kind in ("Template", "ISO")}
    answers = []
    for row in rows:
        common = _common(session, row, tags["ISO" if row.format == ISO else "Template"].get(row.id, []))
        there = [image for image in stored.get(row.id, []) if zone_id in (None, image.zone_id)]
        if not there and row.id not in stored:
            answers.append(TemplateResponse(**common, **_zone(session, row.zone_id), cross_zones=row.zone_id is None))
        for image in there:
            shown_image = _image(session, image, newest.get(image.id), full)
            answers.append(TemplateResponse(**common | shown_image, **_zone(session, image.zone_id), cross_zones=False))
    return answers


def _common(session: Session, row: Template, tags: list[TagResponse]) -> dict[str, Any]:
    os_type = session.get(OsType, row.os_type_id) if row.os_type_id is not None else None
    return {
        "id": row.id,
        "name": row.name,
        "displaytext": row.display_text,
        "hypervisor": row.hypervisor or None,
        "format": row.format,
        "ispublic": row.is_public,
        "isfeatured": row.is_featured,
        "isextractable": row.is_extractable,
        "isdynamicallyscalable": row.is_dynamically_scalable,
        "bootable": row.bootable if row.format == ISO else None,
        "passwordenabled": row.password_enabled,
        "sshkeyenabled": row.ssh_key_enabled,
        "ostypeid": row.os_type_id,
        "ostypename": os_type.description if os_type is not None else None,
        "size": row.size,
        "checksum": show_checksum(row.checksum),
        "templatetype": row.type,
        "templatetag": row.tag,
        "details": row.details or None,
        "created": row.created,
        "tags": tags,
        **owned_by(session.get_one(Account, row.account_id)),
    }


def _zone(session: Session, zone_id: str | None) -> dict[str, Any]:
    zone = session.get(Zone, zone_id) if zone_id is not None else None
    return {"zoneid": zone_id, "zonename": zone.name if zone is not None else None}


def _image(session: Session, image: StoredImage, job: StorageJob | None, full: bool) -> dict[str, Any]:
    state, running = progress.state_of(image, job), job is not None and job.ended is None
    percent = 100 if image.state == "Ready" else (job.percent if job is not None else 0)
    store = session.get_one(ImageStore, image.store_id)
    where = DownloadDetail(datastore=store.name, datastore_id=store.id, percent=str(percent), state=state)
    return {
        "isready": image.state == "Ready",
        "physicalsize": image.physical_size,
        "status": progress.status_of(image, job),
        "downloadstate": state,
        "downloadpercent": percent,
        "downloadrate": job.rate if job is not None and running else None,
        "downloadtimeleft": job.seconds_left if job is not None and running else None,
        # where things are kept is the operator's matter
        "downloaddetails": [where] if full else None,
        "size": image.virtual_size or 0,
    }
