"""Two libvirt daemons as two hosts: one control plane, one storage, segments that both have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from appliance.run import run
from controlplane.hypervisors import syscalls
from controlplane.hypervisors.base import GuestSpec, HypervisorError, Instance, Nic, Segment, Wire
from controlplane.hypervisors.bridges import bridge_name
from tests.libvirtd import Libvirtd
from tests.vm.libvirt.site import Site, inside, lay_cable
from tests.wait import wait_for

SEGMENT = Segment("guest-1", wire=Wire("wan", "vxlan", 77))
SPECS = [
    GuestSpec(
        f"g-{number}", f"vm{number}", (Nic(f"02:00:00:00:00:0{number}", SEGMENT.name, addresses=(address,)),), "builtin"
    )
    for number, address in enumerate(("10.9.0.1", "10.9.0.2"), 1)
]


@pytest.fixture(scope="module")
def second(site: Site) -> Iterator[Libvirtd]:
    """Another host, whose interface ``wan`` is joined with the first one's."""
    pin = site.directory / "net2"
    pin.touch()
    run(["unshare", f"--net={pin}", "true"])
    lay_cable(site.pin, pin, "wan", "198.51.100")
    daemon = Libvirtd(site.directory / "libvirtd2", pin)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        syscalls.unmount(pin)


def test_guests_of_two_hosts_are_on_one_network(site: Site, second: Libvirtd) -> None:
    facts = site.hypervisor.add_host(second.uri)
    assert facts.url == second.uri and facts.up
    site.hypervisor.ensure_segment(SEGMENT)
    specs = [SPECS[0], replace(SPECS[1], host=second.uri)]
    for spec in specs:
        site.hypervisor.start_guest(spec)

    def reached() -> bool:
        site.guest("g-1", "ip address replace 10.9.0.1/24 dev eth0")
        site.guest("g-2", "ip address replace 10.9.0.2/24 dev eth0")
        return site.guest("g-1", "ping -c 5 -W 2 10.9.0.2").returncode == 0

    wait_for(reached, 60, "the guest of the other host")
    assert len({site.hypervisor.console(spec.id).host for spec in specs}) == 2
    with pytest.raises(HypervisorError, match="g-2 is on"):
        site.hypervisor.remove_host(second.uri)


def test_a_host_that_is_down_does_not_take_the_others_with_it(site: Site, second: Libvirtd) -> None:
    second.stop()
    assert [fact.up for fact in site.hypervisor.facts()] == [True, False]
    assert Instance("g-2", "guest", "unknown") in site.hypervisor.instances()
    assert site.hypervisor.power("g-1") == "running"
    # a control plane that starts meanwhile, too
    site.hypervisor.close()
    site.hypervisor = site.driver()
    site.hypervisor.open()
    assert Instance("g-1", "guest", "running") in site.hypervisor.instances()
    second.start()
    assert [fact.up for fact in site.hypervisor.facts()] == [True, True]
    assert Instance("g-2", "guest", "running") in site.hypervisor.instances()


def test_a_host_goes_with_its_bridges(site: Site, second: Libvirtd) -> None:
    for spec in SPECS:
        site.hypervisor.destroy(spec.id)
    site.hypervisor.remove_host(second.uri)
    assert bridge_name("control") not in inside(site.directory / "net2", "ip", "-o", "link")
    assert [fact.url for fact in site.hypervisor.facts()] == [site.daemon.uri]
