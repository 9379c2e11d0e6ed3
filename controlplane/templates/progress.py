"""What becomes of the images of templates and ISOs: on the row, and in events for their owners."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane import events
from controlplane.events import Level
from controlplane.store.models import StorageJob, StoredImage, Template, Zone

ISO = "ISO"
#: kinds of jobs by which an image comes from outside: first part of their events' second word
_COMES = {"download": "DOWNLOAD", "upload": "UPLOAD", "copy": "COPY", "convert": "CREATE"}


def resource(template: Template) -> tuple[str, str]:
    """What events call it."""
    return ("Iso" if template.format == ISO else "Template", template.id)


def word(template: Template) -> str:
    """First part of the types of its events."""
    return ISO if template.format == ISO else "TEMPLATE"


def note(session: Session, image: StoredImage, job: StorageJob) -> None:
    """A job that makes an image has ended, or lost a connection."""
    template = session.get(Template, image.owner_id)
    if template is None or template.removed is not None:
        return
    zone = session.get_one(Zone, image.zone_id)
    what = f"{'ISO' if template.format == ISO else 'template'} {template.name} in zone {zone.name}"
    doing = _COMES.get(job.kind, "CREATE")
    if job.ended is None:
        _event(session, template, f"{doing}.LOST", f"{what}: the connection was lost: {job.detail}; it goes on", "WARN")
    elif image.state == "Ready":
        template.size = image.virtual_size or 0
        if template.checksum is None:
            template.checksum = image.checksum
        _event(session, template, f"{doing}.SUCCESS", f"{what} is ready", "INFO")
    else:
        _event(session, template, f"{doing}.FAILED", f"{what}: {image.error}", "WARN")


def started(session: Session, template: Template, image: StoredImage, kind: str) -> None:
    """An image begins to come."""
    zone = session.get_one(Zone, image.zone_id)
    _event(session, template, f"{_COMES[kind]}.START", f"{template.name} begins to come to zone {zone.name}", "INFO")


def _event(session: Session, template: Template, type: str, text: str, level: Level) -> None:
    events.record(
        session,
        f"{word(template)}.{type}",
        text,
        account_id=template.account_id,
        level=level,
        resource=resource(template),
    )


def status_of(image: StoredImage, job: StorageJob | None) -> str:
    """How far an image is, as the API says it: empty before it begins."""
    if image.state == "Ready":
        return "Download Complete"
    if image.state == "Failed":
        return image.error or "it could not be made"
    if job is None or job.state == "waiting":
        return ""
    if job.phase in ("", "receiving"):
        text = f"{job.percent}% Downloaded"
        return f"{text}; connection lost, trying again: {job.detail}" if job.state == "retrying" else text
    return f"Installing Template: {job.phase}"


def state_of(image: StoredImage, job: StorageJob | None) -> str:
    """The same as one of the API's words."""
    if image.state == "Ready":
        return "DOWNLOADED"
    if image.state == "Failed":
        return "ABANDONED" if job is not None and job.cause == "expired" else "DOWNLOAD_ERROR"
    if job is None or job.state == "waiting":
        return "NOT_DOWNLOADED"
    return "DOWNLOAD_IN_PROGRESS"
