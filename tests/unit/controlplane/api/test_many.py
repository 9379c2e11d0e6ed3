"""Many rules in place, and many callers at once."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from controlplane.compute import keypairs
from controlplane.store.models import FirewallRule, Nic, PortForwardingRule, new_id, now
from tests.acting import ActingRuntime, Tenant

RULES = 10_000


@pytest.fixture
def busy(tenant: Tenant, acting: ActingRuntime) -> dict[str, Any]:
    """The address and the guest of a network with 10,000 forwards, each with its firewall rule."""
    network = tenant.network()
    vm = tenant.vm(networkids=network["id"])
    address = tenant.address(network["id"])
    common = {"created": now(), "network_id": network["id"], "public_ip_id": address["id"], "state": "Active"}
    with acting.database.transaction() as session:
        nic = session.scalars(select(Nic.id)).one()
        ports = [1000 + 2 * number for number in range(RULES)]
        session.execute(
            insert(PortForwardingRule),
            [
                {
                    "id": new_id(),
                    "nic_id": nic,
                    "protocol": "tcp",
                    "public_port": port,
                    "public_end_port": port,
                    "private_port": 80,
                    "private_end_port": 80,
                    **common,
                }
                for port in ports
            ],
        )
        session.execute(
            insert(FirewallRule),
            [
                {
                    "id": new_id(),
                    "traffic_type": "Ingress",
                    "protocol": "tcp",
                    "start_port": port,
                    "end_port": port,
                    "source_cidrs": ["0.0.0.0/0"],
                    "destination_cidrs": [],
                    **common,
                }
                for port in ports
            ],
        )
    return {"ipaddressid": address["id"], "virtualmachineid": vm["id"], "protocol": "tcp", "privateport": 80}


def test_a_rule_more_reads_few_rows(tenant: Tenant, busy: dict[str, Any]) -> None:
    read: list[str] = []

    def note(target: object, _context: object) -> None:
        read.append(type(target).__name__)

    for model in (PortForwardingRule, FirewallRule):
        event.listen(model, "load", note)
    try:
        for port in (999, 20_001, 20_999, 65_535):
            tenant.run("createPortForwardingRule", publicport=port, openfirewall=True, **busy)
        for port in (1000, 20_998):
            assert tenant.call.error("createPortForwardingRule", publicport=port, **busy)["errorcode"] == 537
    finally:
        for model in (PortForwardingRule, FirewallRule):
            event.remove(model, "load", note)
    assert len(read) < 40


def test_a_list_without_pages_of_more_rows_than_a_query_takes_ids(tenant: Tenant, busy: dict[str, Any]) -> None:
    everything = tenant.call("listPortForwardingRules", pagesize=-1)
    assert everything["count"] == len(everything["portforwardingrule"]) == RULES


def test_callers_at_once_never_get_the_same_address(tenant: Tenant) -> None:
    network = tenant.network()
    with ThreadPoolExecutor(8) as pool:
        vms = list(pool.map(lambda number: tenant.vm(networkids=network["id"], name=f"n{number}"), range(16)))
        addresses = list(pool.map(lambda _: tenant.address(network["id"]), range(16)))
    assert len({vm["nic"][0]["ipaddress"] for vm in vms}) == 16
    assert len({vm["nic"][0]["macaddress"] for vm in vms}) == 16
    assert len({address["ipaddress"] for address in addresses}) == 16


def test_callers_at_once_never_pass_a_limit(tenant: Tenant, bob: Tenant) -> None:
    network = bob.network()
    tenant.limit("bob", "max.account.public.ips", 3)

    def ask(_: int) -> int:
        return bob.call.raw("associateIpAddress", networkid=network["id"]).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [200] * 3 + [532] * 5


def test_tags_go_with_what_had_them(tenant: Tenant) -> None:
    network = tenant.network()
    vm = tenant.vm(networkids=network["id"])
    address = tenant.address(network["id"])
    rule = tenant.run(
        "createPortForwardingRule",
        ipaddressid=address["id"],
        virtualmachineid=vm["id"],
        protocol="tcp",
        publicport=80,
        privateport=80,
    )
    for kind, id in (
        ("Network", network["id"]),
        ("UserVm", vm["id"]),
        ("PublicIpAddress", address["id"]),
        ("PortForwardingRule", rule["id"]),
    ):
        tenant.run("createTags", resourceids=id, resourcetype=kind, **{"tags[0].key": "k", "tags[0].value": "v"})
    assert tenant.call("listVirtualMachines", id=vm["id"])["virtualmachine"][0]["tags"][0]["value"] == "v"
    assert tenant.call("listPortForwardingRules", **{"tags[0].key": "k", "tags[0].value": "v"})["count"] == 1
    assert tenant.call("listNetworks", **{"tags[0].key": "k", "tags[0].value": "w"}) == {}
    tenant.run("destroyVirtualMachine", id=vm["id"], expunge=True)
    tenant.run("deleteNetwork", id=network["id"])
    assert tenant.call("listTags") == {}


def test_making_a_key_keeps_nobody_from_writing(
    tenant: Tenant, acting: ActingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = []

    def generate() -> tuple[str, str]:
        with sqlite3.connect(acting.database.engine.url.database or "", timeout=0, isolation_level=None) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                free.append(True)
            except sqlite3.OperationalError:
                free.append(False)
        return made

    made = keypairs.generate()
    monkeypatch.setattr(keypairs, "generate", generate)
    pair = tenant.call("createSSHKeyPair", name="k")["keypair"]
    assert free == [True]
    assert pair["privatekey"] == made[0]
    assert tenant.call("listSSHKeyPairs", id=pair["id"])["sshkeypair"][0]["fingerprint"] == pair["fingerprint"]
    assert ("REGISTER.SSH.KEYPAIR", "Completed") in tenant.events()
    assert tenant.call.error("createSSHKeyPair", name="k")["errorcode"] == 431
