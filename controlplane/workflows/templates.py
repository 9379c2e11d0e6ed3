"""Images on their way from secondary to primary storage (guide: chapter 12)."""

from __future__ import annotations

import logging

from controlplane.errors import ApiError
from controlplane.imagestores import images, jobs
from controlplane.store.models import StoredImage, Template, Vm, new_id
from controlplane.workflows import exchange
from controlplane.workflows.flow import Flow

log = logging.getLogger(__name__)


def prepare_template(flow: Flow, template_id: str, zone_id: str) -> None:
    """Workflow: have a template in primary storage before the first guest needs it."""
    flow.step("bring", bring, template_id, zone_id)


def await_images(flow: Flow, image_ids: list[str]) -> None:
    """Workflow: wait until images have come. Fails for the first one that could not."""
    for image_id in image_ids:
        flow.step("wait", _await, image_id)


def for_guest(flow: Flow, vm_id: str) -> None:
    """Have the template of a guest in primary storage. Raises ApiError."""
    with flow.core.database.reading() as session:
        vm = session.get_one(Vm, vm_id)
        template_id, zone_id = vm.template_id, vm.zone_id
    bring(flow, template_id, zone_id)


def bring(flow: Flow, template_id: str, zone_id: str) -> None:
    """The same for any template; nothing happens when it is there. Who wants the same at once waits here."""
    hypervisor = flow.core.hypervisor
    with flow.core.database.reading() as session:
        template = session.get_one(Template, template_id)
        name, label = template.image, template.name
        image = images.ready(session, "Template", template_id, zone_id)
    if image is None or hypervisor.has_template(name):
        # what the hypervisor brings along, and what it lacks it says by itself
        return
    with flow.locks.of(f"template {template_id}"):
        if hypervisor.has_template(name):
            return
        flow.progress(f"template {label} is being copied to primary storage")
        try:
            with exchange.brought(flow, image, f"{new_id()}.qcow2") as path:
                hypervisor.add_template(name, path)
        except ApiError as error:
            raise ApiError(f"template {label} could not be copied to primary storage: {error.text}") from error
        log.info("template %s (%s) is in primary storage", label, name)


def _await(flow: Flow, image_id: str) -> None:
    with flow.core.database.reading() as session:
        image = session.get_one(StoredImage, image_id)
        job = jobs.newest(session, [image_id]).get(image_id)
    if image.state == "Failed":
        raise ApiError(image.error or "it could not be made")
    if image.state == "Creating" and job is not None:
        exchange.wait(flow, job.id)
