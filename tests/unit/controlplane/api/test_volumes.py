"""Volumes, snapshots, their policies and storage pools through the API, on rows alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from controlplane.store.models import Snapshot, Volume
from tests.acting import ActingRuntime, Tenant
from tests.unit.controlplane.fleet import FakeHypervisor


def _offering(tenant: Tenant, **params: object) -> str:
    made = tenant.call("createDiskOffering", **({"name": "o", "displaytext": "o"} | params))
    id: str = made["diskoffering"]["id"]
    return id


def _volume(tenant: Tenant, **params: object) -> dict[str, Any]:
    params = {"name": "data", "zoneid": tenant.zone} | params
    if "diskofferingid" not in params and "snapshotid" not in params:
        params["diskofferingid"] = _offering(tenant, customized=True)
        params["size"] = params.get("size", 2)
    made: dict[str, Any] = tenant.run("createVolume", **params)
    return made


def _refused(tenant: Tenant, command: str, code: int, says: str, **params: object) -> None:
    error = tenant.call.error(command, **params)
    assert error["errorcode"] == code and says in error["errortext"], error


def _listed(tenant: Tenant, **params: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tenant.call("listVolumes", **params).get("volume", [])
    return found


def test_a_vm_has_a_root_volume_from_its_creation_to_its_end(tenant: Tenant) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    [root] = _listed(tenant, virtualmachineid=vm["id"])
    assert (root["type"], root["state"], root["deviceid"], root["vmname"]) == ("ROOT", "Ready", 0, vm["name"])
    assert root["templatename"] == vm["templatename"] and root["storage"] == "primary"
    _refused(tenant, "detachVolume", 431, "stays with its virtual machine", id=root["id"])
    _refused(tenant, "deleteVolume", 431, "goes with its virtual machine", id=root["id"])
    tenant.run("destroyVirtualMachine", id=vm["id"])
    assert _listed(tenant, id=root["id"])[0]["state"] == "Destroy"
    tenant.call("recoverVirtualMachine", id=vm["id"])
    assert _listed(tenant, id=root["id"])[0]["state"] == "Ready"
    tenant.run("destroyVirtualMachine", id=vm["id"], expunge="true")
    assert _listed(tenant) == []


def test_deploying_with_a_data_volume(tenant: Tenant) -> None:
    network = tenant.network()["id"]
    vm = tenant.vm(networkids=network, diskofferingid=_offering(tenant, customized=True), size=7, rootdisksize=20)
    root, data = _listed(tenant, virtualmachineid=vm["id"])
    assert (root["size"], data["size"], data["deviceid"], data["type"]) == (20 << 30, 7 << 30, 1, "DATADISK")
    asked = {"zoneid": tenant.zone, "templateid": tenant.template, "serviceofferingid": tenant.size}
    _refused(tenant, "deployVirtualMachine", 431, "size: it is of the volume", networkids=network, size=3, **asked)


def test_a_volume_from_its_creation_to_its_end(tenant: Tenant, acting: ActingRuntime) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    volume = _volume(tenant)
    assert (volume["state"], volume["size"]) == ("Allocated", 2 << 30)
    attached = tenant.run("attachVolume", id=volume["id"], virtualmachineid=vm["id"])
    assert (attached["state"], attached["deviceid"], attached["vmname"]) == ("Ready", 1, vm["name"])
    _refused(tenant, "attachVolume", 431, "attached already", id=volume["id"], virtualmachineid=vm["id"])
    _refused(tenant, "deleteVolume", 536, "detach it first", id=volume["id"])
    assert tenant.run("resizeVolume", id=volume["id"], size=4)["size"] == 4 << 30
    _refused(tenant, "resizeVolume", 431, "shrinkok=true", id=volume["id"], size=1)
    _refused(tenant, "resizeVolume", 431, "stop virtual machine", id=volume["id"], size=1, shrinkok="true")
    by_number = tenant.run("detachVolume", virtualmachineid=vm["id"], deviceid=1)
    assert by_number["id"] == volume["id"] and "virtualmachineid" not in by_number
    assert tenant.run("updateVolume", id=volume["id"], name="renamed")["name"] == "renamed"
    assert tenant.run("destroyVolume", id=volume["id"])["state"] == "Destroy"
    assert tenant.call("recoverVolume", id=volume["id"])["volume"]["state"] == "Ready"
    assert tenant.call("deleteVolume", id=volume["id"]) == {"success": "true"}
    # its file may be large: housekeeping removes it
    assert acting.hurried[-1] == "expunge.interval"
    types = {type for type, _ in tenant.events()}
    assert types >= {
        f"VOLUME.{word}" for word in ("CREATE", "ATTACH", "DETACH", "RESIZE", "UPDATE", "DESTROY", "DELETE")
    }


def test_numbers_of_volumes_in_a_vm(tenant: Tenant) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])["id"]
    numbers = []
    for asked in (None, 5, None, None, None):
        given = {} if asked is None else {"deviceid": asked}
        made = tenant.run("attachVolume", id=_volume(tenant)["id"], virtualmachineid=vm, **given)
        numbers.append(made["deviceid"])
    # 3 is a CD drive's
    assert numbers == [1, 5, 2, 4, 6]
    last = _volume(tenant)["id"]
    _refused(tenant, "attachVolume", 431, "number 5", id=last, virtualmachineid=vm, deviceid=5)
    _refused(tenant, "attachVolume", 431, "3 cannot be", id=last, virtualmachineid=vm, deviceid=3)
    tenant.run("attachVolume", id=last, virtualmachineid=vm)
    _refused(tenant, "attachVolume", 431, "may have no more", id=_volume(tenant)["id"], virtualmachineid=vm)


def test_sizes_are_the_offerings(tenant: Tenant) -> None:
    fixed = _offering(tenant, disksize=5)
    assert _volume(tenant, diskofferingid=fixed)["size"] == 5 << 30
    _refused(tenant, "createVolume", 431, "leave size out", name="x", zoneid=tenant.zone, diskofferingid=fixed, size=9)
    custom = _offering(tenant, customized="true")
    _refused(tenant, "createVolume", 431, "say how many", name="x", zoneid=tenant.zone, diskofferingid=custom)
    _refused(tenant, "createVolume", 431, "1 to 2000", name="x", zoneid=tenant.zone, diskofferingid=custom, size=2001)
    _refused(tenant, "createDiskOffering", 431, "disksize", name="x", displaytext="x")
    ssd = _offering(tenant, disksize=9, tags="ssd")
    _refused(tenant, "resizeVolume", 431, "other tags", id=_volume(tenant)["id"], diskofferingid=ssd)


def test_limits_of_volumes(tenant: Tenant, bob: Tenant) -> None:
    offering = _offering(tenant, customized=True)
    bob.limit("bob", "max.account.primary.storage", 5)
    one = _volume(bob, diskofferingid=offering, size=3)
    _refused(
        bob,
        "createVolume",
        532,
        "max.account.primary.storage",
        name="x",
        zoneid=bob.zone,
        diskofferingid=offering,
        size=3,
    )
    _refused(bob, "resizeVolume", 532, "primary.storage", id=one["id"], size=6)
    bob.limit("bob", "max.account.volumes", 1)
    _refused(
        bob, "createVolume", 532, "max.account.volumes", name="x", zoneid=bob.zone, diskofferingid=offering, size=1
    )
    [account] = bob.call("listAccounts")["account"]
    assert (account["volumetotal"], account["volumelimit"], account["volumeavailable"]) == (1, "1", "0")


def test_nobody_has_a_say_in_another_accounts_volumes(tenant: Tenant, bob: Tenant) -> None:
    volume = _volume(tenant)["id"]
    assert _listed(bob) == [] and _listed(bob, listall="true") == []
    for command, params in (
        ("attachVolume", {"virtualmachineid": volume}),
        ("deleteVolume", {}),
        ("resizeVolume", {"size": 3}),
    ):
        _refused(bob, command, 531, "permission", id=volume, **params)
    _refused(bob, "createSnapshot", 531, "permission", volumeid=volume)
    vm = bob.vm(networkids=bob.network()["id"])
    assert "storage" not in _listed(bob, virtualmachineid=vm["id"])[0]


def test_a_snapshot_from_its_creation_to_its_end(tenant: Tenant) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    volume = _volume(tenant)
    _refused(tenant, "createSnapshot", 431, "nowhere yet", volumeid=volume["id"])
    tenant.run("attachVolume", id=volume["id"], virtualmachineid=vm["id"])
    snapshot = tenant.run("createSnapshot", volumeid=volume["id"], name="before")
    assert (snapshot["state"], snapshot["snapshottype"], snapshot["volumename"]) == ("BackedUp", "MANUAL", "data")
    assert snapshot["locationtype"] == "PRIMARY" and snapshot["virtualsize"] == 2 << 30
    tenant.call(
        "createTags", resourcetype="Snapshot", resourceids=snapshot["id"], **{"tags[0].key": "a", "tags[0].value": "b"}
    )
    [found] = tenant.call("listSnapshots", volumeid=volume["id"])["snapshot"]
    assert found["tags"][0]["key"] == "a"
    _refused(tenant, "revertSnapshot", 431, "stop virtual machine", id=snapshot["id"])
    tenant.run("stopVirtualMachine", id=vm["id"])
    tenant.run("revertSnapshot", id=snapshot["id"])
    again = _volume(tenant, name="again", snapshotid=snapshot["id"])
    assert (again["state"], again["size"], again["snapshotid"]) == ("Ready", 2 << 30, snapshot["id"])
    _refused(tenant, "createVolume", 431, "cannot have less", name="x", snapshotid=snapshot["id"], size=1)
    tenant.run("deleteSnapshot", id=snapshot["id"])
    assert tenant.call("listSnapshots") == {}


def test_no_two_things_are_done_to_a_volume_at_once(tenant: Tenant, acting: ActingRuntime) -> None:
    vm = tenant.vm(networkids=tenant.network()["id"])
    [root] = _listed(tenant, virtualmachineid=vm["id"])
    with acting.database.transaction() as session:
        volume = session.get_one(Volume, root["id"])
        volume.path = "volumes/x.qcow2"
        session.add(
            Snapshot(
                name="s", account_id=volume.account_id, zone_id=volume.zone_id, volume_id=volume.id, volume_type="ROOT"
            )
        )
    _refused(tenant, "createSnapshot", 536, "a snapshot of it is being made", volumeid=root["id"])
    _refused(tenant, "resizeVolume", 536, "a snapshot of it is being made", id=root["id"], size=9)
    with acting.database.transaction() as session:
        session.get_one(Volume, root["id"]).state = "Migrating"
    _refused(tenant, "createSnapshot", 431, "it is Migrating", volumeid=root["id"])


def test_policies(tenant: Tenant) -> None:
    volume = _volume(tenant)["id"]
    asked = {"volumeid": volume, "timezone": "Europe/Berlin", "maxsnaps": 4}
    made = tenant.call("createSnapshotPolicy", intervaltype="weekly", schedule="30:2:1", **asked)["snapshotpolicy"]
    assert (made["intervaltype"], made["schedule"], made["timezone"], made["maxsnaps"]) == (
        2,
        "30:2:1",
        "Europe/Berlin",
        4,
    )
    # a Sunday
    assert datetime.fromisoformat(made["nextrun"]).strftime("%w") in ("0", "6")
    # one of each interval: the second changes the first
    again = tenant.call("createSnapshotPolicy", intervaltype="WEEKLY", schedule="0:3:2", **asked)["snapshotpolicy"]
    assert again["id"] == made["id"]
    tenant.call("createSnapshotPolicy", intervaltype="HOURLY", schedule="5", **asked)
    found = tenant.call("listSnapshotPolicies", volumeid=volume)["snapshotpolicy"]
    assert [row["schedule"] for row in found] == ["0:3:2", "5"]
    assert tenant.call("updateSnapshotPolicy", id=made["id"], maxsnaps=2)["snapshotpolicy"]["maxsnaps"] == 2
    for says, wrong in (
        ("schedule: the hour is 24", {"schedule": "0:24"}),
        ("timezone: there is no time zone", {"timezone": "Mars/Base"}),
        ("maxsnaps: 9 daily snapshots cannot be kept, snapshot.max.daily is 8", {"maxsnaps": 9}),
    ):
        given = {**asked, "intervaltype": "DAILY", "schedule": "0:2"} | wrong
        _refused(tenant, "createSnapshotPolicy", 431, says, **given)
    tenant.call("deleteSnapshotPolicies", ids=",".join(row["id"] for row in found))
    assert tenant.call("listSnapshotPolicies", volumeid=volume) == {}
    assert {"SNAPSHOTPOLICY.CREATE", "SNAPSHOTPOLICY.UPDATE", "SNAPSHOTPOLICY.DELETE"} <= {
        t for t, _ in tenant.events()
    }


def test_storage_pools(tenant: Tenant, acting: ActingRuntime, tmp_path: Path) -> None:
    acting.double = FakeHypervisor()
    [own] = tenant.call("listStoragePools")["storagepool"]
    assert (own["name"], own["path"], own["state"]) == ("primary", "/pool", "Up")
    _refused(tenant, "deleteStoragePool", 431, "the hypervisor's own", id=own["id"])
    asked = {"name": "second", "zoneid": tenant.zone}
    for url in ("nfs://10.0.0.1/x", "file://host/x", "file:relative", "file:///a/../etc", "file:///", "/srv/x"):
        _refused(tenant, "createStoragePool", 431, "url:", url=url, **asked)
    pool = tenant.call("createStoragePool", url="file:///srv/pool%202", tags="ssd", **asked)["storagepool"]
    assert (pool["path"], pool["tags"], pool["disksizetotal"]) == ("/srv/pool 2", "ssd", 100 << 30)
    _refused(tenant, "createStoragePool", 431, "already", url="file:///srv/pool%202", **asked)
    vm = tenant.vm(networkids=tenant.network()["id"])
    volume = tenant.run("attachVolume", id=_volume(tenant)["id"], virtualmachineid=vm["id"])
    where = {"volumeid": volume["id"], "storageid": pool["id"]}
    if volume["storageid"] == pool["id"]:
        where["storageid"] = own["id"]
    _refused(tenant, "migrateVolume", 431, "stop virtual machine", **where)
    tenant.run("stopVirtualMachine", id=vm["id"])
    assert tenant.run("migrateVolume", **where)["storageid"] == where["storageid"]
    _refused(tenant, "migrateVolume", 431, "already", **where)
    used = [row for row in tenant.call("listStoragePools")["storagepool"] if row["id"] == where["storageid"]]
    assert used[0]["disksizeallocated"] >= 2 << 30
    off = tenant.call("updateStoragePool", id=pool["id"], enabled="false")["storagepool"]
    assert off["state"] == "Disabled"
    assert tenant.run("enableStorageMaintenance", id=own["id"])["state"] == "Maintenance"
    _refused(tenant, "enableStorageMaintenance", 431, "is Maintenance", id=own["id"])
    assert tenant.run("cancelStorageMaintenance", id=own["id"])["state"] == "Up"
    promised = {row["type"]: row for row in tenant.call("listCapacity")["capacity"]}[3]
    assert promised["capacityallocated"] >= 2 << 30


def test_users_see_no_pools_and_make_no_offerings(bob: Tenant) -> None:
    for command in ("listStoragePools", "createDiskOffering", "migrateVolume"):
        _refused(bob, command, 432, "not available")


def test_what_goes_to_secondary_storage_needs_some(tenant: Tenant) -> None:
    says = "has no secondary storage"
    asked = {"name": "up", "zoneid": tenant.zone, "format": "QCOW2"}
    _refused(tenant, "uploadVolume", 431, says, url="https://198.51.100.1/x.qcow2", **asked)
    _refused(tenant, "uploadVolume", 431, "FTP", url="ftp://198.51.100.1/x.qcow2", **asked)
    vm = tenant.vm(networkids=tenant.network()["id"])
    volume = tenant.run("attachVolume", id=_volume(tenant)["id"], virtualmachineid=vm["id"])["id"]
    snapshot = tenant.run("createSnapshot", volumeid=volume)["id"]
    _refused(tenant, "createTemplate", 431, says, name="t", displaytext="t", snapshotid=snapshot)
    _refused(tenant, "createTemplate", 431, "stop virtual machine", name="t", displaytext="t", volumeid=volume)
    _refused(tenant, "createTemplate", 431, "snapshotid: give", name="t", displaytext="t")
    _refused(tenant, "extractVolume", 431, "stop virtual machine", id=volume, zoneid=tenant.zone, mode="HTTP_DOWNLOAD")
