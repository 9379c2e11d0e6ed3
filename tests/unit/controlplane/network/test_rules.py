from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError, UnsupportedError
from controlplane.network import addresses, firewall, forwarding, networks, staticnat
from controlplane.network.ports import Ports, Traffic, parse_ports, parse_traffic
from controlplane.store.models import FirewallRule, Nic, PortForwardingRule, PublicIp
from tests.rows import Rows


def _forward(
    session: Session, address: PublicIp, nic: Nic, ports: Ports, protocol: str = "tcp", *, opens: bool = False
) -> PortForwardingRule:
    return forwarding.create(
        session,
        address=address,
        nic=nic,
        protocol=protocol,
        public=ports,
        private=ports,
        open_firewall=opens,
        source_cidrs=[],
    )


# --- what clients give ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [(0, None), (65536, None), (90, 80), (1, 65536), (-1, 5)])
def test_bad_port_ranges(start: int, end: int | None) -> None:
    with pytest.raises(ParameterError):
        parse_ports(start, end, "startport", "endport")


@pytest.mark.parametrize(
    "given",
    [
        {"protocol": "gre"},
        {"protocol": "all"},
        {"protocol": "icmp", "start_port": 1},
        {"protocol": "tcp", "icmp_type": 8},
        {"protocol": "tcp", "end_port": 80},
        {"protocol": "icmp", "icmp_type": -1, "icmp_code": 3},
        {"protocol": "icmp", "icmp_code": 3},
        {"protocol": "icmp", "icmp_type": 256},
        {"protocol": "icmp", "icmp_type": -2},
        {"protocol": ""},
    ],
)
def test_bad_traffic(given: dict[str, object]) -> None:
    protocol = str(given.pop("protocol"))
    with pytest.raises(ParameterError):
        parse_traffic(protocol, firewall.INGRESS_PROTOCOLS, **given)  # type: ignore[arg-type]


def test_traffic_in_normal_form() -> None:
    allowed = firewall.EGRESS_PROTOCOLS
    assert parse_traffic("TCP", allowed, start_port=80) == Traffic("tcp", Ports(80, 80))
    assert parse_traffic("17", allowed) == Traffic("udp")
    assert parse_traffic("icmp", allowed, icmp_type=-1, icmp_code=-1) == Traffic("icmp")
    assert parse_traffic("ICMP", allowed, icmp_type=8, icmp_code=-1) == Traffic("icmp", icmp_type=8)
    assert parse_traffic("all", allowed) == Traffic("all")


# --- port forwarding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ports", [Ports(80, 80), Ports(79, 80), Ports(85, 85), Ports(90, 95), Ports(1, 65535)])
def test_overlapping_forwards_are_refused_and_nothing_changes(rows: Rows, session: Session, ports: Ports) -> None:
    network = rows.network()
    address, nic = rows.address(network), rows.nic(network)
    _forward(session, address, nic, Ports(80, 90))
    with pytest.raises(RuleConflictError):
        _forward(session, address, nic, ports, opens=True)
    assert len(session.scalars(select(PortForwardingRule)).all()) == 1
    assert not session.scalars(select(FirewallRule)).all()


def test_the_same_ports_of_another_protocol_or_address_are_free(rows: Rows, session: Session) -> None:
    network = rows.network()
    address, nic = rows.address(network), rows.nic(network)
    _forward(session, address, nic, Ports(80, 90))
    _forward(session, address, nic, Ports(80, 90), "udp")
    _forward(session, rows.address(network), nic, Ports(80, 90))
    _forward(session, address, nic, Ports(91, 91))
    _forward(session, address, nic, Ports(79, 79))


def test_a_revoked_rule_is_in_nobody_s_way(rows: Rows, session: Session) -> None:
    network = rows.network()
    address, nic = rows.address(network), rows.nic(network)
    first = _forward(session, address, nic, Ports(80, 80), opens=True)
    forwarding.revoke(session, first)
    second = _forward(session, address, nic, Ports(80, 80), opens=True)
    forwarding.remove(session, first.id)
    assert session.scalars(select(PortForwardingRule.id)).all() == [second.id]
    assert session.scalars(select(FirewallRule.port_forwarding_rule_id)).all() == [second.id]


def test_removing_a_rule_that_was_not_revoked_does_nothing(rows: Rows, session: Session) -> None:
    network = rows.network()
    rule = _forward(session, rows.address(network), rows.nic(network), Ports(80, 80), opens=True)
    forwarding.remove(session, rule.id)
    assert session.scalars(select(PortForwardingRule.id)).all() == [rule.id]
    assert len(session.scalars(select(FirewallRule)).all()) == 1


def test_ranges_of_different_length(rows: Rows, session: Session) -> None:
    network = rows.network()
    with pytest.raises(ParameterError):
        forwarding.create(
            session,
            address=rows.address(network),
            nic=rows.nic(network),
            protocol="tcp",
            public=Ports(80, 90),
            private=Ports(80, 80),
            open_firewall=False,
            source_cidrs=[],
        )


def test_opening_the_firewall_uses_a_rule_that_is_there(rows: Rows, session: Session) -> None:
    network = rows.network()
    address, nic = rows.address(network), rows.nic(network)
    firewall.create_ingress(session, address, Traffic("tcp", Ports(80, 80)), [])
    _forward(session, address, nic, Ports(80, 80), opens=True)
    assert len(session.scalars(select(FirewallRule)).all()) == 1


def test_a_vm_that_is_not_on_the_network(rows: Rows, session: Session) -> None:
    network, vm = rows.network(), rows.vm(rows.network(name="other"))
    with pytest.raises(ParameterError, match="not on network"):
        forwarding.target_on(session, vm, network)


def test_a_vm_that_is_gone_or_has_another_address(rows: Rows, session: Session) -> None:
    network = rows.network()
    vm = rows.vm(network)
    with pytest.raises(ParameterError, match="vmguestip"):
        forwarding.target_on(session, vm, network, "10.1.1.77")
    vm.state = "Destroyed"
    with pytest.raises(ParameterError, match="destroyed"):
        forwarding.target_on(session, vm, network)


def test_a_network_without_the_service(rows: Rows, session: Session) -> None:
    services: dict[str, object] = {"Dhcp": {}, "SourceNat": {}}
    network = rows.network(offering=rows.network_offering("bare", services=services))
    address, nic = rows.address(network), rows.nic(network)
    with pytest.raises(UnsupportedError):
        _forward(session, address, nic, Ports(80, 80))
    with pytest.raises(UnsupportedError):
        firewall.create_ingress(session, address, Traffic("tcp"), [])
    with pytest.raises(UnsupportedError):
        staticnat.enable(session, address, nic)


_ranges = st.tuples(st.integers(1, 40), st.integers(0, 8)).map(lambda pair: Ports(pair[0], pair[0] + pair[1]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_ranges, st.sampled_from(["tcp", "udp"]), st.booleans()), max_size=25))
def test_overlaps_are_found_as_by_comparing_every_pair(rows: Rows, steps: list[tuple[Ports, str, bool]]) -> None:
    session = rows.session
    with session.begin_nested() as savepoint:
        network = rows.network()
        address, nic = rows.address(network), rows.nic(network)
        kept: list[tuple[set[int], str, PortForwardingRule]] = []
        for ports, protocol, revokes in steps:
            if revokes and kept:
                forwarding.revoke(session, kept.pop(0)[2])
                continue
            numbers = set(range(ports.first, ports.last + 1))
            clashes = any(protocol == other and numbers & taken for taken, other, _ in kept)
            try:
                kept.append((numbers, protocol, _forward(session, address, nic, ports, protocol)))
                assert not clashes
            except RuleConflictError:
                assert clashes
        savepoint.rollback()


# --- firewall ------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), _ranges),
            st.sampled_from(["tcp", "udp"]),
            st.sets(st.sampled_from(["0.0.0.0/0", "192.0.2.0/24", "203.0.113.0/24"]), min_size=1),
        ),
        max_size=25,
    )
)
def test_firewall_conflicts_are_found_as_by_comparing_every_pair(
    rows: Rows, steps: list[tuple[Ports | None, str, set[str]]]
) -> None:
    session = rows.session
    with session.begin_nested() as savepoint:
        address = rows.address(rows.network())
        kept: list[tuple[set[int], str, set[str]]] = []
        for ports, protocol, sources in steps:
            numbers = set(range(ports.first, ports.last + 1)) if ports else set(range(1, 60))
            clashes = any(p == protocol and numbers & taken and sources & theirs for taken, p, theirs in kept)
            try:
                firewall.create_ingress(session, address, Traffic(protocol, ports), sorted(sources))
                assert not clashes
                kept.append((numbers, protocol, sources))
            except RuleConflictError:
                assert clashes
        savepoint.rollback()


def test_icmp_rules_conflict_only_with_their_like(rows: Rows, session: Session) -> None:
    address = rows.address(rows.network())
    for traffic in (Traffic("icmp"), Traffic("icmp", icmp_type=8), Traffic("icmp", icmp_type=8, icmp_code=0)):
        firewall.create_ingress(session, address, traffic, [])
        with pytest.raises(RuleConflictError):
            firewall.create_ingress(session, address, traffic, [])


def test_egress_sources_must_be_within_the_network(rows: Rows, session: Session) -> None:
    network = rows.network()
    for outside in ("10.1.2.0/24", "10.1.0.0/16", "192.168.0.0/24"):
        with pytest.raises(ParameterError, match="not within"):
            firewall.create_egress(session, network, Traffic("all"), ["10.1.1.0/25", outside], [])
    assert not session.scalars(select(FirewallRule)).all()
    firewall.create_egress(session, network, Traffic("tcp"), ["0.0.0.0/0"], [])
    rule = firewall.create_egress(session, network, Traffic("udp"), [], [])
    assert rule.source_cidrs == [network.cidr]


def test_egress_rules_to_different_destinations_stand_side_by_side(rows: Rows, session: Session) -> None:
    network = rows.network()
    traffic = Traffic("tcp", Ports(443, 443))
    firewall.create_egress(session, network, traffic, [], ["192.0.2.0/24"])
    firewall.create_egress(session, network, traffic, [], ["203.0.113.0/24"])
    firewall.create_egress(session, network, traffic, ["10.1.1.0/25"], ["192.0.2.0/24"])
    with pytest.raises(RuleConflictError):
        firewall.create_egress(session, network, Traffic("tcp"), [], ["203.0.113.0/24", "198.51.100.0/24"])


# --- static NAT and addresses --------------------------------------------------------------------------------


def test_static_nat_and_forwarding_exclude_each_other(rows: Rows, session: Session) -> None:
    network = rows.network()
    one, two, nic = rows.address(network), rows.address(network), rows.nic(network)
    _forward(session, one, nic, Ports(80, 80))
    with pytest.raises(RuleConflictError, match="port forwarding"):
        staticnat.enable(session, one, nic)
    assert staticnat.enable(session, two, nic)
    with pytest.raises(RuleConflictError, match="static NAT"):
        _forward(session, two, nic, Ports(80, 80))


def test_static_nat_is_one_to_one(rows: Rows, session: Session) -> None:
    network = rows.network()
    one, two, nic, other = rows.address(network), rows.address(network), rows.nic(network), rows.nic(network)
    assert staticnat.enable(session, one, nic)
    assert not staticnat.enable(session, one, nic)
    with pytest.raises(RuleConflictError):
        staticnat.enable(session, one, other)
    with pytest.raises(RuleConflictError):
        staticnat.enable(session, two, nic)
    staticnat.disable(session, one)
    assert staticnat.enable(session, two, nic)


def test_static_nat_needs_another_address_than_source_nat(rows: Rows, session: Session) -> None:
    network = rows.network()
    source = addresses.ensure_source_nat(session, network)
    assert source is not None
    with pytest.raises(ParameterError, match="source NAT"):
        staticnat.enable(session, source, rows.nic(network))


def test_static_nat_to_a_guest_of_another_network(rows: Rows, session: Session) -> None:
    with pytest.raises(ParameterError, match="not on network"):
        staticnat.enable(session, rows.address(rows.network()), rows.nic(rows.network(name="other")))


def test_disabling_static_nat_closes_what_was_open(rows: Rows, session: Session) -> None:
    network = rows.network()
    address = rows.address(network)
    staticnat.enable(session, address, rows.nic(network))
    firewall.create_ingress(session, address, Traffic("tcp", Ports(22, 22)), [])
    staticnat.disable(session, address)
    session.expire_all()
    assert session.scalars(select(FirewallRule.state)).all() == ["Revoke"]
    addresses.remove_revoked(session, address.id)
    assert not session.scalars(select(FirewallRule)).all()
    with pytest.raises(ParameterError):
        staticnat.disable(session, address)


def test_the_first_address_of_a_network_is_its_source_nat_address(rows: Rows, session: Session) -> None:
    network = rows.network()
    first = addresses.associate(session, network, None)
    second = addresses.associate(session, network, None)
    assert (first.is_source_nat, second.is_source_nat) == (True, False)
    assert addresses.ensure_source_nat(session, network) is first
    with pytest.raises(ParameterError, match="source NAT"):
        addresses.release(session, first)


def test_releasing_an_address_takes_its_rules_along(rows: Rows, session: Session) -> None:
    network = rows.network()
    address, nic = rows.address(network), rows.nic(network)
    _forward(session, address, nic, Ports(80, 80), opens=True)
    firewall.create_ingress(session, address, Traffic("icmp"), [])
    addresses.release(session, address)
    with pytest.raises(ParameterError, match="releasing"):
        _forward(session, address, nic, Ports(81, 81))
    session.expire_all()
    addresses.finish_release(session, address.id)
    for model in (PortForwardingRule, FirewallRule):
        assert not session.scalars(select(model)).all()
    assert session.get(PublicIp, address.id) is None
    addresses.finish_release(session, address.id)


def test_a_network_that_is_being_deleted_takes_no_rule(rows: Rows) -> None:
    address = rows.address(rows.network())
    assert address.network is not None
    networks.begin_delete(rows.session, address.network)
    with pytest.raises(ParameterError, match="is being deleted"):
        firewall.create_ingress(rows.session, address, Traffic("tcp"), [])
