"""Usage records and traffic through the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from appliance.schema.traffic import Counter, Traffic
from controlplane.store.models import UsageSpan, now
from controlplane.usage import traffic
from tests.acting import ActingRuntime, Tenant

TODAY = {"startdate": f"{now() - timedelta(days=2):%Y-%m-%d}", "enddate": f"{now() + timedelta(days=1):%Y-%m-%d}"}


pytestmark = pytest.mark.usefixtures("noon")


def an_hour_ago(acting: ActingRuntime) -> None:
    """Whatever is there has been there for an hour."""
    with acting.database.transaction() as session:
        session.execute(update(UsageSpan).values(begin=now() - timedelta(hours=1)))


def count(acting: ActingRuntime, id: str, received: int, sent: int, *, kind: str = "public") -> None:
    counter = {"id": id, "kind": kind, "address": "203.0.113.10", "received": received, "sent": sent}
    told = Traffic(epoch="a", taken=datetime.now(UTC).timestamp(), counters=(Counter.model_validate(counter),))
    with acting.database.transaction() as session:
        traffic.take(session, "router-1", told)


def test_types(bob: Tenant) -> None:
    found = bob.call("listUsageTypes")["usagetype"]
    assert [item["usagetypeid"] for item in found] == list(range(1, 15))
    assert found[3]["description"] == "Network Usage (Bytes Sent)"


def test_records_of_a_tenant(bob: Tenant, acting: ActingRuntime, tenant: Tenant, noon: str) -> None:
    network = bob.network()
    vm = bob.vm(networkids=network["id"])
    address = bob.address(network["id"])
    an_hour_ago(acting)
    count(acting, address["id"], 1000, 2000)
    assert bob.call("listUsageRecords", **TODAY) == {}
    assert bob.call.error("generateUsageRecords", **TODAY)["errorcode"] in (401, 432, 531)
    assert tenant.call("generateUsageRecords", **TODAY) == {"success": "true"}
    records = {item["usagetype"]: item for item in bob.call("listUsageRecords", **TODAY)["usagerecord"]}
    running = records[1]
    assert (running["virtualmachineid"], running["usageid"], running["name"]) == (vm["id"], vm["id"], vm["name"])
    assert float(running["rawusage"]) == pytest.approx(1, rel=0.02)
    assert running["usage"].endswith(" Hrs")
    assert (running["offeringid"], running["templateid"]) == (vm["serviceofferingid"], vm["templateid"])
    assert running["startdate"].endswith(noon)
    assert (records[4]["rawusage"], records[4]["usage"]) == ("2000", "2000 bytes sent")
    assert (records[5]["rawusage"], records[5]["networkid"]) == ("1000", network["id"])
    assert {1, 2, 3, 4, 5, 13} <= records.keys()
    for name, kind in {"usagetype": int, "rawusage": str, "usage": str, "accountid": str, "startdate": str}.items():
        assert all(type(item[name]) is kind for item in records.values()), name
    # what was told is not told again
    tenant.call("generateUsageRecords")
    again = bob.call("listUsageRecords", **TODAY)["usagerecord"]
    assert sum(float(item["rawusage"]) for item in again if item["usagetype"] == 1) == pytest.approx(1, rel=0.02)
    assert sum(int(item["rawusage"]) for item in again if item["usagetype"] == 4) == 2000


def test_records_are_found_by_type_resource_and_owner(bob: Tenant, acting: ActingRuntime, tenant: Tenant) -> None:
    vm = bob.vm(networkids=bob.network()["id"])
    an_hour_ago(acting)
    tenant.call("generateUsageRecords")
    [one] = bob.call("listUsageRecords", type=1, usageid=vm["id"], **TODAY)["usagerecord"]
    # administrators see everybody's
    assert one in tenant.call("listUsageRecords", type=1, **TODAY)["usagerecord"]
    assert tenant.call("listUsageRecords", type=1, accountid=one["accountid"], **TODAY)["count"] == 1
    past = {"startdate": "2020-01-01", "enddate": "2020-01-02"}
    assert bob.call("listUsageRecords", **past) == {}
    assert "listUsageTypes" in bob.call.error("listUsageRecords", type=99, **TODAY)["errortext"]
    backwards = {"startdate": "2020-01-03", "enddate": "2020-01-01"}
    assert "enddate" in bob.call.error("listUsageRecords", **backwards)["errortext"]
    assert "startdate" in bob.call.error("listUsageRecords", enddate="2020-01-01")["errortext"]
    tenant.call("removeRawUsageRecords", interval=1)
    assert bob.call("listUsageRecords", **TODAY)["count"] > 0


def test_history_for_charts(bob: Tenant, acting: ActingRuntime) -> None:
    network = bob.network()
    vm = bob.vm(networkids=network["id"])
    address = bob.address(network["id"])
    for received, sent in ((1000, 10), (5000, 10), (9000, 50)):
        count(acting, vm["nic"][0]["id"], received, sent, kind="guest")
    count(acting, address["id"], 7, 8)
    found = bob.call("listTrafficHistory", virtualmachineid=vm["id"])["traffic"]
    assert [(item["bytesreceived"], item["bytessent"]) for item in found] == [(1000, 10), (4000, 0), (4000, 40)]
    assert found[0]["resourcetype"] == "Nic"
    [public] = bob.call("listTrafficHistory", ipaddressid=address["id"])["traffic"]
    assert (public["bytessent"], public["networkid"]) == (8, network["id"])
    assert bob.call("listTrafficHistory", networkid=network["id"])["count"] == 1
    [history] = bob.call("listVirtualMachinesUsageHistory", id=vm["id"])["virtualmachine"]
    assert [(item["networkread"], item["networkkbsread"]) for item in history["stats"]] == [
        (1000, 0),
        (4000, 3),
        (4000, 3),
    ]
    assert bob.call("listTrafficHistory", virtualmachineid=vm["id"], enddate="2020-01-01") == {}
    assert "give one of" in bob.call.error("listTrafficHistory")["errortext"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("usage.aggregation.timezone", "Nowhere/Land", "no time zone"),
        ("usage.stats.job.exec.time", "25:00", "a time of day"),
        ("usage.stats.job.aggregation.range", "0", "from 1 to 1440"),
    ],
)
def test_settings_are_checked(tenant: Tenant, name: str, value: str, text: str) -> None:
    assert text in tenant.call.error("updateConfiguration", name=name, value=value)["errortext"]


def test_rates_follow_settings_at_once(bob: Tenant, tenant: Tenant, acting: ActingRuntime) -> None:
    bob.vm(networkids=bob.network()["id"])
    before = len(acting.woken)
    tenant.call("updateConfiguration", name="network.throttling.rate", value="50")
    assert acting.hurried == ["rates"]
    assert len(acting.woken) == before + 1


def test_another_service_offering(bob: Tenant, tenant: Tenant, acting: ActingRuntime) -> None:
    vm = bob.vm(networkids=bob.network()["id"])
    [small] = tenant.call("listServiceOfferings", id=vm["serviceofferingid"])["serviceoffering"]
    common = {"displaytext": "x", "cpunumber": small["cpunumber"], "cpuspeed": 500}
    made = [
        tenant.call("createServiceOffering", name=f"o{memory}", memory=memory, networkrate=30, **common)
        for memory in (small["memory"], 2 * small["memory"])
    ]
    same, larger = (item["serviceoffering"]["id"] for item in made)
    assert "stop VM" in bob.call.error("scaleVirtualMachine", id=vm["id"], serviceofferingid=larger)["errortext"]
    refused = bob.call.error("changeServiceForVirtualMachine", id=vm["id"], serviceofferingid=same)
    assert "must be Stopped" in refused["errortext"]
    assert bob.call("listVirtualMachines", id=vm["id"])["virtualmachine"][0]["serviceofferingid"] == small["id"]
    bob.run("scaleVirtualMachine", id=vm["id"], serviceofferingid=same)
    assert acting.hurried[-1] == "rates"
    bob.run("stopVirtualMachine", id=vm["id"])
    changed = bob.call("changeServiceForVirtualMachine", id=vm["id"], serviceofferingid=larger)["virtualmachine"]
    assert (changed["serviceofferingid"], changed["memory"]) == (larger, 2 * small["memory"])
