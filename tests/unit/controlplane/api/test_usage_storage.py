"""Usage records of what is stored: volumes, templates, ISOs and snapshots."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from controlplane.store.models import Template, UsageSpan, now
from tests.acting import ActingRuntime, Tenant
from tests.unit.controlplane.api.test_templates import URL

TODAY = {"startdate": f"{now() - timedelta(days=2):%Y-%m-%d}", "enddate": f"{now() + timedelta(days=1):%Y-%m-%d}"}
VOLUME, TEMPLATE, ISO, SNAPSHOT = 6, 7, 8, 9
GIB = 1 << 30


pytestmark = pytest.mark.usefixtures("noon")


def _records(tenant: Tenant, acting: ActingRuntime, kind: int) -> list[dict[str, Any]]:
    """What an hour of what lasts now comes to."""
    with acting.database.transaction() as session:
        lasting = update(UsageSpan).where(UsageSpan.end.is_(None))
        session.execute(lasting.values(begin=now() - timedelta(hours=1)))
    tenant.call("generateUsageRecords")
    found: list[dict[str, Any]] = tenant.call("listUsageRecords", type=kind, **TODAY).get("usagerecord", [])
    return found


def _volume(tenant: Tenant, size: int) -> dict[str, Any]:
    offering = tenant.call("createDiskOffering", name="o", displaytext="o", customized=True)["diskoffering"]["id"]
    made: dict[str, Any] = tenant.run(
        "createVolume", name="data", zoneid=tenant.zone, diskofferingid=offering, size=size
    )
    return made


def test_a_volume_counts_with_its_size_until_it_is_destroyed(tenant: Tenant, acting: ActingRuntime) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    volume = _volume(tenant, 2)
    tenant.run("attachVolume", id=volume["id"], virtualmachineid=vm["id"])
    [record] = [one for one in _records(tenant, acting, VOLUME) if one["usageid"] == volume["id"]]
    assert (record["size"], record["name"], record["offeringid"]) == (2 * GIB, "data", volume["diskofferingid"])
    assert record["description"] == f"Volume: data (size: {2 * GIB})"
    tenant.run("resizeVolume", id=volume["id"], size=4)
    sizes = {one["size"] for one in _records(tenant, acting, VOLUME) if one["usageid"] == volume["id"]}
    assert sizes == {2 * GIB, 4 * GIB}
    tenant.run("detachVolume", id=volume["id"])
    tenant.run("destroyVolume", id=volume["id"])
    before = len(tenant.call("listUsageRecords", type=VOLUME, usageid=volume["id"], **TODAY)["usagerecord"])
    _records(tenant, acting, VOLUME)
    after = tenant.call("listUsageRecords", type=VOLUME, usageid=volume["id"], **TODAY)["usagerecord"]
    assert sum(float(one["rawusage"]) for one in after[before:]) < 0.01


def test_a_snapshot_counts_until_it_is_deleted(tenant: Tenant, acting: ActingRuntime) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    volume = _volume(tenant, 2)
    tenant.run("attachVolume", id=volume["id"], virtualmachineid=vm["id"])
    snapshot = tenant.run("createSnapshot", volumeid=volume["id"], name="before")
    [record] = _records(tenant, acting, SNAPSHOT)
    assert float(record["rawusage"]) == pytest.approx(1, rel=0.02)
    assert (record["usageid"], record["name"], record["virtualsize"]) == (snapshot["id"], "before", 2 * GIB)
    tenant.run("deleteSnapshot", id=snapshot["id"])
    with acting.database.reading() as session:
        assert not session.query(UsageSpan).filter_by(usage_type=SNAPSHOT, end=None).count()


@pytest.mark.parametrize(
    ("command", "kind", "format"), [("registerTemplate", TEMPLATE, "QCOW2"), ("registerIso", ISO, "")]
)
def test_an_image_counts_from_when_it_is_there(
    tenant: Tenant, acting: ActingRuntime, command: str, kind: int, format: str
) -> None:
    tenant.call("addImageStore", provider="Local", name="primary", zoneid=tenant.zone)
    given = {"format": format, "hypervisor": "KVM"} if format else {"bootable": False}
    url = URL if format else URL.replace(".qcow2", ".iso")
    answer = tenant.call(command, name="small", displaytext="t", url=url, zoneid=tenant.zone, **given)
    [made] = answer["template" if format else "iso"]
    # nothing is stored before it has been downloaded
    assert _records(tenant, acting, kind) == []
    with acting.database.transaction() as session:
        session.get_one(Template, made["id"]).size = 3 * GIB
    [record] = _records(tenant, acting, kind)
    assert (record["usageid"], record["size"], record["name"]) == (made["id"], 3 * GIB, "small")
