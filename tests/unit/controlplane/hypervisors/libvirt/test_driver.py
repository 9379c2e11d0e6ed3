from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from controlplane.hypervisors.base import HostFacts
from controlplane.hypervisors.libvirt.driver import LibvirtHypervisor


class Asked:
    """A host; while it is asked what it has, somebody adds another."""

    def __init__(self, hosts: dict[str, Any], other: str) -> None:
        self._hosts, self._other = hosts, other

    def facts(self, kind: str) -> HostFacts:
        self._hosts[self._other] = self
        return HostFacts("kvm1", kind, 1, 1)


def test_a_host_that_is_added_meanwhile_is_asked_the_next_time(tmp_path: Path) -> None:
    hypervisor = LibvirtHypervisor(tmp_path / "libvirt", tmp_path / "storage")
    hosts = cast(dict[str, Any], hypervisor._hosts)
    hosts["qemu:///system"] = Asked(hosts, "qemu+ssh://root@kvm2/system")
    assert len(hypervisor.facts()) == 1
    assert len(hypervisor.facts()) == 2
