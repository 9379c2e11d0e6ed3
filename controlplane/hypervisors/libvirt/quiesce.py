"""File systems of a guest made consistent for a moment, by the QEMU guest agent in it (virDomainFSFreeze).

A frozen guest writes nothing, so nothing may keep it from being thawed: what fails is tried again.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

import libvirt

from controlplane.hypervisors.base import HypervisorError

log = logging.getLogger(__name__)

#: seconds between tries to thaw a guest whose agent does not answer
_AGAIN = 2.0


class Quiesced:
    """The file systems of one domain, frozen from ``freeze`` until ``thaw`` succeeds."""

    def __init__(self, domain: Any) -> None:
        self._domain = domain
        self.frozen = False
        self._tried = 0.0

    def freeze(self) -> None:
        """Raises HypervisorError when they cannot be frozen; they are not then."""
        for last in (False, True):
            try:
                self._domain.fsFreeze()
            except libvirt.libvirtError as error:
                # a control plane that ended has left them frozen, or the answer came too late
                if last or not self._thawed():
                    raise HypervisorError(
                        f"{self._domain.name()} cannot be quiesced: {error}; it needs a running QEMU guest agent "
                        "(qemu-guest-agent)"
                    ) from error
            else:
                self.frozen = True
                return

    def _thawed(self) -> int:
        """How many of them were frozen and are not any more."""
        with suppress(libvirt.libvirtError):
            return int(self._domain.fsThaw())
        return 0

    def thaw(self, *, at_once: bool = False) -> None:
        """Let the guest write again. If that fails they stay ``frozen``, and nothing is tried for a while."""
        if not self.frozen or (not at_once and time.monotonic() - self._tried < _AGAIN):
            return
        try:
            self._domain.fsThaw()
        except libvirt.libvirtError as error:
            log.warning("%s cannot be thawed: %s; it is tried again", self._domain.name(), error)
        else:
            self.frozen = False
        self._tried = time.monotonic()

    def leave(self) -> None:
        """The last try; says what is to be done when it fails."""
        self.thaw(at_once=True)
        if self.frozen:
            log.error(
                "%s may not write: its guest agent does not thaw its file systems; reboot it", self._domain.name()
            )
