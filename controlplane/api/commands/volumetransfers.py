"""Volumes into and out of secondary storage; templates of volumes and snapshots (guide: 12.6, 12.7, 13.4.2)."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import templating, transferring
from controlplane.api.call import Call
from controlplane.api.command import Async, Later, Params, command, param
from controlplane.api.commands.volumes import check_room
from controlplane.api.templating import NewImage
from controlplane.api.transferring import ExtractResponse, UploadResponse
from controlplane.api.views.templates import TemplateResponse, show_templates
from controlplane.api.views.volumes import VolumeResponse
from controlplane.errors import ParameterError
from controlplane.imagestores import images, transfers
from controlplane.network import limits
from controlplane.storage import snapshots, volumes
from controlplane.storage.settings import LARGEST
from controlplane.store.models import AsyncJob, Snapshot, StoredImage, Template, Volume, Zone, now
from controlplane.templates import checksums, rows

#: that volumes and snapshots are files of
HYPERVISOR = "KVM"


class CreateTemplate(NewImage):
    snapshotid: str | None = param("make it of this snapshot", default=None, entity="Snapshot")
    volumeid: str | None = param("make it of this volume; its VM must be stopped", default=None, entity="Volume")
    passwordenabled: bool = param("whether guests take their password from the router", default=False)
    sshkeyenabled: bool = param("whether guests take SSH keys from the router", default=False)
    templatetag: str | None = param("the tag of the template", default=None)
    details: dict[str, str] | None = param("free key-value pairs", default=None)
    requireshvm: bool = param("accepted; all guests are fully virtualised", default=True)
    bits: int = param("accepted; 32 or 64", default=64, minimum=32, maximum=64)


@command(
    "createTemplate",
    description="Makes a template of a snapshot, or of a volume that nothing uses",
    params=CreateTemplate,
    response=TemplateResponse,
    object_name="template",
    is_async=True,
    creates=True,
    event="TEMPLATE.CREATE",
)
def create_template(call: Call, params: CreateTemplate) -> Async:
    source = _source(call, params)
    if params.zoneid not in (None, source.zone_id):
        raise ParameterError("zoneid: it is made in the zone of the snapshot or volume; leave it out, see copyTemplate")
    zone = call.session.get_one(Zone, source.zone_id)
    wish = templating.wish_of(call, params, [zone], format="QCOW2", hypervisor=HYPERVISOR, url=None)
    template = rows.create(call.session, wish)
    template.password_enabled, template.ssh_key_enabled = params.passwordenabled, params.sshkeyenabled
    template.tag, template.details = params.templatetag, params.details or {}
    template.size = source.size
    image = rows.new_image(call.session, template, zone)
    kind = "snapshot_id" if isinstance(source, Snapshot) else "volume_id"
    return Async(
        "Template",
        template.id,
        f"creating template {template.name} of {source.name}",
        workflow="create_template",
        arguments={"template_id": template.id, "image_id": image.id, kind: source.id},
        completion="template.made",
        completion_arguments={"template_id": template.id, "zone_id": zone.id},
    )


def _source(call: Call, params: CreateTemplate) -> Snapshot | Volume:
    if (params.snapshotid is None) == (params.volumeid is None):
        raise ParameterError("snapshotid: give a snapshot or a volume")
    if params.snapshotid is not None:
        snapshot = call.lookup(Snapshot, params.snapshotid, "snapshotid")
        snapshots.need_there(snapshot, "make a template of")
        return snapshot
    volume = call.lookup(Volume, str(params.volumeid), "volumeid")
    _need_still(call, volume, "make a template of")
    return volume


def _need_still(call: Call, volume: Volume, to: str) -> None:
    """ParameterError unless the volume has a file that nothing writes to."""
    volumes.need_settled(call.session, volume, to)
    volumes.file_of(volume)
    if volume.vm is not None and volume.vm.state != "Stopped":
        raise ParameterError(f"volumeid: stop virtual machine {volume.vm.name} first, or make a snapshot of the volume")


@jobs.completion("template.made")
def _made(session: Session, job: AsyncJob, *, template_id: str, zone_id: str) -> TemplateResponse:
    row = session.get_one(Template, template_id)
    session.refresh(row)
    return show_templates(session, [row], zone_id=zone_id, full=True)[0]


class NewVolume(Params):
    """What uploading a volume takes, whichever way."""

    name: str = param("name of the volume")
    format: str = param("the format of the file, which may be compressed", choices=rows.FORMATS)
    zoneid: str = param("the zone it is for", entity="Zone")
    checksum: str | None = param("what the file must have, such as {SHA-256}9f86d0...", default=None)
    account: str | None = param("owner of the volume; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


class UploadVolume(NewVolume):
    url: str = param("where it is downloaded from, by HTTP or HTTPS", length=2048)


def _uploading(call: Call, params: NewVolume) -> tuple[Volume, StoredImage, str | None, int]:
    """The rows of a volume that is about to come, its checksum, and bytes that it may have."""
    session = call.session
    owner = call.owner(params.account, params.domainid)
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    checksum = checksums.parse(params.checksum) if params.checksum is not None else None
    if params.format == "OVA":
        raise ParameterError("format: a package may have several disks; upload one disk, e.g. as VMDK")
    # how large it is, is known when it is there
    check_room(call, owner, 1)
    volume = volumes.create_data(session, params.name, owner, zone, offering=None, size=0)
    volume.state, volume.uploaded = "Uploading", True
    left = limits.check_secondary(session, call.configuration, owner)
    most = call.configuration.get_int(session, LARGEST) * volumes.GIB
    limit = most if left is None else min(most, left)
    image = images.create(session, owner_type="Volume", owner_id=volume.id, zone=zone, format=params.format.lower())
    return volume, image, checksum, limit


@command(
    "uploadVolume",
    description="Has a volume downloaded to the secondary storage of a zone; attaching it brings it to primary storage",
    params=UploadVolume,
    response=VolumeResponse,
    object_name="volume",
    is_async=True,
    creates=True,
    event="VOLUME.UPLOAD",
)
def upload_volume(call: Call, params: UploadVolume) -> Async:
    url = rows.check_url(params.url)
    volume, image, checksum, limit = _uploading(call, params)
    images.download(call.session, image, url, checksum=checksum, limit=limit)
    call.after_commit(call.runtime.keep_storage)
    return Async(
        "Volume",
        volume.id,
        f"uploading volume {volume.name}",
        workflow="await_images",
        arguments={"image_ids": [image.id]},
        completion="volume.show",
        completion_arguments={"volume_id": volume.id},
    )


@command(
    "getUploadParamsForVolume",
    description="Says where the file of a new volume can be uploaded from a browser, once",
    params=NewVolume,
    response=UploadResponse,
    object_name="getuploadparams",
    event="VOLUME.UPLOAD",
    reads=False,
)
def upload_parameters(call: Call, params: NewVolume) -> Later:
    volume, image, checksum, limit = _uploading(call, params)
    made = transfers.await_upload(call.session, call.configuration, image, checksum=checksum, limit=limit)
    call.event(f"volume {volume.name} is to be uploaded", ("Volume", volume.id), account_id=volume.account_id)

    def give_up(session: Session) -> None:
        images.remove(session, session.get_one(StoredImage, image.id))
        volumes.expunge(session, session.get_one(Volume, volume.id))

    return transferring.upload(call, made, volume.id, give_up)


class ExtractVolume(Params):
    id: str = param("id of the volume", entity="Volume")
    zoneid: str = param("id of its zone", entity="Zone")
    mode: str = param("HTTP_DOWNLOAD", default="HTTP_DOWNLOAD", choices=("HTTP_DOWNLOAD",))
    url: str | None = param("must be left out: a link is made", default=None)


@command(
    "extractVolume",
    description="Makes a link by which a volume that nothing uses can be downloaded for a while, as qcow2",
    params=ExtractVolume,
    response=ExtractResponse,
    object_name="volume",
    is_async=True,
    event="VOLUME.EXTRACT",
)
def extract_volume(call: Call, params: ExtractVolume) -> Async:
    volume = call.lookup(Volume, params.id)
    zone = call.lookup(Zone, params.zoneid, "zoneid")
    if zone.id != volume.zone_id:
        raise ParameterError(f"zoneid: volume {volume.name} is in another zone")
    if params.url is not None:
        raise ParameterError("url must be left out: the answer has a link to download from")
    if volume.state != "Uploaded":
        _need_still(call, volume, "extract")
        for old in images.of_owner(call.session, "Volume", volume.id):
            # as it was before
            images.remove(call.session, old)
        image = images.create(call.session, owner_type="Volume", owner_id=volume.id, zone=zone, format="qcow2")
    else:
        image = images.of_owner(call.session, "Volume", volume.id)[0]
    return Async(
        "Volume",
        volume.id,
        f"extracting volume {volume.name}",
        workflow="extract_volume",
        arguments={"volume_id": volume.id, "image_id": image.id},
        completion="volume.extracted",
        completion_arguments={"volume_id": volume.id},
    )


@jobs.completion("volume.extracted")
def _extracted(session: Session, job: AsyncJob, *, volume_id: str, link_id: str, url: str) -> ExtractResponse:
    volume = session.get_one(Volume, volume_id)
    return ExtractResponse(
        id=volume.id,
        name=volume.name,
        extract_id=link_id,
        url=url,
        accountid=volume.account_id,
        zoneid=volume.zone_id,
        zonename=volume.zone.name,
        created=now(),
    )
