"""Images of templates in primary storage: which are needed no longer."""

from __future__ import annotations

import time
from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.core import Core
from controlplane.imagestores import shares
from controlplane.store.models import Snapshot, Template, Vm, Volume

#: seconds after which a file on its way between primary and secondary storage was left by a crash
LEFT = 86400.0


def collect(core: Core) -> list[str]:
    """Remove images of deleted templates that no disk lies over, and what crashes left; names of the former."""
    with core.database.reading() as session:
        deleted = select(Template).where(Template.removed.is_not(None), Template.type == "USER")
        unused = [row.image for row in session.scalars(deleted) if not _used(session, row.id)]
    gone = [name for name in unused if core.hypervisor.has_template(name)]
    for name in gone:
        core.hypervisor.remove_template(name)
    with suppress(OSError):
        for path in shares.exchange(core.hypervisor).iterdir():
            # parts are the SSVM's to clear away
            if path.is_file() and path.stat().st_mtime < time.time() - LEFT:
                path.unlink()
    return gone


def _used(session: Session, template_id: str) -> bool:
    """Whether something was made of the template that may still lie over its image."""
    of_template = select(Volume.id).where(Volume.template_id == template_id)
    for statement in (
        select(Vm.id).where(Vm.template_id == template_id, Vm.removed.is_(None)),
        of_template.where(Volume.removed.is_(None)),
        select(Snapshot.id).where(Snapshot.volume_id.in_(of_template), Snapshot.removed.is_(None)),
    ):
        if session.scalar(statement.limit(1)) is not None:
            return True
    return False
