"""Accounts, zones, ranges, offerings, templates, events, settings, tags and jobs through the API."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.store.models import Template
from tests.control import Caller, FakeRuntime, caller_for

PERSON = {"password": "secret", "email": "e@example.org", "firstname": "F", "lastname": "L"}


def _event_types(admin: Caller) -> list[str]:
    return [row["type"] for row in admin("listEvents", listall=True).get("event", [])]


def test_accounts_users_and_domains(admin: Caller) -> None:
    domain = admin("createDomain", name="sales")["domain"]
    assert (domain["path"], domain["level"], domain["parentdomainname"]) == ("ROOT/sales", 1, "ROOT")
    account = admin("createAccount", username="alice", account="acme", domainid=domain["id"], **PERSON)["account"]
    assert (account["name"], account["domainpath"], account["accounttype"]) == ("acme", "ROOT/sales", 0)
    assert (account["vmlimit"], account["vmtotal"], account["networkavailable"]) == ("20", 0, "20")
    [user] = account["user"]
    assert user["username"] == "alice" and "secretkey" not in user and "password" not in user
    keys = admin("registerUserKeys", id=user["id"])["userkeys"]
    assert admin("getUserKeys", id=user["id"])["userkeys"] == keys
    assert admin("getUser", userapikey=keys["apikey"])["user"]["username"] == "alice"
    assert admin.error("deleteDomain", id=domain["id"])["errorcode"] == 536
    assert (
        admin.error("createUser", username="alice", account="acme", domainid=domain["id"], **PERSON)["errorcode"] == 431
    )
    second = admin("createUser", username="ann", account="acme", domainid=domain["id"], **PERSON)["user"]
    assert admin("deleteUser", id=second["id"]) == {"success": "true"}
    assert admin("listUsers", username="ann") == {}
    assert admin("updateDomain", id=domain["id"], name="trade")["domain"]["path"] == "ROOT/trade"
    admin("deleteAccount", id=account["id"])
    admin("deleteDomain", id=domain["id"])
    assert admin("listDomains")["count"] == 1
    # what is gone can be made again
    admin("createDomain", name="trade")
    assert {"DOMAIN.CREATE", "ACCOUNT.CREATE", "USER.CREATE", "ACCOUNT.DELETE"} <= set(_event_types(admin))


def _administrator(admin: Caller, runtime: FakeRuntime, domain: str, name: str) -> Caller:
    """An administrator of a domain."""
    made = admin("createAccount", username=name, domainid=domain, accounttype=2, **PERSON)
    return caller_for(runtime, admin.http, made["account"]["user"][0]["id"])


def test_domains_that_differ_in_case_are_two(admin: Caller, runtime: FakeRuntime) -> None:
    small, large = (admin("createDomain", name=name)["domain"]["id"] for name in ("acme", "ACME"))
    below = admin("createDomain", name="x", parentdomainid=large)["domain"]["id"]
    admin("createAccount", username="victim", domainid=below, **PERSON)
    caller = _administrator(admin, runtime, small, "dora")
    assert [row["id"] for row in caller("listDomains")["domain"]] == [small]
    assert [row["name"] for row in caller("listAccounts", listall=True)["account"]] == ["dora"]
    assert [row["username"] for row in caller("listUsers", listall=True)["user"]] == ["dora"]
    admin("updateDomain", id=small, name="other")
    assert admin("listDomains", id=below)["domain"][0]["path"] == "ROOT/ACME/x"


def test_a_domain_administrator_sees_no_root_administrators(admin: Caller, runtime: FakeRuntime) -> None:
    root = admin("listDomains", name="ROOT")["domain"][0]["id"]
    zone = admin("listZones")["zone"][0]["id"]
    admin("createPhysicalNetwork", name="p2", zoneid=zone)
    caller = _administrator(admin, runtime, root, "dora")
    assert [row["username"] for row in caller("listUsers", listall=True)["user"]] == ["dora"]
    assert caller("listAsyncJobs", listall=True) == {}


def test_the_administrator_cannot_lock_everybody_out(admin: Caller) -> None:
    user = admin("listUsers")["user"][0]
    for command, id in (("deleteUser", user["id"]), ("disableUser", user["id"]), ("deleteAccount", user["accountid"])):
        assert admin.error(command, id=id)["errorcode"] == 531
    assert admin.error("deleteDomain", id=user["domainid"])["errorcode"] == 531


ZONE = {"name": "z2", "networktype": "Advanced", "dns1": "192.0.2.53", "internaldns1": "192.0.2.54"}


def test_zones(admin: Caller) -> None:
    zone = admin("createZone", **ZONE)["zone"]
    assert (zone["guestcidraddress"], zone["allocationstate"]) == ("10.1.1.0/24", "Enabled")
    assert admin("listZones", id=zone["id"])["zone"] == [zone]
    changed = admin("updateZone", id=zone["id"], dns2="192.0.2.55", allocationstate="disabled")["zone"]
    assert (changed["dns2"], changed["allocationstate"]) == ("192.0.2.55", "Disabled")
    assert admin("deleteZone", id=zone["id"]) == {"success": "true"}
    assert "does not exist" in admin.error("listZones", id=zone["id"])["errortext"]
    assert admin.error("deleteZone", id=admin("listZones")["zone"][0]["id"])["errorcode"] == 536


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "zone1"}, 431),
        ({"dns1": "resolver.example"}, 431),
        ({"guestcidraddress": "10.0.0.0/8"}, 431),
        ({"networktype": "x"}, 431),
        ({"domain": "a..b"}, 431),
    ],
)
def test_bad_zones(admin: Caller, change: dict[str, str], code: int) -> None:
    assert admin.error("createZone", **(ZONE | change))["errorcode"] == code
    assert admin("listZones")["count"] == 1


def _range(admin: Caller, **change: Any) -> dict[str, Any]:
    zone = admin("listZones")["zone"][0]["id"]
    given = {
        "startip": "198.51.100.10",
        "endip": "198.51.100.20",
        "gateway": "198.51.100.1",
        "netmask": "255.255.255.0",
    }
    return {"zoneid": zone, "vlan": "100"} | given | change


def test_public_ranges(admin: Caller) -> None:
    made = admin("createVlanIpRange", **_range(admin))["vlan"]
    assert (made["vlan"], made["cidr"], made["endip"]) == ("vlan://100", "198.51.100.0/24", "198.51.100.20")
    assert admin("listVlanIpRanges")["count"] == 2
    assert admin("listVlanIpRanges", vlan=100)["vlaniprange"] == [made]
    more = admin("createVlanIpRange", **_range(admin, startip="198.51.100.21", endip="198.51.100.30"))["vlan"]
    for row in (made, more):
        assert admin("deleteVlanIpRange", id=row["id"]) == {"success": "true"}
    assert admin("listVlanIpRanges")["count"] == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"startip": "198.51.101.10"}, 431),
        ({"endip": "198.51.100.9"}, 431),
        ({"startip": "198.51.100.1"}, 431),
        ({"startip": "198.51.100.0"}, 431),
        ({"gateway": "198.51.100.255"}, 431),
        ({"netmask": "255.0.255.0"}, 431),
        ({"netmask": "-1"}, 431),
        ({"vlan": "4095"}, 431),
        ({"vlan": "x"}, 431),
        ({"startip": "203.0.113.250", "endip": "203.0.113.251", "gateway": "203.0.113.1"}, 537),
        # the default range's subnet, but on another VLAN
        ({"startip": "203.0.113.252", "endip": "203.0.113.253", "gateway": "203.0.113.1"}, 537),
        ({"forvirtualnetwork": "false"}, 431),
        ({"zoneid": "x"}, 431),
    ],
)
def test_bad_public_ranges(admin: Caller, change: dict[str, str], code: int) -> None:
    assert admin.error("createVlanIpRange", **_range(admin, **change))["errorcode"] == code
    assert admin("listVlanIpRanges")["count"] == 1


def test_infrastructure(admin: Caller) -> None:
    host = admin("listHosts", type="Routing")["host"][0]
    assert (host["cpunumber"], host["memorytotal"], host["zonename"]) == (4, 8 << 30, "zone1")
    assert admin("listHypervisors")["hypervisor"] == [{"name": "Namespace"}]
    [cluster] = admin("listClusters", zoneid=host["zoneid"])["cluster"]
    assert cluster["podname"] == admin("listPods")["pod"][0]["name"]
    physical = admin("listPhysicalNetworks", zoneid=host["zoneid"])["physicalnetwork"][0]["id"]
    kinds = admin("listTrafficTypes", physicalnetworkid=physical)["traffictype"]
    assert [kind["traffictype"] for kind in kinds] == ["Management", "Public", "Guest", "Storage"]
    pod = {"name": "p2", "zoneid": host["zoneid"], "gateway": "192.0.2.1", "netmask": "255.255.255.0"}
    assert admin("createPod", startip="192.0.2.9", **pod)["pod"]["endip"] == ["192.0.2.9"]


def test_service_offerings(admin: Caller) -> None:
    made = admin("createServiceOffering", name="big", cpunumber=2, memory=2048, networkrate=0)["serviceoffering"]
    assert (made["displaytext"], made["cpuspeed"], made["networkrate"]) == ("big", 1000, 0)
    assert admin("updateServiceOffering", id=made["id"], displaytext="Big")["serviceoffering"]["displaytext"] == "Big"
    assert admin("deleteServiceOffering", id=made["id"]) == {"success": "true"}
    assert {row["name"] for row in admin("listServiceOfferings")["serviceoffering"]} == {
        "Small Instance",
        "Medium Instance",
    }
    [router] = admin("listServiceOfferings", issystem=True, systemvmtype="domainrouter")["serviceoffering"]
    assert router["systemvmtype"] == "domainrouter"
    assert admin.error("deleteServiceOffering", id=router["id"])["errorcode"] == 431


OFFERING = {"name": "o", "guestiptype": "isolated", "supportedservices": ["Dhcp", "dns", "SourceNat", "Firewall"]}


def test_network_offerings(admin: Caller) -> None:
    names = {row["name"] for row in admin("listNetworkOfferings")["networkoffering"]}
    assert "DefaultIsolatedNetworkOfferingWithSourceNatService" in names and len(names) == 5
    made = admin(
        "createNetworkOffering",
        **OFFERING,
        ispersistent=True,
        **{
            "serviceproviderlist[0].service": "Dhcp",
            "serviceproviderlist[0].provider": "VirtualRouter",
            "servicecapabilitylist[0].service": "SourceNat",
            "servicecapabilitylist[0].capabilitytype": "SupportedSourceNatTypes",
            "servicecapabilitylist[0].capabilityvalue": "peraccount",
        },
    )["networkoffering"]
    assert (made["state"], made["ispersistent"], made["egressdefaultpolicy"]) == ("Disabled", True, False)
    assert [service["name"] for service in made["service"]] == ["Dhcp", "Dns", "SourceNat", "Firewall"]
    assert admin("updateNetworkOffering", id=made["id"], state="Enabled")["networkoffering"]["state"] == "Enabled"
    found = admin("listNetworkOfferings", supportedservices=["StaticNat"], state="Enabled")["networkoffering"]
    assert made["id"] not in {row["id"] for row in found} and len(found) == 3
    assert admin("deleteNetworkOffering", id=made["id"]) == {"success": "true"}
    assert admin.error("deleteNetworkOffering", id=found[0]["id"])["errorcode"] == 431


@pytest.mark.parametrize(
    ("change", "code"),
    [
        # a shared network has no source NAT, and its addresses are given
        ({"guestiptype": "Shared", "specifyipranges": "true"}, 431),
        ({"guestiptype": "Shared", "supportedservices": "Dhcp,Dns"}, 431),
        ({"specifyvlan": "true"}, 432),
        ({"forvpc": "true"}, 432),
        ({"supportedservices": "Dhcp,Teleport"}, 431),
        ({"supportedservices": "Dhcp,StaticNat"}, 431),
        ({"serviceproviderlist[0].service": "Dhcp", "serviceproviderlist[0].provider": "Acme"}, 431),
        ({"serviceproviderlist[0].service": "StaticNat", "serviceproviderlist[0].provider": "VirtualRouter"}, 431),
        ({"serviceproviderlist[0].service": "Dhcp"}, 430),
        ({"name": "DefaultIsolatedNetworkOfferingWithSourceNatService"}, 431),
        ({"serviceofferingid": "x"}, 431),
    ],
)
def test_bad_network_offerings(admin: Caller, change: dict[str, str], code: int) -> None:
    assert admin.error("createNetworkOffering", **(OFFERING | change))["errorcode"] == code
    assert admin("listNetworkOfferings")["count"] == 5


def test_templates(admin: Caller, runtime: FakeRuntime) -> None:
    bob = _bob(admin, runtime)
    for caller in (admin, bob):
        names = [row["name"] for row in caller("listTemplates", templatefilter="executable")["template"]]
        assert names == ["builtin", "bare"]
        assert caller("listTemplates", templatefilter="self") == {}
    [row] = admin("listTemplates", templatefilter="all", name="builtin")["template"]
    assert (row["hypervisor"], row["format"], row["passwordenabled"], row["sshkeyenabled"], row["isready"]) == (
        *("Namespace", "DIR"),
        *(True, True, True),
    )
    assert row["ostypename"] == admin("listOsTypes", id=row["ostypeid"])["ostype"][0]["description"]
    assert bob.error("listTemplates", templatefilter="all")["errorcode"] == 531
    assert admin.error("listTemplates")["errorcode"] == 431
    assert admin.error("listTemplates", templatefilter="mine")["errorcode"] == 431


def _bob(admin: Caller, runtime: FakeRuntime) -> Caller:
    user = admin("createAccount", username="bob", **PERSON)["account"]["user"][0]
    return caller_for(runtime, admin.http, user["id"])


def test_events(admin: Caller, runtime: FakeRuntime) -> None:
    bob = _bob(admin, runtime)
    first, *_ = admin("listEvents")["event"]
    assert (first["type"], first["level"], first["state"], first["username"]) == (
        *("ACCOUNT.CREATE", "INFO"),
        *("Completed", "admin"),
    )
    assert bob("listEvents", listall=True) == {}
    assert bob.error("archiveEvents", ids=[first["id"]])["errorcode"] == 531
    assert admin.error("archiveEvents")["errorcode"] == 431
    assert admin("archiveEvents", ids=[first["id"]]) == {"success": "true"}
    assert admin("listEvents") == {}
    assert admin("listEvents", archived=True)["event"][0]["archived"] is True
    assert admin("listEvents", archived=True, enddate="2001-01-01") == {}
    assert admin("deleteEvents", type="account.create") == {"success": "true"}
    assert admin("listEvents", archived=True) == {}


def test_settings(admin: Caller) -> None:
    name = "max.account.networks"
    assert admin("listConfigurations", name=name)["configuration"][0]["value"] == "20"
    changed = admin("updateConfiguration", name=name, value=" 7 ")["configuration"]
    assert (changed["value"], changed["defaultvalue"]) == ("7", "20")
    account = admin("listAccounts")["account"][0]["id"]
    scoped = admin("updateConfiguration", name=name, value=-1, accountid=account)["configuration"]
    assert (scoped["value"], scoped["scope"]) == ("-1", "account")
    assert admin("listConfigurations", name=name)["configuration"][0]["value"] == "7"
    zone = admin("listZones")["zone"][0]["id"]
    for bad in (
        {"name": "no.such.setting", "value": "1"},
        {"name": name, "value": "many"},
        {"name": name, "value": "-2"},
        {"name": name, "value": "9" * 400},
        {"name": name, "value": "1", "zoneid": zone},
        {"name": name, "value": "1", "zoneid": zone, "accountid": account},
    ):
        assert admin.error("updateConfiguration", **bad)["errorcode"] == 431
    assert admin("listConfigurations", name=name)["configuration"][0]["value"] == "7"


def test_limits(admin: Caller, runtime: FakeRuntime) -> None:
    bob = _bob(admin, runtime)
    domain = bob("listAccounts")["account"][0]["domainid"]
    admin("updateResourceLimit", resourcetype=1, account="bob", domainid=domain, max=3)
    limits = {row["resourcetypename"]: row["max"] for row in bob("listResourceLimits")["resourcelimit"]}
    assert limits["public_ip"] == 3 and limits["user_vm"] == limits["network"] == limits["volume"] == 20
    assert bob("listAccounts")["account"][0]["iplimit"] == "3"


def test_tags(admin: Caller, runtime: FakeRuntime) -> None:
    template = admin("listTemplates", templatefilter="featured", name="bare")["template"][0]["id"]
    what = {"resourceids": [template], "resourcetype": "template"}
    tags = {"tags[0].key": "colour", "tags[0].value": "blue", "tags[1].key": "size", "tags[1].value": "l"}
    job = admin("queryAsyncJobResult", jobid=admin("createTags", **what, **tags)["jobid"])
    assert (job["jobstatus"], job["jobresultcode"], job["jobresult"]) == (1, 0, {"success": True})
    [shown] = admin("listTemplates", templatefilter="featured", **{"tags[0].key": "size", "tags[0].value": "l"})[
        "template"
    ]
    assert [(tag["key"], tag["value"]) for tag in shown["tags"]] == [("colour", "blue"), ("size", "l")]
    assert admin.error("createTags", **what, **tags)["errorcode"] == 431
    assert admin("listTags", listall=True, key="size")["tag"][0]["resourceid"] == template
    assert admin("listTags", listall=True)["count"] == 2
    admin("deleteTags", **what, **{"tags[0].key": "size", "tags[0].value": "other"})
    admin("deleteTags", **what, **{"tags[0].key": "colour"})
    assert [tag["key"] for tag in admin("listTags", listall=True)["tag"]] == ["size"]
    admin("deleteTags", **what)
    assert admin("listTags", listall=True) == {}


def test_tags_of_a_public_template_are_its_owners(admin: Caller, runtime: FakeRuntime) -> None:
    template = admin("listTemplates", templatefilter="featured", name="bare")["template"][0]["id"]
    what = {"resourceids": template, "resourcetype": "Template"}
    admin("createTags", **what, **{"tags[0].key": "a", "tags[0].value": "b"})
    bob = _bob(admin, runtime)
    for command in ("createTags", "deleteTags"):
        assert bob.error(command, **what, **{"tags[0].key": "a", "tags[0].value": "b"})["errorcode"] == 531
    assert admin("listTags", listall=True)["count"] == 1


def test_tags_of_others(admin: Caller, runtime: FakeRuntime) -> None:
    with runtime.database.transaction() as session:
        template = session.query(Template).filter_by(name="bare").one()
        template.is_public = False
        template_id = template.id
    error = _bob(admin, runtime).error(
        "createTags", resourceids=template_id, resourcetype="Template", **{"tags[0].key": "a", "tags[0].value": "b"}
    )
    assert error["errorcode"] == 531


def test_jobs(admin: Caller, runtime: FakeRuntime) -> None:
    zone = admin("listZones")["zone"][0]["id"]
    answer = admin("createPhysicalNetwork", name="p2", zoneid=zone, tags=["a", "b"])
    assert set(answer) == {"id", "jobid"}
    job = admin("queryAsyncJobResult", jobid=answer["jobid"])
    assert (job["cmd"], job["jobresulttype"], job["jobinstanceid"]) == ("createPhysicalNetwork", "object", answer["id"])
    assert job["jobresult"]["physicalnetwork"]["tags"] == "a,b"
    assert admin("listAsyncJobs")["asyncjobs"] == [job]
    bob = _bob(admin, runtime)
    assert bob("listAsyncJobs", listall=True) == {}
    assert bob.error("queryAsyncJobResult", jobid=answer["jobid"])["errorcode"] == 531
    states = [row["state"] for row in admin("listEvents", type="PHYSICAL.NETWORK.CREATE")["event"]]
    assert sorted(states) == ["Completed", "Scheduled"]
    admin("deletePhysicalNetwork", id=answer["id"])
