from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from sqlalchemy import select

from controlplane.store.models import AsyncJob, ServiceOffering, Vm
from tests.acting import ActingRuntime, Tenant


def _get(tenant: Tenant, id: str) -> dict[str, Any]:
    [found] = tenant.call("listVirtualMachines", id=id)["virtualmachine"]
    assert isinstance(found, dict)
    return found


def _passwords(acting: ActingRuntime, vm_id: str) -> str | None:
    """What the guest would fetch."""
    with acting.database.reading() as session:
        vm = session.get_one(Vm, vm_id)
        return acting.secrets.open(vm.password) if vm.password else None


def test_deploying(tenant: Tenant, acting: ActingRuntime) -> None:
    network = tenant.network()
    answer = tenant.call(
        "deployVirtualMachine",
        zoneid=tenant.zone,
        templateid=tenant.template,
        serviceofferingid=tenant.size,
        networkids=network["id"],
        name="web1",
        displayname="The web",
        group="front",
    )
    assert set(answer) == {"id", "jobid"}
    vm = _get(tenant, answer["id"])
    assert acting.started == [("deploy_vm", answer["jobid"], {"vm_id": answer["id"]})]
    assert (vm["name"], vm["displayname"], vm["group"], vm["state"]) == ("web1", "The web", "front", "Running")
    [nic] = vm["nic"]
    assert nic["ipaddress"] == "10.1.1.2"
    assert (nic["gateway"], nic["netmask"], nic["isdefault"], nic["deviceid"]) == (
        "10.1.1.1",
        "255.255.255.0",
        True,
        "0",
    )
    assert "password" not in vm


def test_the_types_of_a_vm_s_fields(tenant: Tenant) -> None:
    vm = _get(tenant, tenant.vm(networkids=tenant.network()["id"])["id"])
    kinds: dict[type, str] = {
        bool: "haenable passwordenabled displayvm isdynamicallyscalable",
        int: "cpunumber cpuspeed memory rootdeviceid",
        str: "id name displayname account domain domainid created state zoneid zonename templateid templatename "
        "templatedisplaytext serviceofferingid serviceofferingname guestosid rootdevicetype hypervisor",
        list: "nic securitygroup affinitygroup tags",
    }
    for kind, names in kinds.items():
        for name in names.split():
            assert type(vm[name]) is kind, name
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", vm["created"])


def test_the_password_is_told_once_in_the_job_and_lies_nowhere_readable(tenant: Tenant, acting: ActingRuntime) -> None:
    network = tenant.network()
    vm = tenant.vm(networkids=network["id"])
    assert len(vm["password"]) == 12
    assert _passwords(acting, vm["id"]) == vm["password"]
    with acting.database.reading() as session:
        for job in session.scalars(select(AsyncJob)):
            assert vm["password"] not in json.dumps([job.result, job.completion, job.workflow, job.description])
    assert not any(vm["password"] in json.dumps(started) for started in acting.started)
    job = tenant.call("queryAsyncJobResult", jobid=acting.started[0][1])
    assert job["jobresult"]["virtualmachine"]["password"] == vm["password"]


def test_several_networks_and_fixed_addresses(tenant: Tenant) -> None:
    one, two = tenant.network(name="a"), tenant.network(name="b")
    vm = tenant.vm(networkids=f"{one['id']},{two['id']}", ipaddress="10.1.1.50")
    assert [nic["ipaddress"] for nic in vm["nic"]] == ["10.1.1.50", "10.1.1.2"]
    assert [nic["isdefault"] for nic in vm["nic"]] == [True, False]
    vm = tenant.vm(
        **{
            "iptonetworklist[0].networkid": two["id"],
            "iptonetworklist[0].ip": "10.1.1.60",
            "iptonetworklist[0].mac": "02-AA-BB-CC-DD-EE",
            "iptonetworklist[1].networkid": one["id"],
        }
    )
    assert [(nic["networkid"], nic["ipaddress"]) for nic in vm["nic"]] == [
        (two["id"], "10.1.1.60"),
        (one["id"], "10.1.1.2"),
    ]
    assert vm["nic"][0]["macaddress"] == "02:aa:bb:cc:dd:ee"


def test_without_networks_the_only_one_or_a_new_one_is_used(tenant: Tenant) -> None:
    first = tenant.vm()
    [network] = tenant.call("listNetworks")["network"]
    assert first["nic"][0]["networkid"] == network["id"]
    assert tenant.vm()["nic"][0]["networkid"] == network["id"]
    tenant.network(name="second")
    error = tenant.call.error(
        "deployVirtualMachine", zoneid=tenant.zone, templateid=tenant.template, serviceofferingid=tenant.size
    )
    assert error["errorcode"] == 431
    assert "networkids" in error["errortext"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"name": "1web"}, 431),
        ({"name": "a_b"}, 431),
        ({"name": "x" * 64}, 431),
        ({"name": "taken"}, 431),
        ({"ipaddress": "10.1.1.1"}, 431),
        ({"ipaddress": "10.2.1.1"}, 431),
        ({"ipaddress": "10.1.1.2"}, 536),
        ({"ipaddress": "::1"}, 431),
        ({"macaddress": "01:00:5e:00:00:01"}, 431),
        ({"userdata": "%%%"}, 431),
        ({"userdata": "ä"}, 431),
        ({"userdata": base64.b64encode(b"x" * 32769).decode()}, 431),
        ({"keypair": "unknown"}, 431),
        ({"templateid": "x"}, 431),
        ({"serviceofferingid": "x"}, 431),
        ({"networkids": "x"}, 431),
        ({"zoneid": "x"}, 431),
        ({"hypervisor": "VMware"}, 431),
        ({"account": "nobody", "domainid": "00000000-0000-4000-8000-000000000001"}, 431),
        ({"iptonetworklist[0].networkid": "x"}, 431),
    ],
)
def test_what_is_refused_and_leaves_nothing(tenant: Tenant, params: dict[str, str], code: int) -> None:
    network = tenant.network()
    tenant.vm(networkids=network["id"], name="taken")
    given = {
        "zoneid": tenant.zone,
        "templateid": tenant.template,
        "serviceofferingid": tenant.size,
        "networkids": network["id"],
    }
    assert tenant.call.error("deployVirtualMachine", **(given | params))["errorcode"] == code
    assert tenant.call("listVirtualMachines")["count"] == 1


def test_a_router_s_offering_is_not_for_guests(tenant: Tenant, acting: ActingRuntime) -> None:
    with acting.database.reading() as session:
        system = session.scalars(
            select(ServiceOffering.id).where(ServiceOffering.system_vm_type == "domainrouter")
        ).one()
    given = {"zoneid": tenant.zone, "templateid": tenant.template, "serviceofferingid": system}
    assert tenant.call.error("deployVirtualMachine", **given)["errorcode"] == 431


def test_the_quota(tenant: Tenant, bob: Tenant) -> None:
    tenant.limit("bob", "max.account.user.vms", 1)
    vm = bob.vm()
    given = {"zoneid": bob.zone, "templateid": bob.template, "serviceofferingid": bob.size}
    assert bob.call.error("deployVirtualMachine", **given)["errorcode"] == 532
    bob.run("destroyVirtualMachine", id=vm["id"])
    bob.vm()


def test_not_started(tenant: Tenant, acting: ActingRuntime) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"], startvm=False)
    assert vm["state"] == "Stopped"
    assert vm["password"]
    assert not acting.started
    assert tenant.run("startVirtualMachine", id=vm["id"])["state"] == "Running"


def test_user_data_by_post(tenant: Tenant, acting: ActingRuntime) -> None:
    text = base64.b64encode(bytes(range(256)) * 128).decode()
    vm = tenant.vm(networkids=tenant.network()["id"], userdata=text)
    [shown] = tenant.call("listVirtualMachines", id=vm["id"], userdata=True)["virtualmachine"]
    assert shown["userdata"] == text
    assert "userdata" not in _get(tenant, vm["id"])


def test_power(tenant: Tenant) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    assert tenant.call.error("startVirtualMachine", id=vm["id"])["errorcode"] == 431
    assert tenant.run("rebootVirtualMachine", id=vm["id"])["state"] == "Running"
    assert tenant.run("stopVirtualMachine", id=vm["id"], forced=True)["state"] == "Stopped"
    assert tenant.run("stopVirtualMachine", id=vm["id"])["state"] == "Stopped"
    assert tenant.call.error("rebootVirtualMachine", id=vm["id"])["errorcode"] == 431
    assert tenant.run("startVirtualMachine", id=vm["id"])["state"] == "Running"


def test_a_vm_on_its_way_takes_no_other_order(
    tenant: Tenant, acting: ActingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tenant.network()["id"]
    first, second = (tenant.vm(networkids=network)["id"] for _ in range(2))
    tenant.run("stopVirtualMachine", id=second)
    # workflows take their time
    monkeypatch.setattr(ActingRuntime, "start_workflow", lambda *_: None)
    tenant.call("rebootVirtualMachine", id=first)
    for command in ("stopVirtualMachine", "destroyVirtualMachine", "rebootVirtualMachine"):
        assert "it is Starting" in tenant.call.error(command, id=first)["errortext"]
    tenant.call("destroyVirtualMachine", id=second)
    assert "it is Stopping" in tenant.call.error("startVirtualMachine", id=second)["errortext"]


def test_destroying_recovering_and_expunging(tenant: Tenant) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    assert tenant.run("destroyVirtualMachine", id=vm["id"])["state"] == "Destroyed"
    assert tenant.call.error("startVirtualMachine", id=vm["id"])["errorcode"] == 431
    assert tenant.call("recoverVirtualMachine", id=vm["id"])["virtualmachine"]["state"] == "Stopped"
    assert tenant.call.error("expungeVirtualMachine", id=vm["id"])["errorcode"] == 431
    tenant.run("destroyVirtualMachine", id=vm["id"])
    assert tenant.run("expungeVirtualMachine", id=vm["id"]) == {"success": True}
    assert tenant.call("listVirtualMachines", id=vm["id"]) == {}
    error = tenant.call.error("destroyVirtualMachine", id=vm["id"])
    assert "due to incorrect long value format, or entity does not exist" in error["errortext"]


def test_users_do_not_see_what_they_destroyed_unless_allowed(
    tenant: Tenant, bob: Tenant, acting: ActingRuntime
) -> None:
    vm = bob.vm()
    bob.run("destroyVirtualMachine", id=vm["id"])
    assert bob.call("listVirtualMachines") == {}
    assert tenant.call("listVirtualMachines", id=vm["id"])["count"] == 1
    with acting.database.transaction() as session:
        acting.configuration.set(session, "allow.user.view.destroyed.vm", "true")
    assert bob.call("listVirtualMachines")["count"] == 1


def test_users_may_not_expunge_unless_allowed(tenant: Tenant, bob: Tenant, acting: ActingRuntime) -> None:
    vm = bob.vm()
    assert bob.call.error("destroyVirtualMachine", id=vm["id"], expunge=True)["errorcode"] == 531
    assert _get(bob, vm["id"])["state"] == "Running"
    bob.run("destroyVirtualMachine", id=vm["id"])
    for command in ("recoverVirtualMachine", "expungeVirtualMachine"):
        assert bob.call.error(command, id=vm["id"])["errorcode"] == 531
    with acting.database.transaction() as session:
        acting.configuration.set(session, "allow.user.expunge.recover.vm", "true")
    bob.run("expungeVirtualMachine", id=vm["id"])


def test_a_failed_deployment_tells_why(tenant: Tenant, acting: ActingRuntime) -> None:
    network = tenant.network()
    acting.fail = "no host has room"
    answer = tenant.call(
        "deployVirtualMachine",
        zoneid=tenant.zone,
        templateid=tenant.template,
        serviceofferingid=tenant.size,
        networkids=network["id"],
    )
    job = tenant.call("queryAsyncJobResult", jobid=answer["jobid"])
    assert (job["jobstatus"], job["jobresult"]["errortext"]) == (2, "no host has room")


def test_passwords_and_keys_of_a_stopped_vm(tenant: Tenant, acting: ActingRuntime) -> None:
    tenant.call("createSSHKeyPair", name="k1")
    tenant.call("createSSHKeyPair", name="k2")
    vm = tenant.vm(networkids=tenant.network()["id"], keypair="k1")
    assert vm["keypair"] == "k1"
    for command in ("resetPasswordForVirtualMachine", "resetSSHKeyForVirtualMachine"):
        error = tenant.call.error(command, id=vm["id"], keypair="k2")
        assert error["errorcode"] == 431
        assert "Running" in error["errortext"]
    tenant.run("stopVirtualMachine", id=vm["id"])
    new = tenant.run("resetPasswordForVirtualMachine", id=vm["id"])["password"]
    assert new != vm["password"]
    assert _passwords(acting, vm["id"]) == new
    response = tenant.call.raw("resetSSHKeyForVirtualMachine", id=vm["id"], keypair="k2").json()
    assert list(response) == ["resetSSHKeyforvirtualmachineresponse"]
    shown = _get(tenant, vm["id"])
    assert shown["keypair"] == "k2"
    assert _passwords(acting, vm["id"]) not in (None, new)
    assert tenant.call("listVirtualMachines", keypair="k2")["count"] == 1
    assert tenant.call("listVirtualMachines", keypair="k1") == {}


def test_deleting_a_key_pair_changes_nothing_for_the_guest(tenant: Tenant, acting: ActingRuntime) -> None:
    made = tenant.call("createSSHKeyPair", name="k1")["keypair"]
    assert "PRIVATE KEY" in made["privatekey"]
    vm = tenant.vm(networkids=tenant.network()["id"], keypair="k1")
    assert tenant.call("deleteSSHKeyPair", name="k1") == {"success": "true"}
    assert tenant.call("listSSHKeyPairs") == {}
    with acting.database.reading() as session:
        assert str(session.get_one(Vm, vm["id"]).public_key).startswith("ssh-rsa ")


def test_registering_a_key(tenant: Tenant, bob: Tenant) -> None:
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA test"
    made = tenant.call("registerSSHKeyPair", name="mine", publickey=line)["keypair"]
    assert set(made) >= {"id", "name", "fingerprint", "account", "domain", "domainid"}
    assert "privatekey" not in made
    [listed] = tenant.call("listSSHKeyPairs", name="mine")["sshkeypair"]
    assert listed == made
    assert bob.call("listSSHKeyPairs", listall=True) == {}
    assert tenant.call.error("registerSSHKeyPair", name="mine", publickey=line)["errorcode"] == 431


def test_updating(tenant: Tenant, acting: ActingRuntime) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"], name="web")
    shown = tenant.call("updateVirtualMachine", id=vm["id"], displayname="W", group="g", haenable=True)
    assert (
        shown["virtualmachine"].items() >= {"displayname": "W", "group": "g", "haenable": True, "name": "web"}.items()
    )
    assert not acting.woken
    tenant.call("updateVirtualMachine", id=vm["id"], userdata="aGVsbG8=")
    assert len(acting.woken) == 1
    assert tenant.call.error("updateVirtualMachine", id=vm["id"], name="www")["errorcode"] == 431
    tenant.run("stopVirtualMachine", id=vm["id"])
    assert tenant.call("updateVirtualMachine", id=vm["id"], name="www")["virtualmachine"]["name"] == "www"
    shown = tenant.call("updateVirtualMachine", id=vm["id"], **{"details[0].a": "1", "details[0].b": "2"})
    assert shown["virtualmachine"]["details"] == {"a": "1", "b": "2"}


def test_nics(tenant: Tenant) -> None:
    one, two = tenant.network(name="a"), tenant.network(name="b")
    vm = tenant.vm(networkids=one["id"])
    error = tenant.call.error("addNicToVirtualMachine", virtualmachineid=vm["id"], networkid=one["id"])
    assert error["errorcode"] == 431
    shown = tenant.run("addNicToVirtualMachine", virtualmachineid=vm["id"], networkid=two["id"], ipaddress="10.1.1.77")
    assert [nic["ipaddress"] for nic in shown["nic"]] == ["10.1.1.2", "10.1.1.77"]
    old, new = shown["nic"]
    nics = tenant.call("listNics", virtualmachineid=vm["id"])
    assert nics["count"] == 2
    assert nics["nic"] == shown["nic"]
    error = tenant.call.error("removeNicFromVirtualMachine", virtualmachineid=vm["id"], nicid=old["id"])
    assert "default" in error["errortext"]
    shown = tenant.run("updateDefaultNicForVirtualMachine", virtualmachineid=vm["id"], nicid=new["id"])
    assert [nic["isdefault"] for nic in shown["nic"]] == [False, True]
    shown = tenant.run("removeNicFromVirtualMachine", virtualmachineid=vm["id"], nicid=old["id"])
    assert [nic["id"] for nic in shown["nic"]] == [new["id"]]
    gone = tenant.call.error("removeNicFromVirtualMachine", virtualmachineid=vm["id"], nicid=old["id"])
    assert "entity does not exist" in gone["errortext"]


def test_filters(tenant: Tenant) -> None:
    one, two = tenant.network(name="a"), tenant.network(name="b")
    tenant.call("createSSHKeyPair", name="k")
    web = tenant.vm(networkids=one["id"], name="web", group="front", keypair="k")
    db = tenant.vm(networkids=f"{two['id']},{one['id']}", name="db", startvm=False)
    both = f"{web['id']},{db['id']}"
    for params, names in (
        ({}, {"web", "db"}),
        ({"id": web["id"]}, {"web"}),
        ({"ids": both}, {"web", "db"}),
        ({"name": "we"}, {"web"}),
        ({"keyword": "DB"}, {"db"}),
        ({"state": "Running"}, {"web"}),
        ({"state": "stopped"}, {"db"}),
        ({"state": "Present"}, {"web", "db"}),
        ({"networkid": one["id"]}, {"web", "db"}),
        ({"networkid": two["id"]}, {"db"}),
        ({"zoneid": tenant.zone}, {"web", "db"}),
        ({"templateid": tenant.template}, {"web", "db"}),
        ({"serviceofferingid": "x"}, set()),
        ({"groupid": "front"}, {"web"}),
        ({"keypair": "k"}, {"web"}),
        ({"ipaddress": "10.1.1.3"}, {"db"}),
        ({"hypervisor": "namespace"}, {"web", "db"}),
        ({"hypervisor": "KVM"}, set()),
        ({"vpcid": "x"}, set()),
        ({"haenable": "true"}, set()),
        ({"podid": "x"}, set()),
        ({"details": "nics,tmpl", "listall": "true"}, {"web", "db"}),
        ({"name": "%"}, set()),
    ):
        listed = tenant.call("listVirtualMachines", **params).get("virtualmachine", [])
        assert {vm["name"] for vm in listed} == names, params
    page = tenant.call("listVirtualMachines", page=2, pagesize=1)
    assert page["count"] == 2
    assert [vm["name"] for vm in page["virtualmachine"]] == ["db"]


def test_what_belongs_to_another(tenant: Tenant, bob: Tenant) -> None:
    vm, network = tenant.vm(), bob.network()
    assert bob.call("listVirtualMachines", id=vm["id"]) == {}
    for command, params in (
        ("startVirtualMachine", {"id": vm["id"]}),
        ("destroyVirtualMachine", {"id": vm["id"]}),
        ("updateVirtualMachine", {"id": vm["id"], "displayname": "x"}),
        ("listNics", {"virtualmachineid": vm["id"]}),
        ("addNicToVirtualMachine", {"virtualmachineid": vm["id"], "networkid": network["id"]}),
    ):
        assert bob.call.error(command, **params)["errorcode"] == 531, command
    given = {"zoneid": bob.zone, "templateid": bob.template, "serviceofferingid": bob.size}
    mine = vm["nic"][0]["networkid"]
    assert bob.call.error("deployVirtualMachine", networkids=mine, **given)["errorcode"] == 531
    # an administrator may, but not mix owners
    error = tenant.call.error("deployVirtualMachine", networkids=network["id"], **given)
    assert error["errorcode"] == 531
    for_bob = {"account": "bob", "domainid": bob.call("listVirtualMachines").get("domainid", vm["domainid"])}
    assert tenant.vm(networkids=network["id"], **for_bob)["account"] == "bob"
    assert "instancename" not in bob.call("listVirtualMachines")["virtualmachine"][0]


def test_events(tenant: Tenant) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    tenant.run("stopVirtualMachine", id=vm["id"])
    tenant.run("resetPasswordForVirtualMachine", id=vm["id"])
    tenant.run("startVirtualMachine", id=vm["id"])
    tenant.run("rebootVirtualMachine", id=vm["id"])
    tenant.run("destroyVirtualMachine", id=vm["id"], expunge=True)
    seen = [event for event in tenant.events() if event[0].startswith("VM.")]
    types = ("VM.CREATE", "VM.STOP", "VM.RESETPASSWORD", "VM.START", "VM.REBOOT", "VM.DESTROY")
    assert seen == [(kind, state) for kind in types for state in ("Scheduled", "Completed")]
