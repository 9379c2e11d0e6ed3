from __future__ import annotations

from controlplane.hypervisors.base import Nic
from controlplane.hypervisors.bridges import bridge_name
from controlplane.hypervisors.portfilter.model import Port, port_of
from controlplane.hypervisors.portfilter.render import rulesets

GUEST = Port("02:00:00:00:00:01", "br1", ("10.1.1.5", "10.1.1.6"))
ROUTER = Port("02:00:00:00:00:02", "br1", trusted=True)


def test_a_guest_s_port_is_looked_up_and_an_appliance_s_is_let_through() -> None:
    sets = rulesets({"gh1": GUEST, "gh2": ROUTER})[0].sets
    assert sets["senders"].elements == {'"gh1"': "goto from_guest", '"gh2"': "accept"}
    assert set(sets["ports"].elements) == {'"gh1"', '"gh2"'}
    assert set(sets["guests"].elements) == {'"gh1"'}
    assert set(sets["addresses"].elements) == {
        f'"gh1" . 02:00:00:00:00:01 . {address}' for address in ("0.0.0.0", "10.1.1.5", "10.1.1.6")
    }
    assert set(sets["clients"].elements) == {'"gh1" . 0x020000000001'}


def test_rules_do_not_grow_with_ports_and_every_chain_of_a_guest_ends() -> None:
    [few], [many] = rulesets({}), rulesets({f"gh{number}": GUEST for number in range(100)})
    assert few.rules == many.rules
    assert few.chains == many.chains
    for chain in many.chains:
        if chain.endswith("guest"):
            assert many.rules[chain][-1][1] in ("drop", "accept")
    # what the sets do not know is dropped, what no instance's port is called passes
    assert many.rules["prerouting"][-1][1] == 'iifname "gh*" drop'
    assert many.rules["forward"][0][1] == 'oifname "gh*" oifname != @ports drop'


def test_only_guests_that_are_not_trusted_are_filtered() -> None:
    nic = Nic("02:00:00:00:0A:01", "guest-1", addresses=("10.1.1.5",))
    assert port_of(nic, appliance=False) == Port("02:00:00:00:0a:01", bridge_name("guest-1"), ("10.1.1.5",))
    assert port_of(nic, appliance=True).trusted
    assert port_of(Nic(nic.mac, nic.segment, trusted=True), appliance=False).trusted
    assert not port_of(Nic(nic.mac, nic.segment), appliance=False).trusted
