from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.compute import vms
from controlplane.errors import InUseError, ParameterError, PermissionDeniedError
from controlplane.network import firewall, forwarding, staticnat
from controlplane.network.ports import Ports, Traffic
from controlplane.store.models import Account, FirewallRule, Nic, PortForwardingRule, PublicIp, Vm, Zone
from tests.rows import Rows


def test_the_first_network_is_the_default_one(rows: Rows) -> None:
    one, two = rows.network(name="a"), rows.network(name="b")
    vm = rows.vm(one, two, name="web")
    assert [(nic.network_id, nic.device_id, nic.is_default) for nic in vm.nics] == [
        (one.id, 0, True),
        (two.id, 1, False),
    ]


def test_a_vm_without_a_name_gets_one(rows: Rows) -> None:
    vm = rows.vm(rows.network())
    assert vm.name == vm.display_name == f"VM-{vm.id}"


def test_host_names_are_unique_on_a_network(rows: Rows, session: Session) -> None:
    one, two = rows.network(name="a"), rows.network(name="b")
    rows.vm(one, name="web")
    rows.vm(two, name="web")
    with pytest.raises(ParameterError, match="already exists in the network domain"):
        rows.vm(one, name="WEB")
    assert len(session.scalars(select(Vm)).all()) == 2


def test_renaming(rows: Rows, session: Session) -> None:
    network = rows.network()
    vm, other = rows.vm(network, name="web"), rows.vm(network, name="db")
    with pytest.raises(ParameterError, match="Running"):
        vms.rename(session, vm, "www")
    vm.state = "Stopped"
    with pytest.raises(ParameterError, match="already exists"):
        vms.rename(session, vm, other.name)
    vms.rename(session, vm, "www")
    vms.rename(session, vm, "www")
    assert vm.name == "www"


def test_networks_that_a_vm_cannot_be_on(rows: Rows, session: Session) -> None:
    bob = rows.add(Account(name="bob", domain_id=rows.domain.id))
    network = rows.network()
    with pytest.raises(ParameterError, match="twice"):
        rows.vm(network, network)
    with pytest.raises(PermissionDeniedError, match="may not use"):
        rows.vm(rows.network(account=bob))
    elsewhere = rows.network(name="far")
    elsewhere.zone_id = rows.add(Zone(name="z2", dns1="192.0.2.1", internal_dns1="192.0.2.1")).id
    with pytest.raises(ParameterError, match="another zone"):
        rows.vm(elsewhere)
    with pytest.raises(ParameterError, match="at least one"):
        rows.vm()
    assert not session.scalars(select(Vm)).all()


def test_a_taken_address_leaves_nothing_behind(rows: Rows, session: Session) -> None:
    network = rows.network()
    rows.vm(network, address="10.1.1.9")
    savepoint = session.begin_nested()
    with pytest.raises(InUseError):
        rows.vm(network, address="10.1.1.9")
    savepoint.rollback()
    assert len(session.scalars(select(Vm)).all()) == len(session.scalars(select(Nic)).all()) == 1


def test_expunging_frees_all_a_vm_had(rows: Rows, session: Session) -> None:
    network = rows.network()
    vm, other = rows.vm(network), rows.vm(network)
    forwarded, static = rows.address(network), rows.address(network)
    for nic in (vm.nics[0], other.nics[0]):
        port = 80 if nic is vm.nics[0] else 81
        forwarding.create(
            session,
            address=forwarded,
            nic=nic,
            protocol="tcp",
            public=Ports(port, port),
            private=Ports(80, 80),
            open_firewall=True,
            source_cidrs=[],
        )
    staticnat.enable(session, static, vm.nics[0])
    firewall.create_ingress(session, static, Traffic("tcp", Ports(22, 22)), [])
    assert vms.expunge(session, vm) == [network.id]
    assert vms.expunge(session, vm) == []
    session.expire_all()
    assert vm.removed is not None
    assert not vm.nics
    assert session.scalars(select(PortForwardingRule.nic_id)).all() == [other.nics[0].id]
    assert session.scalars(select(FirewallRule.start_port)).all() == [81]
    assert session.get_one(PublicIp, static.id).static_nat_nic_id is None
    assert rows.vm(network).nics[0].address == "10.1.1.2"


def test_nics_come_and_go(rows: Rows, session: Session) -> None:
    one, two = rows.network(name="a"), rows.network(name="b")
    vm = rows.vm(one)
    with pytest.raises(ParameterError, match="already"):
        vms.check_new_network(session, vm, one)
    assert vms.check_new_network(session, vm, two) is two
    first = vm.nics[0]
    with pytest.raises(ParameterError, match="default"):
        vms.check_nic_removable(session, first)
    both = rows.vm(one, two)
    old, new = both.nics
    staticnat.enable(session, address := rows.address(two), new)
    with pytest.raises(InUseError, match="static NAT"):
        vms.check_nic_removable(session, new)
    staticnat.disable(session, address)
    vms.check_nic_removable(session, new)
    vms.make_default(both, new)
    assert (old.is_default, new.is_default) == (False, True)
    with pytest.raises(ParameterError, match="already"):
        vms.make_default(both, new)


def test_states(rows: Rows) -> None:
    vm = rows.vm(rows.network(), name="web")
    vms.need_state(vm, "Running", to="stop")
    with pytest.raises(ParameterError, match="Unable to start virtual machine web: it is Running, which must be Stop"):
        vms.need_state(vm, "Stopped", to="start")


def test_an_address_of_one_s_choice(rows: Rows) -> None:
    network = rows.network()
    vm = rows.vm(network, address="10.1.1.200")
    assert IPv4Address(vm.nics[0].address) == IPv4Address("10.1.1.200")
