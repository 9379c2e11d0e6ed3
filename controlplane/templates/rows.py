"""The rows of templates and ISOs: new ones, who may use them, and their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError
from controlplane.imagestores import images, jobs
from controlplane.store.models import (
    Account,
    OsType,
    StorageJob,
    StoredImage,
    Tag,
    Template,
    TemplatePermission,
    Vm,
    Zone,
    new_id,
    now,
)
from controlplane.templates import progress
from controlplane.templates.progress import ISO
from ssvm.services.storage.model.jobs import Url

#: formats by the API's names
FORMATS = ("QCOW2", "RAW", "VHD", "VHDX", "VMDK", "VDI", "OVA")
_URL: TypeAdapter[str] = TypeAdapter(Url)


@dataclass(frozen=True)
class Wish:
    """A template or ISO to be. ``format`` is of FORMATS, or ISO."""

    account: Account
    name: str
    display_text: str
    format: str
    hypervisor: str
    zones: Sequence[Zone]
    os_type: OsType | None = None
    url: str | None = None
    checksum: str | None = None
    is_public: bool = False
    is_featured: bool = False
    is_extractable: bool = False
    is_dynamically_scalable: bool = False


def check_url(url: str) -> str:
    """A URL that images can be fetched from. Raises ParameterError."""
    try:
        return _URL.validate_python(url)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ParameterError(f"url: {reason}") from None


def create(session: Session, wish: Wish) -> Template:
    """The row. Its images are made by ``fetch`` and the like."""
    id = new_id()
    template = Template(
        id=id,
        name=wish.name,
        display_text=wish.display_text,
        # that it is metered in; where it is can be more than one
        zone_id=wish.zones[0].id,
        account_id=wish.account.id,
        hypervisor=wish.hypervisor,
        format=wish.format,
        os_type_id=wish.os_type.id if wish.os_type is not None else None,
        image=id,
        url=wish.url,
        checksum=wish.checksum,
        is_public=wish.is_public,
        is_featured=wish.is_featured,
        is_extractable=wish.is_extractable,
        is_dynamically_scalable=wish.is_dynamically_scalable,
    )
    session.add(template)
    session.flush()
    return template


def new_image(session: Session, template: Template, zone: Zone, format: str | None = None) -> StoredImage:
    """The row of a copy that a job is about to make in a zone. Raises ParameterError when there is no store for it."""
    format = format or template.format.lower()
    return images.create(session, owner_type="Template", owner_id=template.id, zone=zone, format=format)


def fetch(session: Session, template: Template, zone: Zone, limit: int) -> StorageJob:
    """Begin to download the template's URL to a zone; ``limit`` in bytes."""
    assert template.url is not None
    image = new_image(session, template, zone)
    progress.started(session, template, image, "download")
    return images.download(session, image, template.url, checksum=template.checksum, limit=limit)


def shared_with(account_id: str) -> ColumnElement[bool]:
    """A condition: the account was permitted to use the template."""
    return Template.id.in_(select(TemplatePermission.template_id).where(TemplatePermission.account_id == account_id))


def may_use(session: Session, template: Template, account_id: str) -> bool:
    """Whether an account may use a template: its own, a public one, or one that it was permitted to use."""
    if template.is_public or template.account_id == account_id:
        return True
    return session.get(TemplatePermission, (template.id, account_id)) is not None


def users_of(session: Session, template: Template) -> list[Vm]:
    """Guests whose disks lie over the template."""
    return list(session.scalars(select(Vm).where(Vm.template_id == template.id, Vm.removed.is_(None))))


def remove(session: Session, template: Template, zone: Zone | None = None) -> None:
    """Remove a template from a zone, or from all there are; the row ends with its last image.

    Guests that were made of it go on. Raises InUseError for one that is being copied.
    """
    rows = images.of_owner(session, "Template", template.id)
    gone = [row for row in rows if zone is None or row.zone_id == zone.id]
    if zone is not None and not gone:
        raise ParameterError(f"zoneid: {template.name} is not in zone {zone.name}")
    left = [row for row in rows if row not in gone]
    sources = {row.path for row in gone}
    copying = select(StorageJob).where(
        StorageJob.kind == "copy", StorageJob.ended.is_(None), StorageJob.subject_id.in_([row.id for row in left])
    )
    for job in session.scalars(copying):
        if job.fields.get("source_path") in sources:
            raise InUseError(
                f"{template.name} is being copied to another zone; wait for that, or delete it there first"
            )
    for row in gone:
        images.remove(session, row)
    if not left:
        template.removed = now()
        session.execute(delete(TemplatePermission).where(TemplatePermission.template_id == template.id))
        session.execute(delete(Tag).where(Tag.resource_id == template.id))
    session.flush()


def check_deployable(session: Session, template: Template, zone: Zone) -> None:
    """Raises ParameterError unless guests of the zone can be made of it now."""
    if template.format == ISO:
        raise ParameterError(f"templateid: {template.name} is an ISO; guests are made of templates")
    if template.type == "BUILTIN":
        return
    there = [row for row in images.of_owner(session, "Template", template.id) if row.zone_id == zone.id]
    if any(row.state == "Ready" for row in there):
        return
    if not there and template.zone_id is None:
        # what the hypervisor has by itself
        return
    if not there:
        raise ParameterError(f"templateid: template {template.name} is not in zone {zone.name}; see copyTemplate")
    job = jobs.newest(session, [there[0].id]).get(there[0].id)
    status = progress.status_of(there[0], job) or "it has not begun to come"
    raise ParameterError(f"templateid: template {template.name} is not ready in zone {zone.name}: {status}")
