"""Files that QEMU opens: templates and disks of instances.

They are in a directory of their own beside the data directory, because QEMU runs as another user: whoever may go
through the directory can reach what libvirt has given to that user, and nothing of the control plane's. Hosts share it,
e.g. by NFS at the same path, as primary storage.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from appliance.run import run
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.records import MARK, remove_tree, write_atomically

SYSTEM_IMAGE = "systemvm"
#: MiB of an appliance's state disk; the file grows with what is written
STATE_MB = 256
STATE_SERIAL = "gatehouse-state"


class Storage:
    """The directory ``directory``: ``templates/NAME.qcow2`` and ``instances/ID/``."""

    def __init__(self, directory: Path, system_image: Path | None = None) -> None:
        self.directory = directory
        self.templates = directory / "templates"
        self._instances = directory / "instances"
        self._system_image = system_image

    def open(self, owner: str) -> None:
        """Make it that of data directory ``owner``, by which hosts recognise it."""
        for path in (self.directory, self.templates, self._instances, self.images):
            path.mkdir(mode=0o711, parents=True, exist_ok=True)
            # whatever the umask was
            path.chmod(0o711)
        write_atomically(self.directory / MARK, owner)

    def folder(self, instance_id: str) -> Path:
        return self._instances / instance_id

    def template(self, name: str) -> Path:
        """The image of a template. Raises HypervisorError saying where to put it."""
        path = self.templates / f"{name}.qcow2"
        if Path(name).name != name or not path.is_file():
            how = "make it with: make guest-image" if name in ("builtin", "bare") else "copy a qcow2 image"
            raise HypervisorError(f"template {name} has no image; {how}, and put it at {path}")
        return path

    @property
    def images(self) -> Path:
        """Images on their way to and from image stores."""
        return self.directory / "images"

    def has_template(self, name: str) -> bool:
        return Path(name).name == name and (self.templates / f"{name}.qcow2").is_file()

    def add_template(self, name: str, image: Path) -> None:
        """Take an image as a template, whole or not at all."""
        try:
            # whoever wrote it has no say in it any more
            os.chown(image, 0, 0)
            image.chmod(0o644)
            image.replace(self.templates / f"{name}.qcow2")
        except OSError as error:
            raise HypervisorError(f"{image} cannot be taken as template {name}: {error.strerror or error}") from error

    def remove_template(self, name: str) -> None:
        (self.templates / f"{name}.qcow2").unlink(missing_ok=True)

    def system_image(self) -> Path:
        """The image of appliances, a copy that stays as it is while machines run from it."""
        source = self._system_image or self.templates / f"{SYSTEM_IMAGE}.qcow2"
        try:
            status = source.stat()
        except FileNotFoundError:
            raise HypervisorError(
                f"there is no system VM image at {source}; make it with: make image, and copy it there, or "
                "name it with --system-image"
            ) from None
        if self._system_image is None:
            return source
        version = hashlib.sha256(f"{source.absolute()} {status.st_mtime_ns} {status.st_size}".encode()).hexdigest()[:12]
        copy = self.templates / f"{SYSTEM_IMAGE}-{version}.qcow2"
        if not copy.exists():
            fresh = copy.with_suffix(".new")
            shutil.copyfile(source, fresh)
            fresh.chmod(0o644)
            fresh.rename(copy)
        return copy

    def prepare(self, instance_id: str) -> Path:
        folder = self.folder(instance_id)
        folder.mkdir(mode=0o711, exist_ok=True)
        folder.chmod(0o711)
        return folder

    def guest_disk(self, instance_id: str, template: str) -> Path:
        """The guest's own disk over its template; made at its first start and kept since."""
        disk = self.prepare(instance_id) / "disk.qcow2"
        if not disk.exists():
            _overlay(disk, self.template(template))
        return disk

    def appliance_disks(self, instance_id: str) -> tuple[Path, Path]:
        """A new disk over the system image, so that a start is an upgrade; and the state disk, kept since the first."""
        folder = self.prepare(instance_id)
        disk, state = folder / "disk.qcow2", folder / "state.qcow2"
        _overlay(disk, self.system_image())
        if not state.exists():
            fresh = folder / "state.new"
            run(["qemu-img", "create", "-q", "-f", "qcow2", str(fresh), f"{STATE_MB}M"])
            fresh.chmod(0o600)
            fresh.rename(state)
        return disk, state

    def remove(self, instance_id: str) -> None:
        if self.folder(instance_id).exists():
            remove_tree(self.folder(instance_id))

    def ids(self) -> list[str]:
        return [path.name for path in self._instances.iterdir()]


def _overlay(disk: Path, backing: Path) -> None:
    fresh = disk.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(fresh)])
    # what a guest writes is nobody else's; libvirt gives the file to QEMU's user
    fresh.chmod(0o600)
    fresh.rename(disk)
