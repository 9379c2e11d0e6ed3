from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.compute import vms
from controlplane.errors import InUseError, ParameterError
from controlplane.network import addresses, firewall, forwarding, limits, networks
from controlplane.network.ports import Ports, Traffic
from controlplane.store.models import FirewallRule, PortForwardingRule, PublicIp
from tests.rows import Rows


def test_networks_of_one_account_may_have_the_same_addresses(rows: Rows) -> None:
    one, two = rows.network(name="a"), rows.network(name="b")
    assert one.cidr == two.cidr == "10.1.1.0/24"
    assert rows.nic(one).address == rows.nic(two).address == "10.1.1.2"


def test_where_the_domain_comes_from(rows: Rows) -> None:
    made_up = rows.network().network_domain
    assert made_up == f"cs{rows.account.id.split('-')[-1]}.cloud.internal"
    rows.zone.domain = "zone.example"
    assert rows.network().network_domain == "zone.example"
    rows.account.network_domain = "alice.example"
    assert rows.network().network_domain == "alice.example"
    assert rows.network(network_domain="own.example").network_domain == "own.example"
    with pytest.raises(ParameterError):
        rows.network(network_domain="not a domain")


@pytest.mark.parametrize(
    "values",
    [{"state": "Disabled"}, {"guest_ip_type": "Shared"}, {"for_vpc": True}, {"traffic_type": "Public"}],
)
def test_offerings_that_do_not_fit(rows: Rows, values: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        rows.network(offering=rows.network_offering("x", **values))


def test_a_basic_zone_has_no_isolated_networks(rows: Rows) -> None:
    rows.zone.network_type = "Basic"
    with pytest.raises(ParameterError):
        rows.network()


def test_a_network_with_a_guest_cannot_be_deleted(rows: Rows, session: Session) -> None:
    network = rows.network()
    vm = rows.vm(network)
    for state in ("Running", "Stopped", "Destroyed"):
        vm.state = state
        with pytest.raises(InUseError, match=vm.name):
            networks.begin_delete(session, network)
    assert network.state == "Allocated"
    vms.expunge(session, vm)
    networks.begin_delete(session, network)
    assert network.state == "Destroy"
    for refused in (lambda: addresses.associate(session, network, None), lambda: rows.vm(network)):
        with pytest.raises(ParameterError):
            refused()


def test_deleting_a_network_frees_all_it_had(rows: Rows, session: Session) -> None:
    network, other = rows.network(), rows.network(name="other")
    vm = rows.vm(network)
    address, keep = rows.address(network), rows.address(other)
    forwarding.create(
        session,
        address=address,
        nic=vm.nics[0],
        protocol="tcp",
        public=Ports(1, 1),
        private=Ports(1, 1),
        open_firewall=True,
        source_cidrs=[],
    )
    firewall.create_ingress(session, keep, Traffic("icmp"), [])
    firewall.create_egress(session, network, Traffic("all"), [], [])
    vms.expunge(session, vm)
    networks.begin_delete(session, network)
    networks.finish_delete(session, network.id)
    networks.finish_delete(session, network.id)
    assert network.removed is not None
    assert not session.scalars(select(PortForwardingRule)).all()
    assert session.scalars(select(FirewallRule.network_id)).all() == [other.id]
    assert set(session.scalars(select(PublicIp.network_id))) == {other.id}


def test_an_offering_that_lacks_what_is_used(rows: Rows, session: Session) -> None:
    network = rows.network()
    bare = rows.network_offering("bare", services={"Dhcp": {}, "SourceNat": {}})
    networks.check_offering_change(session, network, bare)
    firewall.create_egress(session, network, Traffic("all"), [], [])
    with pytest.raises(ParameterError, match="Firewall"):
        networks.check_offering_change(session, network, bare)
    with pytest.raises(ParameterError):
        networks.check_offering_change(session, network, rows.network_offering("tagged", tags="x"))
    with pytest.raises(ParameterError):
        networks.check_offering_change(session, network, rows.network_offering("off", state="Disabled"))


def test_idle_since_follows_the_guests(rows: Rows, session: Session) -> None:
    network = rows.network()
    vm = rows.vm(network)
    networks.mark_idle(session, [network.id])
    session.refresh(network)
    assert network.idle_since is None
    vm.state = "Stopped"
    session.flush()
    networks.mark_idle(session, [network.id])
    session.refresh(network)
    first = network.idle_since
    assert first is not None
    networks.mark_idle(session, [network.id])
    session.refresh(network)
    assert network.idle_since == first
    vm.state = "Starting"
    session.flush()
    networks.mark_idle(session, [network.id])
    session.refresh(network)
    assert network.idle_since is None


def test_what_counts_against_limits(rows: Rows, session: Session) -> None:
    network = rows.network()
    rows.address(network)
    vm = rows.vm(network)
    used = [limits.used(session, rows.account, name) for name in (limits.VMS, limits.PUBLIC_IPS, limits.NETWORKS)]
    assert used == [1, 2, 1]
    vm.state = "Destroyed"
    session.flush()
    assert limits.used(session, rows.account, limits.VMS) == 0
    with pytest.raises(ValueError, match="nothing is counted"):
        limits.used(session, rows.account, "max.account.gold")
